"""The server's flags and its models.config, as values.

`Flags` is the only table of flags: names, types and defaults are TensorFlow Serving's, the text says what a flag does
here. The parser, --help, the list of flags without effect, and the documentation are generated from it.
"""
import dataclasses
import difflib
import logging
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from serving import text_proto
from serving.errors import Code, ServingError, invalid
from serving.protos import model_server_config_pb2
from serving.remote_path import is_uri
from serving.versions import All, Latest, Policy, Specific
from user_error import UserError

log = logging.getLogger("serving")

T = TypeVar("T")
EXIT_NOT_STARTED = 255  # the original's
_CPUS = os.cpu_count() or 1
USAGE = "usage: python -m serving serve --flag=value ... Flags: python -m serving serve --help"


class NotStartedError(UserError):  # decision 80
    """The server does not start. `original`: what tensorflow_model_server prints about it."""

    def __init__(self, message: str, original: str) -> None:
        super().__init__(message)
        self.original = original


def flag(default: T, text: str, *, ours: bool = False, ignored: bool = False) -> T:
    """A row of the table. `ours`: not a flag of TensorFlow Serving; `ignored`: accepted, without effect here."""
    made: T = field(default=default, metadata={"text": text, "ours": ours, "ignored": ignored})
    return made


@dataclass(frozen=True, slots=True)
class Flags:
    """Every flag of `python -m serving serve`."""

    port: int = flag(8500, "TCP port of the gRPC API; 0: none.")
    grpc_socket_path: str = flag("", "Also serve gRPC on this Unix socket.")
    rest_api_port: int = flag(0, "TCP port of the REST API; 0: none.")
    bind_address: str = flag("127.0.0.1", "Address of both ports; 0.0.0.0: every interface.", ours=True)
    rest_api_num_threads: int = flag(4 * _CPUS, "REST requests that run at the same time.")
    rest_api_timeout_in_ms: int = flag(30000, "Time for a REST request; then it is answered with an error.")
    rest_api_enable_cors_support: bool = flag(False, "Answer browsers' cross-origin requests.")
    rest_api_max_body_bytes: int = flag(1 << 30, "Longest REST request body; a longer one is answered 413.", ours=True)
    max_request_memory_mb: int = flag(
        0, "MB running requests may take in the graph; 0: 3/4 of what is free; -1: no limit.", ours=True)
    grpc_max_threads: int = flag(4 * _CPUS, "gRPC requests that run at the same time.")
    grpc_channel_arguments: str = flag("", "gRPC server arguments: name=value,name=value.")
    enable_grpc_healthcheck_service: bool = flag(False, "Serve grpc.health.v1.Health.")
    enable_grpc_reflection: bool = flag(False, "Serve gRPC reflection, so that grpcurl can list methods.", ours=True)
    enable_status_page: bool = flag(
        False, "GET / on the REST port shows models, versions, traffic and promotions.", ours=True)
    allow_public_status_page: bool = flag(
        False, "That also without TLS on an address that other machines reach.", ours=True)
    enable_profiler: bool = flag(True, "Serve tensorflow.ProfilerService to clients on this machine.")
    model_name: str = flag("default", "Name of the model at --model_base_path.")
    model_base_path: str = flag("", "Directory of a model's version directories: absolute, or a URI.")
    model_config_file: str = flag("", "Several models: a ModelServerConfig in text form; wins over --model_base_path.")
    model_config_file_poll_wait_seconds: int = flag(0, "Seconds between reloads of --model_config_file; 0: never.")
    file_system_poll_wait_seconds: int = flag(1, "Seconds between looks for versions; 0: only at start; -1: never.")
    max_num_load_retries: int = flag(5, "How often the load of a version is tried again.")
    load_retry_interval_micros: int = flag(60_000_000, "Time between those tries; below 0: none.")
    num_load_threads: int = flag(0, "Versions loaded at the same time; 0: one per CPU.")
    num_unload_threads: int = flag(0, "A version is unloaded as soon as its last request ends.", ignored=True)
    allow_version_labels_for_unavailable_models: bool = flag(
        False, "A new label may name a version that is not loaded (an existing one may still not move to one).")
    force_allow_any_version_labels_for_unavailable_models: bool = flag(
        False, "Any label may name a version that is not loaded.")
    require_signature: str = flag(
        "", "Public key (PEM): only versions that `promote --sign` has signed are loaded.", ours=True)
    saved_model_tags: str = flag("serve", "Tags of the MetaGraphDef to load, with commas.")
    tensorflow_op_libraries: str = flag(
        "", "Libraries (.so) of further operations, with commas; loaded first.", ours=True)
    enable_model_warmup: bool = flag(True, "Replay assets.extra/tf_serving_warmup_requests before serving a version.")
    num_request_iterations_for_warmup: int = flag(1, "How often each warm-up record is run.")
    enable_batching: bool = flag(False, "Put requests together into batches.")
    batching_parameters_file: str = flag("", "BatchingParameters in text form.")
    enable_per_model_batching_parameters: bool = flag(
        False, "Read each version's own batching_params.pbtxt, if it has one.")
    enable_signature_method_name_check: bool = flag(False, "Refuse signatures whose method_name does not fit.")
    enable_serialization_as_tensor_content: bool = flag(False, "Answer gRPC Predict in tensor_content.")
    tensorflow_session_parallelism: int = flag(0, "Threads within and between operations; 0: TensorFlow decides.")
    tensorflow_intra_op_parallelism: int = flag(0, "Threads within an operation.")
    tensorflow_inter_op_parallelism: int = flag(0, "Threads between operations.")
    mixed_precision: str = flag("", "bfloat16: TensorFlow lowers the precision of what a graph computes, as it loads.")
    xla_cpu_compilation_enabled: bool = flag(False, "Compile with XLA what a model asks to; else its requests fail.")
    engine: str = flag(
        "", "tensorflow, litert or openvino, for versions with its files; wins over --prefer_tflite_model.", ours=True)
    engines_file: str = flag("", "TOML: an engine for each model by name; wins over --engine.", ours=True)
    openvino_streams: int = flag(  # decision 203
        1, "Requests that OpenVINO runs at the same time; they share the CPUs.", ours=True)
    prefer_tflite_model: bool = flag(False, "Run a version's model.tflite, if it has one, with LiteRT.")
    num_tflite_pools: int = flag(1, "Pools of LiteRT interpreters; all of them share the CPUs.")
    num_tflite_interpreters_per_pool: int = flag(1, "Interpreters in each pool; each runs a request at a time.")
    tensorflow_session_config_file: str = flag("", "A ConfigProto in text form for every session.")
    monitoring_config_file: str = flag("", "MonitoringConfig in text form: serves Prometheus metrics on the REST port.")
    request_log_file_mb: int = flag(64, "MB of a file of logged requests (logging_config); then the next.", ours=True)
    request_log_files: int = flag(16, "Files of logged requests kept for each model; older ones go.", ours=True)
    access_log: str = flag("", "Write a JSON line for each request to this file; '-': standard output.", ours=True)
    ssl_config_file: str = flag("", "SSLConfig in text form: TLS for gRPC.")
    rest_api_ssl_config_file: str = flag("", "SSLConfig in text form: TLS for REST.", ours=True)
    drain_seconds: float = flag(30.0, "On SIGTERM: how long running requests may take to finish.", ours=True)
    version: bool = flag(False, "Print the versions and exit.")

    thread_pool_factory_config_file: str = flag("", "Not used: TensorFlow's own pools run the graph.", ignored=True)
    platform_config_file: str = flag("", "Not used: the only platform is tensorflow.", ignored=True)
    flush_filesystem_caches: bool = flag(True, "Not needed: nothing is cached between looks.", ignored=True)
    per_process_gpu_memory_fraction: float = flag(0.0, "Not used: see gpu_options in a session config.", ignored=True)
    remove_unused_fields_from_bundle_metagraph: bool = flag(True, "Always so.", ignored=True)
    skip_initialize_tpu: bool = flag(False, "Not used: no TPUs.", ignored=True)
    use_alts_credentials: bool = flag(False, "Refused: use --ssl_config_file.")
    use_tflite_model: bool = flag(False, "Refused: use --prefer_tflite_model.")


