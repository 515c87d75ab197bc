"""The gRPC client: one channel per client; requests are serialized before the time is measured."""
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from serving import tensor_proto
from serving.client.payloads import Array, Arrays, specs_of
from serving.client.protocol import (
    ANSWER_TIMEOUT_S,
    CONNECT_TIMEOUT_S,
    AnswerError,
    Metadata,
    Signature,
    Tls,
    UnreachableError,
    VersionStatus,
    predict,
)
from serving.protos import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
)
from serving.timing import ANSWER_HEADER, REQUEST_HEADER, read
from user_error import UserError

# The messages that gRPC's core would print on stderr are also in its errors. It reads this at the first channel.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

_PREDICTION = "/tensorflow.serving.PredictionService"
_MODEL = "/tensorflow.serving.ModelService"


class GrpcClient:
    """A `Client` of TensorFlow Serving's gRPC API. `address` is "host:port"; `headers` are sent as call metadata."""
    measured_by = f"grpcio {grpc.__version__}, synchronous, one channel per client"

    def __init__(self, address: str, model: str, version: int | None = None, label: str | None = None, *,
                 headers: Mapping[str, str] | None = None, tls: Tls | None = None,
                 connect_timeout_s: float = CONNECT_TIMEOUT_S, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._address = address
        self._channel = channel(address, tls, connect_timeout_s)
        self._answer_timeout_s = answer_timeout_s
        self._headers = tuple((name.lower(), value) for name, value in (headers or {}).items()) or None
        self._asks_timing = REQUEST_HEADER in dict(self._headers or ())
        self._timing = ""
        self._spec = model_pb2.ModelSpec(name=model)
        if version is not None:
            self._spec.version.value = version
        elif label:
            self._spec.version_label = label
        # These take and return bytes: messages are serialized before `send` and parsed after it.
        self._call_predict = self._channel.unary_unary(f"{_PREDICTION}/Predict")
        self._call_metadata = self._channel.unary_unary(f"{_PREDICTION}/GetModelMetadata")
        self._call_status = self._channel.unary_unary(f"{_MODEL}/GetModelStatus")

    def prepare(self, inputs: Arrays, signature_name: str = "") -> bytes:
        request = predict_pb2.PredictRequest(
            model_spec=self._spec, inputs={name: tensor_proto.to_proto(array) for name, array in inputs.items()})
        request.model_spec.signature_name = signature_name
        return request.SerializeToString()

    def send(self, request: bytes) -> bytes:
        return self._call(self._call_predict, request)

    def decode(self, raw: bytes, signature_name: str = "") -> dict[str, Array]:
        response = predict_pb2.PredictResponse.FromString(raw)
        return {name: tensor_proto.to_ndarray(tensor) for name, tensor in response.outputs.items()}

    def predict(self, inputs: Arrays, signature_name: str = "") -> dict[str, Array]:
        return predict(self, inputs, signature_name)

    def metadata(self) -> Metadata:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=self._spec, metadata_field=["signature_def"])
        response = get_model_metadata_pb2.GetModelMetadataResponse.FromString(
            self._call(self._call_metadata, request.SerializeToString()))
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return Metadata(response.model_spec.name, response.model_spec.version.value, {
            name: Signature(definition.method_name, specs_of(definition.inputs), specs_of(definition.outputs))
            for name, definition in signatures.signature_def.items()})

    def status(self) -> tuple[VersionStatus, ...]:
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=self._spec)
        response = get_model_status_pb2.GetModelStatusResponse.FromString(
            self._call(self._call_status, request.SerializeToString()))
        states = get_model_status_pb2.ModelVersionStatus.State
        return tuple(VersionStatus(one.version, states.Name(one.state), code_name(one.status.error_code),
                                   one.status.error_message) for one in response.model_version_status)

    def server_timing(self) -> dict[str, float]:
        return read(self._timing)

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def _call(self, method: Any, request: bytes) -> bytes:
        try:
            if not self._asks_timing:
                return method(request, timeout=self._answer_timeout_s, metadata=self._headers)
            raw, call = method.with_call(request, timeout=self._answer_timeout_s, metadata=self._headers)
            self._timing = dict(call.trailing_metadata() or ()).get(ANSWER_HEADER, "")
            return raw
        except grpc.RpcError as error:
            code, details = error.code(), error.details() or ""
            if code == grpc.StatusCode.UNAVAILABLE:
                raise UnreachableError(f"{self._address}: cannot connect ({details}); is the server running, and is "
                                  "this its gRPC port?") from None
            if code == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise UnreachableError(f"{self._address}: no answer within {self._answer_timeout_s:g} s") from None
            raise AnswerError(code.name, details) from None


def channel(address: str, tls: Tls | None = None, connect_timeout_s: float = CONNECT_TIMEOUT_S) -> grpc.Channel:
    """A channel with its own connection, messages of any size and no hidden retries."""
    if "://" in address or ":" not in address:
        raise UserError(f"'{address}' is no address of a gRPC API; write host:port")
    milliseconds = round(connect_timeout_s * 1000)
    options = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        # By default channels to one address share a connection, so that clients would wait for each other.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 0),
        # A connection attempt may take as long as the back-off before the next one.
        ("grpc.min_reconnect_backoff_ms", milliseconds),
        ("grpc.initial_reconnect_backoff_ms", min(1000, milliseconds)),
        ("grpc.max_reconnect_backoff_ms", milliseconds),
    ]
    return grpc.insecure_channel(address, options) if tls is None else grpc.secure_channel(
        address, _credentials(tls), options)


def answered_version(raw: bytes) -> int:
    """The model version that a serialized PredictResponse names."""
    return int(predict_pb2.PredictResponse.FromString(raw).model_spec.version.value)


def code_name(number: int) -> str:
    """The name of a status code: "NOT_FOUND" for 5."""
    return next((code.name for code in grpc.StatusCode if code.value[0] == number), str(number))


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    if not tls.verify:
        raise UserError("gRPC cannot leave the server's certificate unverified; give the authority that signed it")
    try:
        authority, key, certificate = (
            Path(path).read_bytes() if path else None for path in (tls.authority, tls.key, tls.certificate))
    except OSError as error:
        raise UserError(f"cannot use the TLS file {error.filename}: {error.strerror}") from None
    return grpc.ssl_channel_credentials(authority, key, certificate)
