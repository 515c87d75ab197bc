"""Warm-up records: requests that TensorFlow Serving runs before it serves a version, so that no client has to wait."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from export.tensors import Array
from version_directory import WARMUP

Request = tuple[str, Mapping[str, Array]]  # a signature's key and its inputs


def write(version: Path, requests: Iterable[Request]) -> int:
    """Writes predict requests as a version's warm-up records, replacing existing ones; returns how many."""
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    from export.runtime import tf, writing
    target = version / WARMUP
    target.parent.mkdir(exist_ok=True)
    count = 0
    with writing(target), tf.io.TFRecordWriter(str(target)) as writer:
        for signature, inputs in requests:
            log = PredictionLog()
            request = log.predict_log.request
            request.model_spec.signature_name = signature
            for key, value in inputs.items():
                request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
            writer.write(log.SerializeToString())
            count += 1
    return count
