"""Mistakes in flags and files, found before TensorFlow is imported and models are loaded."""
import errno
import os
import re
import socket
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path

from other_engines import LITERT
from serving import text_proto
from serving.config import Flags, Model, check_platforms, read_models, tags_of
from serving.engines.wanted import engines_wanted
from serving.errors import SIGNING_PACKAGES, Code, ServingError, invalid
from serving.remote_path import RemotePath
from serving.saved_model_file import read_meta_graph
from serving.version_files import Failure, unservable
from user_error import UserError

# A day: longer than any request, and a time that every timer can take.
_LONGEST_DRAIN_S = 86_400
# What sun_path holds on Linux, without the byte that ends it.
_MAX_SOCKET_PATH = 107
# The options of gRPC that are numbers are 32-bit.
_NUMBER = re.compile("-?[0-9]+")
_FILES = ("monitoring_config_file", "thread_pool_factory_config_file", "platform_config_file", "ssl_config_file",
          "rest_api_ssl_config_file", "batching_parameters_file", "tensorflow_session_config_file")


def check(flags: Flags) -> list[Model]:  # decision 33
    """The models to serve. Raises ServingError if flags or files show that the server cannot start."""
    if not flags.port and not flags.grpc_socket_path:
        raise invalid("At least one of server_options.grpc_port or server_options.grpc_socket_path must be set.")
    if not 0 <= flags.port < 65536 or not 0 <= flags.rest_api_port < 65536:
        raise invalid("Failed to BuildAndStart gRPC server: --port and --rest_api_port take 0 to 65535")
    if flags.use_alts_credentials:
        raise invalid("Failed to BuildAndStart gRPC server: ALTS is Google Cloud's only; use --ssl_config_file")
    if flags.use_tflite_model:
        raise ServingError(Code.UNIMPLEMENTED, "--use_tflite_model: use --prefer_tflite_model, which serves the "
                           "model.tflite of a version, and its SavedModel if it has none")
    for library in filter(None, flags.tensorflow_op_libraries.split(",")):
        if not Path(library).is_file():
            raise ServingError(Code.NOT_FOUND, f"--tensorflow_op_libraries: there is no file {library}")
    for name in ("grpc_max_threads", "rest_api_num_threads", "openvino_streams"):
        if getattr(flags, name) < 1:
            raise invalid(f"--{name} must be at least 1")
    for name in ("num_load_threads", "drain_seconds", "rest_api_max_body_bytes", "tensorflow_session_parallelism",
                 "tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism"):
        if not getattr(flags, name) >= 0:
            raise invalid(f"--{name} must not be negative")
    if flags.file_system_poll_wait_seconds < 0:
        raise invalid("--file_system_poll_wait_seconds=-1 would never find a version; 0 looks once, at start")
    if flags.batching_parameters_file and not flags.enable_batching:
        raise invalid("server_options.batching_parameters_file is set without setting "
                      "server_options.enable_batching to true.")
    for name in ("port", "rest_api_port"):
        _refuse_taken(flags.bind_address, getattr(flags, name), name)
    if flags.drain_seconds > _LONGEST_DRAIN_S:
        raise invalid(f"--drain_seconds must be at most {_LONGEST_DRAIN_S}")
    _refuse_unusable_socket(flags.grpc_socket_path)
    _refuse_unwritable(flags.access_log)
    channel_arguments(flags)
    _refuse_public_page(flags)
    require = signed_only(flags)
    for name in _FILES:
        if getattr(flags, name):
            text_proto.read_text(getattr(flags, name))
    engines = engines_wanted(flags)
    models, tags = read_models(flags), tags_of(flags)
    check_platforms(models)
    # If loads are retried, a version that is broken now may be complete at the next try.
    final = flags.max_num_load_retries <= 0

    def refuse_broken(model: str, path: Path) -> None:
        if require is not None and final:
            require(model, path)
        if final and not (LITERT.name in engines.all() and (path / LITERT.file).is_file()):
            read_meta_graph(path, tags)
    failures = unservable(models, refuse_broken)
    if failures:
        raise did_not_load("servable", failures)
    return models