def tags_of(flags: Flags) -> list[str]:
    """The tags of --saved_model_tags; "serve", the tag of every exported model, if the flag is empty."""
    return flags.saved_model_tags.split(",") if flags.saved_model_tags else ["serve"]


FLAGS: Mapping[str, dataclasses.Field[Any]] = {row.name: row for row in dataclasses.fields(Flags)}


def parse_flags(arguments: Sequence[str]) -> Flags:  # decision 32
    """Reads `--flag=value`, `--flag value`, `--bool` and `--bool=false`.

    Raises NotStartedError for an unknown flag or a value of the wrong type. The original ignores unknown flags, so
    that a misspelt one shows only by its missing effect. Empty arguments ("", and "--" at the end, as scripts make
    them) are ignored here too.
    """
    values: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument or (argument == "--" and not rest):
            log.warning("unknown argument: %s (ignored); %s", argument, USAGE)
            continue
        name, equals, value = argument[2:].partition("=")
        if not argument.startswith("--") or name not in FLAGS:
            matches = difflib.get_close_matches(argument.lstrip("-").partition("=")[0], FLAGS, n=1)
            hint = f"did you mean --{matches[0]}? " if matches else ""
            raise _refused(f"unknown argument: {argument}", f" ({hint}see --help)")
        kind = type(FLAGS[name].default)
        if not equals:
            if kind is bool:
                value = "true"
            elif rest and not rest[0].startswith("--"):
                value = rest.pop(0)
            else:
                raise _refused(f"unknown argument: {argument}", f" (it needs a value: --{name}=VALUE)")
        values[name] = _value(name, kind, value)
    idle = [f"--{name}" for name in values if FLAGS[name].metadata["ignored"]]
    if idle:
        log.warning("accepted without effect here: %s", ", ".join(idle))
    return Flags(**values)


