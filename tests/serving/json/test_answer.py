"""Answers -> JSON: numbers as printed by C++, layouts, and what cannot be written."""
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from serving.errors import ServingError
from serving.json.answer import classifications, decimal, decimals, error, predictions, regressions, status
from serving.protos import classification_pb2, regression_pb2
from serving.servable import VersionStatus, string_array

FLOATS = {np.float32: 9, np.float64: 17}


@pytest.mark.parametrize("dtype", FLOATS)
def test_arrays_of_numbers_are_printed_as_single_numbers_are(dtype: Any) -> None:
    """Over magnitudes, decimals of few digits, neighbours of powers of ten and whole numbers."""
    random = np.random.default_rng(3)
    exponents = np.arange(*((-37, 38) if dtype is np.float32 else (-307, 308)))
    powers = np.array([float(f"1e{e}") for e in exponents])
    values = np.concatenate([
        random.choice(powers, 4000) * random.uniform(1, 10, 4000), powers, np.nextafter(powers.astype(dtype), 0),
        np.nextafter(powers.astype(dtype), np.inf), np.round(random.uniform(-10, 10, 4000), 5),
        random.integers(-10**12, 10**12, 2000), random.integers(-2000, 2000, 2000) / 8, -powers]).astype(dtype)
    values = np.concatenate([values, np.array([0.0, -0.0, math.nan, -math.nan, math.inf, -math.inf], dtype)])
    assert decimals(values) == [decimal(value, np.dtype(dtype)) for value in values.tolist()]


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.sampled_from(list(FLOATS)).flatmap(lambda d: npst.from_dtype(np.dtype(d)).map(lambda v: (d, v))))
def test_a_number_has_six_digits_if_these_are_read_back_unchanged_and_more_otherwise(made: tuple[Any, Any]) -> None:
    dtype, value = made
    text = decimal(float(value), np.dtype(dtype))
    if math.isnan(value):
        assert text == "NaN"
    elif math.isinf(value):
        assert text == ("Infinity" if value > 0 else "-Infinity")
    elif 0 < abs(value) < np.finfo(dtype).tiny:
        assert text in ("0.0", "-0.0")  # flushed to zero, as in the original
    else:
        assert dtype(text) == value
        assert set(text) & set(".e")
        digits = text.lstrip("-").partition("e")[0].replace(".", "").strip("0")
        assert len(digits) <= FLOATS[dtype]
        if dtype(f"{float(value):.6g}") == value:
            assert len(digits) <= 6


@settings(derandomize=True, deadline=None, max_examples=150)
@given(npst.arrays(st.sampled_from([np.float32, np.int8, np.int64, np.uint64, np.bool_]),
                   npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
                   elements={"allow_nan": False, "allow_infinity": False, "allow_subnormal": False}), st.booleans(),
       st.booleans())
def test_a_parser_reads_back_what_was_written(array: Any, row: bool, two: bool) -> None:
    outputs = {"y": array, "z": array[..., None]} if two else {"y": array}
    if row and array.ndim == 0:
        with pytest.raises(ServingError, match="Tensor name: y has no shape information "):
            predictions(outputs, row)
        return
    found = json.loads(predictions(outputs, row))
    if row:
        rows = found["predictions"]
        assert len(rows) == len(array)
        columns = {name: [r[name] for r in rows] for name in outputs} if two else {"y": rows}
    else:
        columns = found["outputs"] if two else {"y": found["outputs"]}
    for name, values in columns.items():
        np.testing.assert_array_equal(np.array(values, outputs[name].dtype).reshape(outputs[name].shape), outputs[name])


def test_layouts() -> None:
    array = np.array([[1, 2], [3, 4]], np.int32)
    assert predictions({"y": array}, True) == b'{\n    "predictions": [[1, 2], [3, 4]\n    ]\n}'
    assert predictions({"y": array[:1, :1], "z": array[0, :1]}, True) == (
        b'{\n    "predictions": [\n        {\n            "y": [1],\n            "z": 1\n        }\n    ]\n}')
    assert predictions({"y": array[0]}, False) == b'{\n    "outputs": [\n        1,\n        2\n    ]\n}'
    assert predictions({"y": array[0, 0], "z": array[:0]}, False) == (
        b'{\n    "outputs": {\n        "y": 1,\n        "z": []\n    }\n}')
    word = string_array([b"hi"])
    assert predictions({"y_bytes": word}, True) == (
        b'{\n    "predictions": [{\n            "b64": "aGk="\n        }\n    ]\n}')
    assert predictions({"y_bytes": word}, False) == (
        b'{\n    "outputs": [\n        {\n            "b64": "aGk="\n        }\n    ]\n}')


@pytest.mark.parametrize("dtype", [np.float16, np.uint16, np.complex64, np.complex128])
def test_types_that_json_cannot_hold(dtype: Any) -> None:
    with pytest.raises(ServingError, match=r"Failed to write JSON value for tensor type: (half|uint16|complex)"):
        predictions({"y": np.zeros(1, dtype)}, True)
    assert predictions({"y": np.zeros(0, dtype)}, True) == b'{\n    "predictions": []\n}'


def test_an_answer_is_always_json() -> None:
    for value in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80"):
        with pytest.raises(ServingError, match=r"Output y holds bytes that are not UTF-8 text.*_bytes"):
            predictions({"y": string_array([value])}, True)
        assert json.loads(predictions({"y_bytes": string_array([value])}, True))
    assert json.loads(error('said "\udcff"\n'))["error"] == 'said "\ufffd"\n'


def test_outputs_of_unequal_length_have_no_rows() -> None:
    with pytest.raises(ServingError, match="Tensor name: z has inconsistent batch size: 1 expecting: 2"):
        predictions({"y": np.zeros(2), "z": np.zeros(1)}, True)


def test_results_of_classify_and_regress() -> None:
    result = classification_pb2.ClassificationResult()
    first, _ = result.classifications.add(), result.classifications.add()
    first.classes.add(label='a"b', score=0.1)
    first.classes.add(label="", score=math.nan)
    assert classifications(result) == b'{\n    "results": [[["a\\"b", 0.1], ["", NaN]], []\n    ]\n}'
    values = regression_pb2.RegressionResult(regressions=[{"value": 1.0}, {"value": -math.inf}])
    assert regressions(values) == b'{\n    "results": [1.0, -Infinity]\n}'
    for empty, write, name in ((type(result)(), classifications, "Classification"), (type(values)(), regressions,
                                                                                    "Regression")):
        with pytest.raises(ServingError, match=f"Cannot convert empty {name}Results to JSON"):
            write(empty)


def test_status_has_protobufs_layout() -> None:
    assert status([VersionStatus(3, "LOADING", message="<é>")]) == (
        '{\n "model_version_status": [\n  {\n   "version": "3",\n   "state": "LOADING",\n   "status": {\n    '
        '"error_code": "OK",\n    "error_message": "\\u003cé\\u003e"\n   }\n  }\n ]\n}\n').encode()
