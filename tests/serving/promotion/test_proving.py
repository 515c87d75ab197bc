"""What a version is measured with."""
from dataclasses import replace

import numpy as np
import pytest

from serving.client.payloads import TensorSpec
from serving.client.protocol import Signature
from serving.promotion.proving import _sendable
from serving.promotion.settings import Latency

LIMITS = Latency(0.95, 20.0, 2, 1, "grpc")


@pytest.mark.parametrize(("first", "asked", "batch"), [(-1, 1, 1), (8, 1, 8), (8, 8, 8), (8, 16, 8)])
def test_a_signature_of_one_batch_size_is_measured_with_that(first: int, asked: int, batch: int) -> None:
    found = {"serving_default": Signature("predict", {"x": TensorSpec(np.dtype(np.float32), (first, 3))}, {})}
    assert _sendable(replace(LIMITS, batch=asked), found).batch == batch
    assert _sendable(replace(LIMITS, batch=asked), {}).batch == asked
