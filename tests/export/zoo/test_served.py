"""The reference models with more than numbers and one answer, as the embedded server serves them."""
import json
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from running_server import PREDICT, request, serving

from serving.client.payloads import load_samples
from serving.protos import predict_pb2
from serving.tensor_proto import to_ndarray
from version_directory import REQUEST, SAMPLES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")]


def over_rest(port: int, body: dict[str, Any] | bytes) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models/original:predict", data, timeout=60) as answer:
        return json.load(answer)["predictions"]


def over_grpc(port: int, signature: str = "", **inputs: Any) -> dict[str, np.ndarray]:
    with closing(grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.enable_http_proxy", 0)])) as channel:
        answer = channel.unary_unary(PREDICT)(request("original", signature, **inputs), timeout=60)
    return {key: to_ndarray(value) for key, value in predict_pb2.PredictResponse.FromString(answer).outputs.items()}


def test_detections_are_equal_over_rest_and_grpc(built: Callable[[str], Path]) -> None:
    version = built("detector")
    pictures = load_samples(version / SAMPLES)["inputs"][:2]
    with serving(version.parent.parent, "original") as (_, flags):
        found = over_grpc(flags.port, "detection", inputs=pictures)
        rows = over_rest(flags.rest_api_port, {"signature_name": "detection", "instances": pictures.tolist()})
    assert {key: (value.shape, value.dtype) for key, value in found.items()} == {
        "detection_boxes": ((2, 100, 4), np.float32), "detection_scores": ((2, 100), np.float32),
        "detection_classes": ((2, 100), np.float32), "num_detections": ((2,), np.float32)}
    assert found["num_detections"].min() > 0
    for index, row in enumerate(rows):
        assert row["num_detections"] == found["num_detections"][index]
        for key, value in row.items():
            np.testing.assert_allclose(value, found[key][index], rtol=1e-6, atol=1e-6)


def test_texts_are_classified_over_rest_and_grpc(built: Callable[[str], Path]) -> None:
    version = built("text_classifier")
    samples = load_samples(version / SAMPLES)
    texts, labels = samples["text"][:50], samples["labels"][:50]
    with serving(version.parent.parent, "original") as (_, flags):
        found = over_grpc(flags.port, text=texts)["probabilities"]
        rows = over_rest(flags.rest_api_port, {"instances": [text.decode() for text in texts]})
        (first,) = over_rest(flags.rest_api_port, (version / REQUEST).read_bytes())
    assert (found.argmax(1) == labels).mean() > 0.85
    np.testing.assert_allclose(rows, found, atol=1e-6)
    np.testing.assert_allclose(first, found[0], atol=1e-5)