_BOOLS = {"true": True, "1": True, "false": False, "0": False}
# The numbers that C's scanf accepts, with nothing after them.
_INT = re.compile(r"[ \t\n\v\f\r]*[+-]?[0-9]+")
_FLOAT = re.compile(r"[ \t\n\v\f\r]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(?i:nan|inf|infinity)")


def _value(name: str, kind: type, text: str) -> Any:
    if kind is bool and text.lower() in _BOOLS:
        return _BOOLS[text.lower()]
    if kind is int and _INT.fullmatch(text) and -2**63 <= int(text) < 2**63:
        return int(text)
    if kind is float and _FLOAT.fullmatch(text):
        return float(text)
    if kind is str:
        return text
    wanted = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
    raise _refused(f"Couldn't interpret value {text} for flag {name}.", f" It takes {wanted}")


def _refused(original: str, remedy: str) -> NotStartedError:
    return NotStartedError(f"{original}{remedy}; {USAGE}", f"{original}\n{USAGE}")


def help_text() -> str:
    """The flags with their defaults, for --help; those without effect are named at the end."""
    lines = ["Flags:", "", "As --flag=value or --flag value; *: not a flag of TensorFlow Serving.", ""]
    for row in FLAGS.values():
        if not row.metadata["ignored"]:
            default = str(row.default).lower() if isinstance(row.default, bool) else row.default
            mark = "*" if row.metadata["ours"] else ""
            lines += [f"  --{row.name}{mark}={default}", f"      {row.metadata['text']}"]
    ignored = [row.name for row in FLAGS.values() if row.metadata["ignored"]]
    return "\n".join([*lines, "", "Accepted without effect:", "  " + ", ".join(ignored)])


PLATFORM = "tensorflow"
_TENSORFLOW = 1  # the only model_type that exists


