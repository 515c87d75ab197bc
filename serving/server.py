"""`python -m serving serve`: connects the parts, opens the ports, and on SIGTERM finishes running requests and ends."""
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.metadata import version
from time import monotonic
from typing import Any, TextIO

import click

from commandline import EXIT_FAILED, fail
from serving import text_proto, tls
from serving.config import (
    EXIT_NOT_STARTED,
    Flags,
    Model,
    NotStartedError,
    help_text,
    parse_flags,
    reread_models,
)
from serving.errors import Code, ServingError, invalid
from serving.heap import keep_freed_memory
from serving.memory import MemoryLimit, longest_message
from serving.metrics import LATENCY, AccessLog, Call, Metrics
from serving.model_store import ModelStore, Retries
from serving.recent_traffic import RecentTraffic
from serving.startup import channel_arguments, check, did_not_load, signed_only

log = logging.getLogger("serving")
# gRPC's own log lines about a port say less than this server's. Setting the variable shows them.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# Time to unload versions that no request uses, even if --drain_seconds has passed.
_UNLOAD_S = 0.5
_LOOK_S = 0.5  # how often a server that has nothing to do looks whether it was told to stop


class Server:
    """The models of the flags, served over gRPC and REST. Every method raises ServingError."""

    def __init__(self, flags: Flags) -> None:
        self._flags = flags
        self._models = check(flags)
        monitoring = text_proto.message("MonitoringConfig")
        if flags.monitoring_config_file:
            text_proto.read(flags.monitoring_config_file, monitoring)
        self._metrics = Metrics()
        self._metrics_path = (monitoring.prometheus_config.path or "/monitoring/prometheus/metrics"
                              if monitoring.prometheus_config.enable else "")
        self._access_log = AccessLog(_open_log(flags.access_log)) if flags.access_log else None
        self._stopping = threading.Event()
        self._open_parts: list[Any] = []
        # Imported here, since TensorFlow takes seconds to import: mistakes in flags and files are reported before that.
        from serving.batching import Batching
        from serving.engines.choice import Engines
        from serving.grpc_service import GrpcServer
        from serving.predictor import Predictor
        from serving.request_log import RequestLogs
        from serving.version_loader import VersionLoader
        most_bytes = flags.max_request_memory_mb * (1 << 20)
        engines = Engines(flags, MemoryLimit(most_bytes))
        self._batching = Batching(
            flags.batching_parameters_file,
            flags.enable_per_model_batching_parameters, self._metrics.batching) if flags.enable_batching else None
        loader = VersionLoader(
            engines.load, self._metrics, self._batching,
            max(flags.num_request_iterations_for_warmup, 1) if flags.enable_model_warmup else 0, signed_only(flags))
        self._store = ModelStore(
            loader.load, flags.file_system_poll_wait_seconds,
            Retries(flags.max_num_load_retries, flags.load_retry_interval_micros / 1e6), flags.num_load_threads,
            flags.allow_version_labels_for_unavailable_models,
            flags.force_allow_any_version_labels_for_unavailable_models)
        self._logs = RequestLogs(flags.request_log_file_mb << 20, flags.request_log_files, self._metrics.logged)
        ran = self._metrics.ran if self._metrics_path else None
        self._predictor = Predictor(self._store, flags.enable_signature_method_name_check, ran, self._logs)
        # Warm-up requests are not logged: they would come back as warm-up.
        loader.predictor = Predictor(self._store, flags.enable_signature_method_name_check, ran)
        host = flags.bind_address
        addresses = [f"[{host}]:{flags.port}" if ":" in host else f"{host}:{flags.port}"] if flags.port else []
        if flags.grpc_socket_path:
            addresses.append(f"unix:{flags.grpc_socket_path}")
        self._grpc = GrpcServer(
            self._predictor, addresses, flags.grpc_max_threads, reload=self.reload, observe=self._observe,
            tensor_content=flags.enable_serialization_as_tensor_content,
            with_health=flags.enable_grpc_healthcheck_service, with_reflection=flags.enable_grpc_reflection,
            with_profiler=flags.enable_profiler,
            credentials=tls.grpc_credentials(flags.ssl_config_file),
            options=[("grpc.max_receive_message_length", longest_message(most_bytes)), *channel_arguments(flags)])
        shared = flags.rest_api_port == flags.port
        self._rest = self._rest_server(host, flags.rest_api_port) if flags.rest_api_port and not shared else None

    def start(self) -> None:
        """Loads the models, then opens the ports, so that a client that can connect gets an answer."""
        flags = self._flags
        self._logs.configure(self._models)
        with _held_back() as records:
            failures = self._store.configure(self._models)
        self._store.start()
        # If nothing can be served, the error gives the reasons in one line; log lines would repeat them.
        if len(failures) < len(self._models):
            for record in records:
                log.handle(record)
        if failures and len(failures) == len(self._models):
            failures = self._store.await_any()
            if len(failures) == len(self._models):
                raise did_not_load("servable", failures)
        for reason in failures.values():
            log.warning("serving without a model that did not become available: %s", reason)
        try:
            self._open(self._grpc)
            if flags.port:
                log.info("Running gRPC ModelServer at %s:%d ...", flags.bind_address, flags.port)
            if self._rest is not None:
                self._open(self._rest)
                log.info("Exporting HTTP/REST API at:%s:%d ...", flags.bind_address, flags.rest_api_port)
            elif flags.rest_api_port:
                log.error("server_options.http_port cannot be same as grpc_port. Please use a different port for "
                          "HTTP/REST API. Skipped exporting HTTP/REST API.")
        except OSError as error:
            raise invalid(f"{error}; is the port taken? Stop what uses it, or choose another --port or "
                          "--rest_api_port") from None
        if flags.model_config_file and flags.model_config_file_poll_wait_seconds > 0:
            threading.Thread(target=self._poll_config, name="config", daemon=True).start()

    def _open(self, part: Any) -> None:
        part.start()
        self._open_parts.append(part)

    def depends_on(self, thread: threading.Thread | None) -> bool:
        """Whether the server no longer answers once this thread has ended."""
        return self._grpc.depends_on(thread)

    def reload(self, models: list[Model]) -> None:
        """Replaces the configuration and waits for new models, as HandleReloadConfigRequest does."""
        failures = self._store.configure(models)
        self._logs.configure(models)
        if failures:
            raise did_not_load("model", failures)

    def stop(self) -> int:
        """Accepts no new requests, answers the running ones, unloads the models; also usable after a failed start.

        All of that takes --drain_seconds at most. Returns how many requests took longer and were aborted.
        """
        self._stopping.set()
        drain = self._flags.drain_seconds
        ends = monotonic() + drain
        with ThreadPoolExecutor(max(len(self._open_parts), 1)) as stops:
            cut = sum(stops.map(lambda part: part.stop(drain), self._open_parts))
        self._store.stop(max(ends - monotonic(), _UNLOAD_S))
        if self._batching is not None:
            self._batching.stop()
        self._logs.close()
        if self._access_log is not None:
            self._access_log.close()
        return int(cut)

    def _rest_server(self, host: str, port: int) -> Any:
        from serving.rest import RestServer
        flags = self._flags
        longest = flags.rest_api_max_body_bytes
        if not flags.max_request_memory_mb:
            longest = min(longest, longest_message(0))
        return RestServer(
            self._predictor, host, port, timeout_ms=flags.rest_api_timeout_in_ms,
            cors=flags.rest_api_enable_cors_support, max_body_bytes=longest,
            threads=flags.rest_api_num_threads, observe=self._observe,
            tls=tls.rest_context(flags.rest_api_ssl_config_file),
            monitoring=(self._metrics_path, lambda: self._metrics.text(self._store.readiness()))
            if self._metrics_path else None,
            ready=self._store.readiness, pages=self._pages(),
            on_event_loop=self._access_log is None)  # writing a log may block: a full pipe, a slow disk

    def _pages(self) -> Any:
        if not self._flags.enable_status_page:
            return None
        from serving.status_values import StatusPages
        return StatusPages(self._store, RecentTraffic(self._metrics.by_version, LATENCY),
                           self._flags.model_config_file).answer

    def _observe(self, call: Call, code: Code) -> None:
        if self._metrics_path or self._flags.enable_status_page:
            self._metrics.answered(call, code)
        if self._access_log is not None:
            self._access_log.answered(call, code)

    def _poll_config(self) -> None:
        last_error = ""
        while not self._stopping.wait(self._flags.model_config_file_poll_wait_seconds):
            try:
                self.reload(reread_models(self._flags))
                last_error = ""
            except ServingError as error:
                # The models stay as they are; the error is logged once, not at every poll.
                if error.message != last_error:
                    log.error("%s is not applied: %s", self._flags.model_config_file, error.message)
                last_error = error.message


