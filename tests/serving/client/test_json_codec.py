"""Requests as TensorFlow Serving reads them, answers as it writes them."""
import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from serving.client import json_codec
from serving.client.payloads import TensorSpec
from user_error import UserError

F32, I64, STR = np.dtype(np.float32), np.dtype(np.int64), np.dtype(object)


def strings(*values: bytes) -> Any:
    array = np.empty(len(values), object)
    array[:] = values
    return array


@pytest.mark.parametrize(("inputs", "body"), [
    ({"x": np.array([[1.5, 2]], np.float32)}, {"instances": [[1.5, 2.0]]}),
    ({"x": np.array([1, 2], np.int64), "y": np.array([[3.0], [4]], np.float32)},
     {"instances": [{"x": 1, "y": [3.0]}, {"x": 2, "y": [4.0]}]}),
    ({"x": np.array([1, 2]), "y": np.array([3])}, {"inputs": {"x": [1, 2], "y": [3]}}),
    ({"x": np.float32(2)}, {"inputs": {"x": 2.0}}),
    ({"x": strings(b"ab", b"\xff")}, {"instances": ["ab", {"b64": "/w=="}]}),
    ({"x": np.array([True, False])}, {"instances": [True, False]}),
    ({"x": np.array([1, 2], ml_dtypes.bfloat16)}, {"instances": [1.0, 2.0]}),
    ({"x": np.array([1, -2], np.int8)}, {"instances": [1, -2]}),
    ({"x": np.array([2**64 - 1], np.uint64)}, {"instances": [2**64 - 1]}),
    ({"x": np.array([1], [("qint8", np.int8)])}, {"instances": [1]}),
    ({"x": np.arange(6.0).reshape(2, 3).T}, {"instances": [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]}),
    ({"x": np.zeros((0, 3), np.float32)}, {"instances": []}),
])
def test_request_bodies(inputs: Any, body: Any) -> None:
    # As text: 1 == True in Python, but not on the server.
    assert json.dumps(json.loads(json_codec.request_body(inputs))) == json.dumps(body)


def test_column_layout_and_signature_name() -> None:
    body = json.loads(json_codec.request_body({"x": np.array([1, 2])}, "other", layout="column"))
    assert body == {"signature_name": "other", "inputs": {"x": [1, 2]}}


def test_nan_and_infinity_are_written_as_the_server_reads_them() -> None:
    body = json_codec.request_body({"x": np.array([np.nan, np.inf, -np.inf, 1], np.float32), "y": np.arange(4)})
    assert b"null" not in body
    assert body.count(b"NaN") == 1
    assert body.count(b"Infinity") == 2


def test_float32_survives_the_text() -> None:
    values = np.frombuffer(np.random.default_rng(1).bytes(4000), np.float32)
    values = values[np.isfinite(values)]
    body = json_codec.request_body({"x": values})
    assert np.array_equal(np.array(json.loads(body)["instances"], np.float32), values)


def test_complex_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON has no complex64: use gRPC"):
        json_codec.request_body({"x": np.zeros(2, np.complex64)})


@pytest.mark.parametrize(("answer", "specs", "expected"), [
    ({"predictions": [[1, 2], [3, 4]]}, {"y": TensorSpec(F32, (-1, 2))}, {"y": [[1.0, 2.0], [3.0, 4.0]]}),
    ({"outputs": [[1, 2]]}, {"y": TensorSpec(F32, (-1, 2))}, {"y": [[1.0, 2.0]]}),
    ({"predictions": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]},
     {"a": TensorSpec(I64, (-1,)), "b": TensorSpec(STR, (-1,))}, {"a": [1, 2], "b": [b"x", b"y"]}),
    ({"outputs": {"a": 7, "b": [["x"], [{"b64": "/w=="}]]}},
     {"a": TensorSpec(I64, ()), "b": TensorSpec(STR, None)}, {"a": 7, "b": [[b"x"], [b"\xff"]]}),
    ({"outputs": {"b64": "/w=="}}, {"y": TensorSpec(STR, ())}, {"y": b"\xff"}),
    ({"predictions": []}, {"y": TensorSpec(F32, (-1, 0))}, {"y": []}),
])
def test_answers(answer: Any, specs: Any, expected: Any) -> None:
    outputs = json_codec.outputs(json.dumps(answer).encode(), specs)
    assert {name: array.tolist() for name, array in outputs.items()} == expected
    assert all(outputs[name].dtype == spec.dtype for name, spec in specs.items())