@dataclass(frozen=True, slots=True)
class Model:
    """One entry of a ModelServerConfig."""

    name: str
    base_path: str
    policy: Policy = field(default_factory=Latest)
    labels: Mapping[str, int] = field(default_factory=dict)
    # The entry's model_platform, and the number of its deprecated model_type.
    platform: str = PLATFORM
    model_type: int = 0
    # Its logging_config: where requests are logged, and which share of them.
    log_prefix: str = ""
    sampling_rate: float = 0.0


def read_models(flags: Flags) -> list[Model]:
    """The models that the flags name. Raises ServingError with the original's message."""
    if flags.model_config_file:
        return models_of(text_proto.read(flags.model_config_file, model_server_config_pb2.ModelServerConfig()))
    if not flags.model_base_path:
        raise invalid("Both server_options.model_base_path and server_options.model_config_file are empty!",
                      f"Give --model_name and --model_base_path, or --model_config_file; {USAGE}")
    return checked([Model(flags.model_name, flags.model_base_path)])


def models_of(config: Any) -> list[Model]:
    """The models of a ModelServerConfig message, checked except for their platforms. Raises ServingError."""
    if config.WhichOneof("config") == "custom_model_config":
        raise ServingError(Code.UNIMPLEMENTED, "custom_model_config is not supported; use model_config_list")
    return checked([Model(entry.name, entry.base_path, _policy(entry), dict(entry.version_labels),
                          entry.model_platform, entry.model_type,
                          entry.logging_config.log_collector_config.filename_prefix,
                          entry.logging_config.sampling_config.sampling_rate)
                    for entry in config.model_config_list.config])


def reread_models(flags: Flags) -> list[Model]:
    """The models of --model_config_file, read once more. Raises ServingError with the original's message."""
    config = text_proto.read(flags.model_config_file, model_server_config_pb2.ModelServerConfig())
    if config.WhichOneof("config") != "model_config_list":
        raise ServingError(Code.FAILED_PRECONDITION, "Cannot transition to requested config. It is only legal to "
                           "transition from one ModelConfigList to another.")
    return models_of(config)


def check_no_platform_changes(known: Collection[str], models: Iterable[Model]) -> None:
    """Raises INVALID_ARGUMENT if a model that is already known (its platform is "tensorflow") names another one."""
    for model in models:
        if model.name in known and (platform := _platform(model)) != PLATFORM:
            raise invalid(f"Illegal to change a model's platform. For model {model.name} platform was {PLATFORM} "
                          f"and new platform requested is {platform}")


def check_platforms(models: Iterable[Model]) -> None:
    """Raises INVALID_ARGUMENT for an unknown platform."""
    for model in models:
        platform = _platform(model)
        if platform != PLATFORM:
            raise invalid(f"Model {model.name} requests unsupported platform {platform}")


def _platform(model: Model) -> str:
    if model.model_type:
        if model.platform:
            raise invalid("Illegal setting both ModelServerConfig::model_type (deprecated) and "
                          f"ModelServerConfig::model_platform, model name is {model.name}")
        if model.model_type != _TENSORFLOW:
            raise invalid(f"ModelServerConfig::model_type choice {model.model_type} not supported.")
        return PLATFORM
    if not model.platform:
        raise invalid("Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                      f"ModelServerConfig::model_platform, model name is {model.name}")
    return model.platform


def checked(models: list[Model]) -> list[Model]:
    """The same models, if names are unique and paths absolute."""
    names: set[str] = set()
    for model in models:
        if model.name in names:
            raise invalid(f"Illegal to list model {model.name} multiple times in config list")
        names.add(model.name)
        if not is_uri(model.base_path) and not Path(model.base_path).is_absolute():
            raise invalid(f"Expected model {model.name} to have an absolute path or URI; "
                          f"got base_path()={model.base_path}")
    return models


def _policy(entry: Any) -> Policy:
    policy = entry.model_version_policy
    match policy.WhichOneof("policy_choice"):
        case "all":
            return All()
        case "specific":
            return Specific(frozenset(policy.specific.versions))
        case _:
            return Latest(policy.latest.num_versions or 1)
