"""Preflight: what a version must not do, and what clients may rely on."""
import numpy as np
import pytest

from serving.client.payloads import TensorSpec
from serving.client.protocol import Signature
from serving.promotion import preflight
from serving.promotion.errors import GateFailedError

X, Y = TensorSpec(np.dtype(np.float32), (-1, 4)), TensorSpec(np.dtype(np.float32), (-1, 2))
OLD = {"serving_default": Signature("predict", {"x": X}, {"y": Y})}


@pytest.mark.parametrize("new", [
    OLD, OLD | {"more": OLD["serving_default"]},
    {"serving_default": Signature("predict", {"x": X}, {"y": Y, "z": Y})}])
def test_clients_need_not_change(new: dict[str, Signature]) -> None:
    preflight.same_signatures(new, OLD)


@pytest.mark.parametrize(("new", "words"), [
    ({}, "signature 'serving_default' is gone"),
    ({"serving_default": Signature("predict", {"x": X, "k": X}, {"y": Y})}, "input 'k' of 'serving_default' is new"),
    ({"serving_default": Signature("predict", {}, {"y": Y})}, "input 'x' of 'serving_default' is gone"),
    ({"serving_default": Signature("predict", {"x": X}, {})}, "output 'y' of 'serving_default' is gone"),
    ({"serving_default": Signature("predict", {"x": Y}, {"y": Y})},
     r"input 'x' of 'serving_default' is float32 \[-1, 2\], and was float32 \[-1, 4\]"),
    ({"serving_default": Signature("predict", {"x": X}, {"y": TensorSpec(np.dtype(np.float64), (-1, 2))})},
     "is float64")])
def test_clients_would_have_to_change(new: dict[str, Signature], words: str) -> None:
    with pytest.raises(GateFailedError, match=words):
        preflight.same_signatures(new, OLD)
