"""Recorded traffic: a TFRecord of tensorflow.serving.PredictionLog.

TensorFlow Serving logs requests in this format and reads warm-up requests from it (the file
assets.extra/tf_serving_warmup_requests of a version). Here it also holds one server's answers, so that another
server's answers can be compared with them.
"""
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from serving import tensor_proto, tfrecord
from serving.protos import predict_pb2, prediction_log_pb2
from serving.tensor_proto import Array
from user_error import UserError


@dataclass(frozen=True)
class Predicted:
    """A predict request, and its answer if one was recorded (else no outputs, and version None)."""
    model: str
    inputs: Mapping[str, Array]
    signature_name: str = ""
    outputs: Mapping[str, Array] = field(default_factory=dict)
    version: int | None = None

    def to_log(self) -> Any:
        """The PredictionLog."""
        request = predict_pb2.PredictRequest(
            inputs={name: tensor_proto.to_proto(array) for name, array in self.inputs.items()})
        request.model_spec.name = self.model
        request.model_spec.signature_name = self.signature_name
        log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
        if self.outputs:
            response = log.predict_log.response
            response.model_spec.CopyFrom(request.model_spec)
            if self.version is not None:
                response.model_spec.version.value = self.version
            for name, array in self.outputs.items():
                response.outputs[name].CopyFrom(tensor_proto.to_proto(array))
        return log

    @classmethod
    def of_log(cls, predict_log: Any) -> "Predicted":
        """The request and answer in a PredictLog. Raises ValueError for a tensor whose parts contradict each other."""
        request, response = predict_log.request, predict_log.response
        return cls(request.model_spec.name,
                   {name: tensor_proto.to_ndarray(tensor) for name, tensor in request.inputs.items()},
                   request.model_spec.signature_name,
                   {name: tensor_proto.to_ndarray(tensor) for name, tensor in response.outputs.items()},
                   response.model_spec.version.value if response.model_spec.HasField("version") else None)


def write(path: str | Path, recorded: Iterable[Predicted]) -> int:
    """Writes a whole file or none, and returns how many requests it holds."""
    return tfrecord.write(path, (one.to_log().SerializeToString() for one in recorded))


def read(path: str | Path) -> Iterator[Predicted]:
    """The predict requests of a file, in order; logs of other kinds (classify, regress) are left out.

    Raises UserError that names the file and the record that cannot be read.
    """
    for number, log in enumerate(logs(path), 1):
        if log.WhichOneof("log_type") == "predict_log":
            try:
                yield Predicted.of_log(log.predict_log)
            except ValueError as error:
                raise UserError(f"{path}: request {number}: {error}") from None


def logs(path: str | Path) -> Iterator[Any]:
    """All PredictionLogs of a file. Raises UserError that names the file and the record that cannot be read."""
    number = 0
    try:
        for number, record in enumerate(tfrecord.read(path), 1):  # noqa: B007 (the message below names it)
            yield prediction_log_pb2.PredictionLog.FromString(record)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file of recorded requests") from None
    except (tfrecord.CorruptedRecordError, IsADirectoryError) as error:
        raise UserError(str(error)) from None
    except DecodeError:
        raise UserError(f"{path}: record {number} is no PredictionLog") from None
