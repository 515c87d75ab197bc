"""A version's warm-up requests are run before it is served; if one fails, the version is not served."""
import struct
from pathlib import Path

import numpy as np
import pytest
from fake_servable import FakeServable, signature

from serving.errors import Code, ServingError
from serving.predictor import Predictor
from serving.protos import prediction_log_pb2
from serving.tensor_proto import to_proto
from serving.tfrecord import masked_crc32c
from serving.warmup import warm_up
from version_directory import WARMUP

PREDICTOR = Predictor(None)  # type: ignore[arg-type]


def record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))


def predict_log(value: float = 1.0, name: str = "") -> bytes:
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.name = "any"
    log.predict_log.request.model_spec.signature_name = name
    log.predict_log.request.inputs["x"].CopyFrom(to_proto(np.array([value], np.float32)))
    return log.SerializeToString()


def version(tmp_path: Path, data: bytes | None) -> Path:
    if data is not None:
        (tmp_path / WARMUP).parent.mkdir()
        (tmp_path / WARMUP).write_bytes(data)
    return tmp_path


def fake() -> FakeServable:
    return FakeServable(signatures={"serving_default": signature()})


def test_every_record_is_run(tmp_path: Path) -> None:
    servable = fake()
    path = version(tmp_path, record(predict_log(1)) + record(b"") + record(predict_log(2)))
    assert warm_up(PREDICTOR, servable, path, iterations=2) == 3
    assert [float(values[0][0]) for values in servable.runs] == [1, 1, 2, 2]


def test_without_a_file_there_is_no_warm_up(tmp_path: Path) -> None:
    assert warm_up(PREDICTOR, fake(), version(tmp_path, None)) == 0
    assert warm_up(PREDICTOR, fake(), version(tmp_path, b"")) == 0


@pytest.mark.parametrize(("data", "code", "message"), [
    (record(predict_log(name="nope")), Code.FAILED_PRECONDITION, 'Serving signature key "nope" not found.'),
    (b"this is not a record file", Code.DATA_LOSS,
     "corrupted record at 0 (Is this even a TFRecord file?). Please verify your warmup data is in TFRecord format."),
    (record(b"")[:7], Code.DATA_LOSS, "corrupted record at 0 (Is this even a TFRecord file?)."),
    (record(b"") + record(predict_log())[:-5], Code.DATA_LOSS, "corrupted record at 16. Please verify your warmup data "
     "is in TFRecord format."),
    (record(b"\xff\xff"), Code.INVALID_ARGUMENT, "Failed to parse warmup record"),
    (record(b"") * 1001, Code.INVALID_ARGUMENT, "Number of warmup records exceeds the maximum (1000)"),
    (record(prediction_log_pb2.PredictionLog(session_run_log={}).SerializeToString()), Code.UNIMPLEMENTED,
     "Unsupported log_type for warmup: 5"),
])
def test_a_record_that_cannot_be_replayed_fails_the_load(tmp_path: Path, data: bytes, code: Code, message: str) -> None:
    with pytest.raises(ServingError) as error:
        warm_up(PREDICTOR, fake(), version(tmp_path, data))
    assert error.value.code is code
    assert error.value.message.startswith(message)