def _refuse_taken(host: str, port: int, flag: str) -> None:
    """Reports a port in use now, not after the models have been loaded."""
    if not port:
        return
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        reason = f"Failed to BuildAndStart gRPC server: {host}:{port}: {error.strerror}"
        # Below 0: getaddrinfo's numbers, for a name that is not known.
        if error.errno == errno.EADDRNOTAVAIL or (error.errno or 0) < 0:
            remedy = "--bind_address takes an address of this machine, such as 127.0.0.1 or 0.0.0.0"
        elif error.errno == errno.EACCES:
            remedy = f"choose a --{flag} of 1024 or more, or let the server's user take lower ones"
        else:
            remedy = f"is the port taken? Stop what uses it, or choose another --{flag}"
        raise invalid(f"{reason}; {remedy}") from None


def _refuse_unusable_socket(path: str) -> None:
    """Reports a Unix socket that cannot be made, in one line; gRPC prints two of C++ and does not name the reason."""
    if not path:
        return
    reason = ""
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
        reason = f"the path of a Unix socket has at most {_MAX_SOCKET_PATH} bytes"
    elif not Path(path).parent.is_dir():
        reason = f"there is no directory {Path(path).parent}"
    elif not os.access(Path(path).parent, os.W_OK):
        reason = f"{Path(path).parent} is not writable for the user that the server runs as"
    elif Path(path).exists() and not Path(path).is_socket():
        reason = "there is a file of that name which is no socket"
    if reason:
        raise invalid(f"Failed to BuildAndStart gRPC server: --grpc_socket_path={path}: {reason}")


def _refuse_public_page(flags: Flags) -> None:
    """The page shows who promoted what, which nobody should read on its way."""
    if not flags.enable_status_page or flags.allow_public_status_page or flags.rest_api_ssl_config_file:
        return
    try:
        private = ip_address(flags.bind_address).is_loopback
    except ValueError:
        private = flags.bind_address == "localhost"
    if not private:
        raise invalid(f"--enable_status_page: --bind_address={flags.bind_address} is reached by other machines, and "
                      "without TLS", "Set --rest_api_ssl_config_file, or --allow_public_status_page if that is meant.")


def _refuse_unwritable(access_log: str) -> None:
    if access_log in ("", "-"):
        return
    try:
        open(access_log, "a", encoding="utf-8").close()
    except OSError as error:
        raise invalid(f"--access_log={access_log}: {error.strerror}; it takes a file that can be written, or '-'"
                      ) from None


def did_not_load(kind: str, failures: Mapping[str, Failure]) -> ServingError:
    """The error for models that have no version that answers, with the original's message."""
    whole = Failure.joined(failures.values())
    return ServingError(Code.UNKNOWN, f"{len(failures)} {kind}(s) did not become available: {{{whole}, }}",
                        whole.advice)


def signed_only(flags: Flags) -> Callable[[str, Path], None] | None:
    """What raises ServingError for a version of a model that --require_signature does not allow; None if all are."""
    if not flags.require_signature:
        return None
    try:
        from serving.signing import Verifier
        verifier = Verifier.at(Path(flags.require_signature))
    except (UserError, ImportError) as error:
        raise invalid(f"--require_signature: {error}", SIGNING_PACKAGES if isinstance(error, ImportError) else ""
                      ) from None

    def require(model: str, path: Path) -> None:
        if isinstance(path, RemotePath):
            raise ServingError(Code.PERMISSION_DENIED, f"{path}: --require_signature is for versions on this machine")
        try:
            verifier.require_proven(path, model)
        except UserError as error:
            raise ServingError(Code.PERMISSION_DENIED, str(error), "Promote it with --sign.") from None
    return require


def channel_arguments(flags: Flags) -> list[tuple[str, str | int]]:
    """--grpc_channel_arguments as grpcio's options. Raises ServingError."""
    made: list[tuple[str, str | int]] = []
    for argument in filter(None, flags.grpc_channel_arguments.split(",")):
        name, equals, value = argument.partition("=")
        if not equals:
            raise invalid(f"--grpc_channel_arguments={argument}: name=value is wanted")
        number = int(value) if _NUMBER.fullmatch(value) else None
        if number is not None and not -2**31 <= number < 2**31:
            raise invalid(f"--grpc_channel_arguments={argument}: the number must have at most 32 bits")
        made.append((name, value if number is None else number))
    return made