def test_no_rows_keep_the_further_axes_of_the_signature() -> None:
    outputs = json_codec.outputs(b'{"predictions": []}', {"y": TensorSpec(F32, (-1, 10))})
    assert outputs["y"].shape == (0, 10)


def test_nan_in_answers() -> None:
    outputs = json_codec.outputs(b'{"predictions": [NaN, Infinity, -Infinity]}', {"y": TensorSpec(F32, (-1,))})
    assert np.isnan(outputs["y"][0])
    assert outputs["y"][1:].tolist() == [np.inf, -np.inf]


@pytest.mark.parametrize(("raw", "words"), [
    (b"not json", "the answer is no JSON object: b'not json'"),
    (b"[1]", "no JSON object"),
    (b'{"result": 1}', "neither 'predictions' nor 'outputs'"),
    (b'{"outputs": {"a": 1}}', "the answer has no output 'b'; it has: a"),
])
def test_other_answers_are_refused(raw: bytes, words: str) -> None:
    with pytest.raises(UserError, match=words):
        json_codec.outputs(raw, {"a": TensorSpec(I64, ()), "b": TensorSpec(I64, ())})


METADATA = {"model_spec": {"name": "m", "signature_name": "", "version": "3"}, "metadata": {"signature_def": {
    "signature_def": {"serving_default": {
        "inputs": {"x": {"dtype": "DT_STRING", "tensor_shape": {"dim": [], "unknown_rank": True}, "name": "x:0"}},
        "outputs": {"y": {"dtype": "DT_BFLOAT16", "name": "y:0", "tensor_shape": {
            "dim": [{"size": "-1", "name": ""}, {"size": "10", "name": ""}], "unknown_rank": False}}},
        "method_name": "tensorflow/serving/predict"}}}}}


def test_metadata() -> None:
    metadata = json_codec.metadata(json.dumps(METADATA).encode())
    assert (metadata.model, metadata.version) == ("m", 3)
    assert metadata.signature().inputs == {"x": TensorSpec(STR, None)}
    assert metadata.signature().outputs == {"y": TensorSpec(np.dtype(ml_dtypes.bfloat16), (-1, 10))}
    with pytest.raises(UserError, match="version 3 has no signature 'other'; it has: serving_default"):
        metadata.signature("other")


@pytest.mark.parametrize(("raw", "message"), [
    (b'{"error": "Servable not found"}', "Servable not found"),
    (b'{"error": {"code": 400, "message": "bad"}}', "bad"),
    (b"<html>Bad Gateway</html>", "<html>Bad Gateway</html>"), (b"\xff", "�"), (b'"text"', '"text"'),
])
def test_error_messages(raw: bytes, message: str) -> None:
    assert json_codec.error_message(raw) == message


def test_other_json_is_refused_as_status_and_as_metadata() -> None:
    for parse in (json_codec.status, json_codec.metadata):
        with pytest.raises(UserError, match="this is no"):
            parse(b'{"a": 1}')  # type: ignore[operator]


def test_values_for_any_json_reader() -> None:
    values = json_codec.plain_values(np.array([1.5, np.nan, np.inf], np.float32))
    assert values == [1.5, "nan", "inf"]
    assert json_codec.plain_values(strings(b"a", b"\xff")) == ["a", {"b64": "/w=="}]
    assert json_codec.plain_values(np.array([1 + 2j])) == ["(1+2j)"]
    assert json_codec.plain_values(np.array(3, ml_dtypes.bfloat16)) == 3.0
