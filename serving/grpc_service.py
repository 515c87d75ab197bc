"""The gRPC API: PredictionService and ModelService over the predictor; error -> grpc.StatusCode.

Handlers take parsed messages and return messages; one wrapper parses, sets the deadline, maps errors and reports the
call to the metrics and the access log.
"""
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from time import perf_counter
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from serving import messages, profiler
from serving.config import Model, models_of
from serving.errors import Code, ServingError, invalid
from serving.metrics import Call, Observer
from serving.predictor import Predictor
from serving.profiler import Profiler
from serving.protos import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)
from serving.servable import Servable
from serving.timing import ANSWER_HEADER, PARSE, Stopwatch, asked

log = logging.getLogger("serving")

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"

_STATUS = {code: status for code in Code for status in grpc.StatusCode if status.value[0] == code.value}
# gRPC limits no message size (protobuf does: 2 GB). A port in use is an error: by default it would silently be shared.
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)]

_LAME_DUCK_S = 0.1
_COUNTED_BEFORE_S = 0.05

Reload = Callable[[list[Model]], None]
Answer = Callable[[Any, Call, float | None], Any]


class GrpcServer:
    """Serves a predictor over gRPC. `start` raises OSError for an address that cannot be bound."""

    def __init__(self, predictor: Predictor, addresses: Sequence[str], threads: int, *, reload: Reload,
                 observe: Observer, tensor_content: bool = False, with_health: bool = False,
                 with_reflection: bool = False, with_profiler: bool = False,
                 credentials: grpc.ServerCredentials | None = None,
                 options: Sequence[tuple[str, str | int]] = ()) -> None:
        self._addresses = addresses
        self._credentials = credentials
        self._draining = threading.Event()
        self._running: set[grpc.ServicerContext] = set()
        self._serving_threads: set[threading.Thread] = set()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="grpc")
        self._server = grpc.server(self._threads, options=list({**dict(OPTIONS), **dict(options)}.items()))
        services = [PREDICTION_SERVICE, MODEL_SERVICE]
        self._health = _Health() if with_health else None
        if self._health is not None:
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
            services.append(health.SERVICE_NAME)
        if with_profiler:
            self._server.add_registered_method_handlers(profiler.SERVICE, Profiler(self._draining).handlers())
        if with_reflection:
            reflection.enable_server_reflection([*services, reflection.SERVICE_NAME], self._server)
        for name, methods in _methods(
                _Service(predictor, reload, tensor_content), observe, self._draining, self._running).items():
            self._server.add_registered_method_handlers(name, methods)
        # Last, since it answers every method that no other service has.
        self._server.add_generic_rpc_handlers((_Unknown(),))

    def start(self) -> None:
        """Binds and serves."""
        for address in self._addresses:
            try:
                if self._credentials is None:
                    self._server.add_insecure_port(address)
                else:
                    self._server.add_secure_port(address, self._credentials)
            except RuntimeError:
                raise OSError(f"Failed to BuildAndStart gRPC server: {address} cannot be bound") from None
        before = set(threading.enumerate())
        self._server.start()
        self._serving_threads = set(threading.enumerate()) - before

    def depends_on(self, thread: threading.Thread | None) -> bool:
        """Whether no call is answered any more once this thread has ended."""
        return thread in self._serving_threads

    def stop(self, drain_s: float) -> int:  # decision 38
        """Accepts no new calls, and ends when the running ones are answered or `drain_s` seconds have passed.

        Returns how many calls were not answered in time.

        The only way to make clients leave is grpcio's stop(). It ends calls that arrive before their client has learned
        of it with CANCELLED, which no client retries. So for a moment before that, calls are answered UNAVAILABLE:
        clients that retry then try again elsewhere or later.
        """
        if self._health is not None:
            self._health.enter_graceful_shutdown()
        self._draining.set()
        lame_duck_s = min(_LAME_DUCK_S, drain_s)
        threading.Event().wait(lame_duck_s)
        if self._serving_threads and not any(thread.is_alive() for thread in self._serving_threads):
            return self._unanswered()  # nothing in grpcio would end its stop()
        left = drain_s - lame_duck_s
        stopped = self._server.stop(left)
        if stopped.wait(max(left - _COUNTED_BEFORE_S, 0)):
            return 0
        # Counted before grpcio cancels them: afterwards they look like calls that their clients cancelled.
        running = {context for context in self._running.copy() if context.is_active()}
        stopped.wait()
        return len(running & self._running) + self._threads._work_queue.qsize()

    def _unanswered(self) -> int:
        return len(self._running) + self._threads._work_queue.qsize()


class _Health(health.HealthServicer):
    """grpc.health.v1 under the names that the original gives its services (not their full names)."""

    def __init__(self) -> None:
        super().__init__(experimental_non_blocking=True)
        for name in ("", "ModelService", "PredictionService"):
            self.set(name, health_pb2.HealthCheckResponse.SERVING)

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        answer = super().Check(request, context)
        if context.code() is grpc.StatusCode.NOT_FOUND:
            context.set_details("service name unknown")
        return answer