@contextmanager
def _held_back() -> Iterator[list[logging.LogRecord]]:
    """Within the context, warnings and errors go to a list, not to the log."""
    kept: list[logging.LogRecord] = []

    def hold(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            kept.append(record)
        return record.levelno < logging.WARNING

    log.addFilter(hold)
    try:
        yield kept
    finally:
        log.removeFilter(hold)


def _open_log(path: str) -> TextIO:
    return sys.stdout if path == "-" else open(path, "a", encoding="utf-8")


class _Serve(click.Command):
    """A command whose arguments are parsed by serving.config, since click does not support `--bool=false`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--help" in args or "-h" in args:
            click.echo(ctx.get_help())
            # With other flags beside it no server starts although one was wanted: the exit status shows that.
            ctx.exit(0 if len(args) == 1 else EXIT_NOT_STARTED)
        ctx.params["arguments"] = list(args)
        ctx.args = []
        return []

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "--flag=value ...", prefix="usage: ")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write("\n" + help_text() + "\n")


@click.command(cls=_Serve)
def command(arguments: list[str]) -> None:
    """Host SavedModels over gRPC and REST, as tensorflow_model_server does, with its flags.

    \b
    One model, its versions in numbered directories below an absolute path:
      python -m serving serve --model_name=mnist --model_base_path=$PWD/models/mnist/original \\
          --port=8500 --rest_api_port=8501
    Several, with versions and labels, as in models.config:
      python -m serving serve --model_config_file=models.config --rest_api_port=8501
    """
    log_to_stderr()
    try:
        flags = parse_flags(arguments)
        if flags.version:
            click.echo(f"TensorFlow ModelServer: embedded server (Python {sys.version.split()[0]})\n"
                       f"TensorFlow Library: {version('tensorflow')}")
            return
        keep_freed_memory()
        _serve(flags)
    except NotStartedError as error:
        # Scripts written for the original read this line from standard output. At a terminal it would appear twice.
        if not _same_output():
            click.echo(error.original)
        fail(str(error), EXIT_NOT_STARTED)


def log_to_stderr() -> None:
    """Writes the log to standard error, under a descriptor of its own.

    A version that needs TensorFlow may be the first one in a running server. While TensorFlow is imported, descriptor 2
    leads elsewhere (see commandline.quiet), for all threads.
    """
    stream = sys.stderr
    with suppress(OSError, ValueError, AttributeError):  # it is closed, or no file
        stream = os.fdopen(os.dup(sys.stderr.fileno()), "w", buffering=1, encoding=sys.stderr.encoding,
                           errors=sys.stderr.errors)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname).1s %(message)s", stream=stream)


def _same_output() -> bool:
    try:
        return os.path.sameopenfile(1, 2)
    except OSError:  # one of the streams is closed
        return False


def _serve(flags: Flags) -> None:
    stop, answering = threading.Event(), threading.Event()

    def end(*_: object) -> None:
        stop.set()
        if not answering.is_set():
            # Loading can take minutes, and there are no requests to finish.
            os._exit(0)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # SIGINT too: shells start background jobs with it ignored. SIGHUP stays ignored if nohup has set that.
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)
    server = start(flags)
    failed = threading.Event()

    def died(args: threading.ExceptHookArgs) -> None:
        error = args.exc_value or args.exc_type()
        log.error("a thread has failed", exc_info=(args.exc_type, error, args.exc_traceback))
        if server.depends_on(args.thread):
            # A process that is there and answers nothing is worse than one that is started again.
            log.error("the gRPC API has failed (%s): the server ends", args.exc_type.__name__)
            failed.set()
            stop.set()

    threading.excepthook = died
    answering.set()
    # Not for ever: a signal that another thread takes, or that comes just before the wait, does not end it. Python
    # calls `end` when this thread runs again.
    while not stop.wait(_LOOK_S):
        pass
    log.info("Stopping: no new requests, %g s for those that run", flags.drain_seconds)
    cut = 0
    try:
        cut = server.stop()
    except (RuntimeError, MemoryError):
        # No memory for the threads that stopping needs. Python would now wait for ever for one that is stuck.
        log.exception("stopping has failed")
        failed.set()
    if cut:
        log.error("Stopped; %d request(s) took longer than --drain_seconds=%g, and were cut", cut, flags.drain_seconds)
    elif not failed.is_set():
        log.info("Stopped; every request was answered")
    logging.shutdown()
    sys.stdout.flush()
    # TensorFlow may still be running an aborted request; waiting for its thread would defeat the time limit.
    os._exit(EXIT_FAILED if cut or failed.is_set() else 0)


def start(flags: Flags) -> Server:
    """A server that answers. Raises NotStartedError with the original's message and what to do."""
    server = None
    try:
        server = Server(flags)
        server.start()
    except ServingError as error:
        if server is not None:
            log.setLevel(logging.CRITICAL)
            server.stop()
            log.setLevel(logging.NOTSET)
        original = f"Failed to start server. Error: {error.code.name}: {error.message}"
        raise NotStartedError(f"{original} {error.advice}".rstrip(), original) from None
    return server
