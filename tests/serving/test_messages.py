"""Arrays are written into the same fields of answers as by the original, and TensorFlow reads them back."""
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from fake_servable import FakeServable, signature
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from serving import messages
from serving.errors import ServingError
from serving.predictor import Predictor
from serving.protos import model_pb2, predict_pb2, tensor_pb2, types_pb2
from serving.servable import ModelSpec
from serving.tensor_proto import to_ndarray, to_proto

NUMBERS = [np.dtype(kind) for kind in (
    "f4", "f8", "f2", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "c8", "c16", ml_dtypes.bfloat16)]


@settings(derandomize=True, max_examples=200)
@given(st.sampled_from(NUMBERS), npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4), st.randoms())
def test_typed_fields_have_the_same_values_as_tensor_content(
        dtype: np.dtype[Any], shape: tuple[int, ...], random: Any) -> None:
    size = int(np.prod(shape)) * dtype.itemsize
    raw = bytes(random.randrange(2) for _ in range(size)) if dtype.kind == "b" else random.randbytes(size)
    array = np.frombuffer(raw, dtype).reshape(shape)
    typed = tensor_pb2.TensorProto()
    messages.write_fields(typed, array)
    assert typed.tensor_content == b""
    back, other = to_ndarray(tensor_pb2.TensorProto.FromString(typed.SerializeToString())), to_ndarray(to_proto(array))
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert other.tobytes() == back.tobytes()


@pytest.mark.parametrize("write", [messages.write_fields, messages._write_content])
def test_strings(write: Any) -> None:
    array = np.array([[b"a", b"\xff\0"], [b"", b"x" * 200]], object)
    proto = tensor_pb2.TensorProto()
    write(proto, array)
    assert to_ndarray(proto).tolist() == array.tolist()


def test_narrow_types_are_read_back() -> None:
    array = np.array([1, -2], ml_dtypes.int4)
    proto = tensor_pb2.TensorProto()
    messages.write_fields(proto, array)
    assert to_ndarray(proto).astype(int).tolist() == [1, -2]


@pytest.mark.parametrize(("text", "spec"), [
    ({"name": "m"}, ModelSpec("m")),
    ({"name": "m", "version": {"value": 0}}, ModelSpec("m", 0)),
    ({"name": "m", "version_label": "a", "signature_name": "s"}, ModelSpec("m", label="a", signature_name="s")),
    ({"name": "m", "version_label": ""}, ModelSpec("m", label="")),
])
def test_model_specs(text: dict[str, Any], spec: ModelSpec) -> None:
    assert messages.model_spec(model_pb2.ModelSpec(**text)) == spec


def test_an_input_that_cannot_be_read_is_named() -> None:
    fake = FakeServable(signatures={"serving_default": signature()})
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].CopyFrom(tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_content=b"123"))
    with pytest.raises(ServingError, match="tensor parsing error: x"):
        messages.predict(Predictor(None), fake, request)  # type: ignore[arg-type]


def test_the_error_for_a_variant_names_the_wanted_type() -> None:
    fake = FakeServable(signatures={"serving_default": signature()})
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].dtype = types_pb2.DT_VARIANT
    with pytest.raises(ServingError, match=r"Expects arg\[0\] to be float but variant is provided"):
        messages.predict(Predictor(None), fake, request)  # type: ignore[arg-type]


def test_an_input_that_is_not_used_is_not_read() -> None:
    fake = FakeServable(signatures={"serving_default": signature(("x", "z"), defaults={"z": np.ones(1)})})
    request = predict_pb2.PredictRequest()
    request.inputs["x"].CopyFrom(to_proto(np.ones(1, np.float32)))
    request.inputs["unknown"].CopyFrom(tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_content=b"123"))
    response = messages.predict(Predictor(None), fake, request)  # type: ignore[arg-type]
    assert to_ndarray(response.outputs["y"]).tolist() == [2.0]
