"""Warm-up: recorded requests are run before a version is served, so that no client waits for one-time costs.

The file is the one TensorFlow Serving reads: assets.extra/tf_serving_warmup_requests, a TFRecord of PredictionLog.
"""
from pathlib import Path

from google.protobuf.message import DecodeError

from serving import messages, tfrecord
from serving.errors import Code, ServingError, invalid
from serving.predictor import Predictor
from serving.protos import prediction_log_pb2
from serving.servable import Servable
from version_directory import WARMUP

MOST_RECORDS = 1000


def warm_up(predictor: Predictor, servable: Servable, version: Path, iterations: int = 1) -> int:
    """Runs each recorded request `iterations` times; returns how many records there were.

    Raises ServingError if a record cannot be read or answered; the version is then not served.
    """
    path = version / WARMUP
    if not path.is_file():
        return 0
    count = 0
    try:
        for record in tfrecord.read(path):
            count += 1
            if count > MOST_RECORDS:
                raise invalid(f"Number of warmup records exceeds the maximum ({MOST_RECORDS}) at {path}")
            log = prediction_log_pb2.PredictionLog.FromString(record)
            for _ in range(max(iterations, 1)):
                try:
                    _replay(predictor, servable, log)
                except ServingError as error:
                    # The message is the original's, which names neither the file nor the record; the advice does,
                    # unless it is known what is wrong, and that it is not the record.
                    raise ServingError(error.code, error.message, error.advice or _advice(path, count)) from None
    except tfrecord.CorruptedRecordError as error:
        hint = "" if error.offset else " (Is this even a TFRecord file?)"
        raise ServingError(Code.DATA_LOSS, f"corrupted record at {error.offset}{hint}. Please verify your warmup data "
                           "is in TFRecord format.", _advice(path, count + 1)) from None
    except DecodeError:
        raise invalid(f"Failed to parse warmup record: {path}", _advice(path, count)) from None
    return count


def _advice(path: Path, record: int) -> str:
    return (f"It was warm-up record {record} of {path} that failed: write that file again (python -m serving record), "
            "take it away, or give --enable_model_warmup=false.")


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
            number = log.DESCRIPTOR.fields_by_name[other].number
            raise ServingError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {number}")