class _Service:
    """What each method answers; every handler is (request, call, timeout_s) -> response."""

    def __init__(self, predictor: Predictor, reload: Reload, tensor_content: bool) -> None:
        self._predictor = predictor
        self._reload = reload
        self._tensor_content = tensor_content

    def predict(self, request: Any, call: Call, timeout_s: float | None) -> Any:
        with self._pin(request, call) as servable:
            servable = call.pinned(servable)
            return messages.predict(self._predictor, servable, request, timeout_s, self._tensor_content)

    def classify(self, request: Any, call: Call, timeout_s: float | None) -> Any:
        with self._pin(request, call) as servable:
            servable = call.pinned(servable)
            return messages.classify(self._predictor, servable, request, timeout_s)

    def regress(self, request: Any, call: Call, timeout_s: float | None) -> Any:
        with self._pin(request, call) as servable:
            servable = call.pinned(servable)
            return messages.regress(self._predictor, servable, request, timeout_s)

    def multi_inference(self, request: Any, call: Call, timeout_s: float | None) -> Any:
        first = request.tasks[0].model_spec if request.tasks else inference_pb2.InferenceTask().model_spec
        call.model = first.name
        with self._predictor.pin(messages.model_spec(first)) as servable:
            servable = call.pinned(servable)
            response = messages.multi_inference(self._predictor, servable, request, timeout_s)
            call.examples = messages.count_examples(request.input)
            return response

    def metadata(self, request: Any, call: Call, timeout_s: float | None) -> Any:
        spec = messages.spec_of(request)
        call.model = spec.name
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for name in request.metadata_field:
            if name != "signature_def":
                raise invalid(f"Metadata field {name} is not supported")
        with self._predictor.pin(spec) as servable:
            call.version = servable.version
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.model_spec.name = spec.name
            response.model_spec.version.value = servable.version
            response.metadata["signature_def"].Pack(servable.metadata)
            return response

    def status(self, request: Any, call: Call, timeout_s: float | None) -> Any:
        response = get_model_status_pb2.GetModelStatusResponse()
        spec = messages.spec_of(request)
        call.model = spec.name
        for version in self._predictor.status(spec):
            made = response.model_version_status.add(
                version=version.version,
                state=get_model_status_pb2.ModelVersionStatus.State.Value(version.state))
            made.status.SetInParent()
            made.status.error_code = version.code.value
            made.status.error_message = version.message
        return response

    def reload(self, request: Any, call: Call, timeout_s: float | None) -> Any:
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid("ServerModelConfig type not supported by HandleReloadConfigRequest. "
                          "Only ModelConfigList is currently supported")
        self._reload(models_of(request.config))
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        for name in sorted(set(request.metric_names)):
            response.metric.add(name=name, int64_value_increase=0)
        return response

    def _pin(self, request: Any, call: Call) -> AbstractContextManager[Servable]:
        spec = messages.spec_of(request)
        call.model, call.signature = spec.name, spec.signature_name
        return self._predictor.pin(spec)


def _methods(service: _Service, observe: Observer, draining: threading.Event,
             running: set[grpc.ServicerContext]) -> dict[str, dict[str, grpc.RpcMethodHandler]]:
    """Service -> method -> handler. Registered by name, which saves a look-up through every service per call."""
    answers: dict[str, dict[str, tuple[Any, Answer]]] = {
        PREDICTION_SERVICE: {
            "Predict": (predict_pb2.PredictRequest, service.predict),
            "Classify": (classification_pb2.ClassificationRequest, service.classify),
            "Regress": (regression_pb2.RegressionRequest, service.regress),
            "MultiInference": (inference_pb2.MultiInferenceRequest, service.multi_inference),
            "GetModelMetadata": (get_model_metadata_pb2.GetModelMetadataRequest, service.metadata),
        },
        MODEL_SERVICE: {
            "GetModelStatus": (get_model_status_pb2.GetModelStatusRequest, service.status),
            "HandleReloadConfigRequest": (model_management_pb2.ReloadConfigRequest, service.reload),
        },
    }
    return {name: {api: _handler(api, kind, answer, observe, draining, running)
                   for api, (kind, answer) in methods.items()}
            for name, methods in answers.items()}


def _handler(api: str, kind: Any, answer: Answer, observe: Observer, draining: threading.Event,
             running: set[grpc.ServicerContext]) -> grpc.RpcMethodHandler:
    def handle(data: bytes, context: grpc.ServicerContext) -> Any:
        call = Call("GRPC", api, perf_counter())
        if asked(context.invocation_metadata()):
            call.watch = Stopwatch(PARSE, call.began)
        code, text = Code.INTERNAL, ""
        running.add(context)
        try:
            if draining.is_set():
                raise ServingError(Code.UNAVAILABLE, "the server is stopping; try again")
            left = context.time_remaining()
            if (left is not None and left <= 0) or not context.is_active():
                # Its client cancelled it while it waited for a thread: running it would be useless.
                raise ServingError(Code.DEADLINE_EXCEEDED if context.is_active() else Code.CANCELLED, "")
            # Parsed here, since grpcio's own error for bytes that cannot be parsed has another text.
            response = answer(kind.FromString(data), call, left)
            code = Code.OK
            raw = response.SerializeToString()
            if call.watch is not None:
                context.set_trailing_metadata(((ANSWER_HEADER, call.watch.text()),))
            return raw
        except ServingError as error:
            code, text = error.code, error.message
        except DecodeError:
            pass
        except Exception as error:
            log.exception("%s failed", api)
            text = f"{type(error).__name__}: {error}"
        finally:
            running.discard(context)
            observe(call, code)
        return context.abort(_STATUS[code], text)

    return grpc.unary_unary_rpc_method_handler(handle)


class _Unknown(grpc.GenericRpcHandler):
    """UNIMPLEMENTED with an empty message, instead of grpcio's own, for every unknown method."""

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: context.abort(grpc.StatusCode.UNIMPLEMENTED, ""))
