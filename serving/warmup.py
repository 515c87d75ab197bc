"""Warm-up: the requests that a version carries are run before it is served, so that no client waits for the first.

They are TensorFlow Serving's: a TFRecord of PredictionLog in assets.extra/tf_serving_warmup_requests.
"""
import struct
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError

from serving import messages
from serving.errors import Code, ServingError, invalid
from serving.predictor import Predictor
from serving.protos import prediction_log_pb2
from serving.servable import Servable

FILE = Path("assets.extra", "tf_serving_warmup_requests")
MOST_RECORDS = 1000


def warm_up(predictor: Predictor, servable: Servable, version: Path, iterations: int = 1) -> int:
    """Runs each recorded request `iterations` times; returns how many records there were.

    Raises ServingError when a record cannot be read or answered: the version is not fit to be served.
    """
    path = version / FILE
    if not path.is_file():
        return 0
    count = 0
    for record in _records(path.read_bytes()):
        count += 1
        if count > MOST_RECORDS:
            raise invalid(f"Number of warmup records exceeds the maximum ({MOST_RECORDS}) at {path}")
        try:
            log = prediction_log_pb2.PredictionLog.FromString(record)
        except DecodeError:
            raise invalid(f"Failed to parse warmup record: {path}") from None
        for _ in range(iterations):
            _replay(predictor, servable, log)
    return count


def _replay(predictor: Predictor, servable: Servable, log: prediction_log_pb2.PredictionLog) -> None:
    match log.WhichOneof("log_type"):
        case "predict_log":
            messages.predict(predictor, servable, log.predict_log.request)
        case "classify_log":
            messages.classify(predictor, servable, log.classify_log.request)
        case "regress_log":
            messages.regress(predictor, servable, log.regress_log.request)
        case "multi_inference_log":
            messages.multi_inference(predictor, servable, log.multi_inference_log.request)
        case None:
            pass
        case other:
            raise ServingError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {other}")


def _records(data: bytes) -> Iterator[bytes]:
    """The records of a TFRecord file: length, its checksum, bytes, their checksum.

    The lengths' checksums are checked: they tell a TFRecord file from any other. The bytes' checksums are not
    (in Python that would take a minute for a big file); a damaged record does not parse.
    """
    at = 0
    while at < len(data):
        header = data[at:at + 12]
        if len(header) < 12:
            raise _corrupted(at, "")
        length, checksum = struct.unpack("<QI", header)
        if _masked_crc32c(header[:8]) != checksum:
            raise _corrupted(at, " (Is this even a TFRecord file?)")
        record = data[at + 12:at + 12 + length]
        if len(data) < at + 16 + length:
            raise _corrupted(at, "")
        yield record
        at += 16 + length


def _corrupted(at: int, hint: str) -> ServingError:
    return ServingError(Code.DATA_LOSS, f"corrupted record at {at}{hint}. Please verify your warmup data is in "
                        "TFRecord format.")


def _masked_crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
