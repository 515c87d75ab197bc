"""Bodies -> tensors: the fast parsers and the exact parser agree, and errors have the original's messages."""
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any
from unittest import mock

import numpy as np
import pytest
from echo_store import SIGNATURES, TYPES, data_type
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import Code, ServingError
from serving.json import numbers, tensor
from serving.json.tensor import PredictBody
from serving.json.values import ELEMENT_TYPES, decode_base64
from serving.servable import TensorSpec

SIZES = st.lists(st.integers(0, 4), min_size=0, max_size=3)


def parse(body: bytes | str, signature: str = "serving_default") -> dict[str, Any]:
    read = PredictBody(body if isinstance(body, bytes) else body.encode())
    return read.inputs(SIGNATURES[read.signature_name or signature].inputs)


def outcome(body: bytes, signature: str, ways: Sequence[str]) -> Any:
    """The result for a body in a form that can be compared: arrays bit by bit, or the error.

    `ways`: which of the fast parsers ("find_array", "parse_plain") may be used.
    """
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(tensor, "_SMALL", 0))
        for closed in {"find_array", "parse_plain"}.difference(ways):
            stack.enter_context(mock.patch.object(numbers, closed, return_value=None))
        try:
            inputs = parse(body, signature)
        except ServingError as error:
            return error.code, error.message
    return {alias: (array.dtype, array.shape, array.tolist() if array.dtype == object else array.tobytes())
            for alias, array in inputs.items()}


def check_all_ways(body: bytes, signature: str) -> None:
    exact = outcome(body, signature, [])
    assert outcome(body, signature, ["parse_plain"]) == exact
    assert outcome(body, signature, ["parse_plain", "find_array"]) == exact


SPOILT = st.sampled_from([None, True, 1, 1.5, "1", {}, {"b64": "aGk="}, {"b64": "?"}, [], [1], 2**63, -1, 300])


def elements(dtype: str) -> st.SearchStrategy[Any]:
    """Elements that fit a type."""
    kind = ELEMENT_TYPES.get(data_type(dtype))
    if kind is not None and kind.high:
        return st.integers(kind.low, kind.high)
    return {"float": st.floats(width=32) | st.floats() | st.integers(-2**63, 2**64 - 1), "double": st.floats(),
            "bool": st.booleans()}.get(dtype, st.text(st.characters(exclude_categories=["Cs"])))


@st.composite
def values(draw: st.DrawFn, dtype: str) -> Any:
    """A regular list of elements that fit the type, sometimes with a defect."""
    element = elements(dtype) | SPOILT if draw(st.integers(0, 9)) == 0 else elements(dtype)

    def fill(sizes: list[int]) -> Any:
        return [fill(sizes[1:]) for _ in range(sizes[0])] if sizes else draw(element)

    made = fill(draw(SIZES))
    return [made, draw(SPOILT)] if draw(st.integers(0, 9)) == 0 else made


@st.composite
def bodies(draw: st.DrawFn) -> tuple[str, bytes]:
    dtype = draw(st.sampled_from(TYPES))
    value = draw(values(dtype))
    match draw(st.integers(0, 3)):
        case 0:
            doc: dict[str, Any] = {"instances": value}
        case 1:
            doc = {"instances": [{"x": row} for row in value] if isinstance(value, list) else [{"x": value}]}
        case 2:
            doc = {"inputs": value}
        case _:
            doc = {"inputs": {"x": value}}
    if draw(st.booleans()):
        doc["signature_name"] = dtype
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:")]))
    return dtype, json.dumps(doc, separators=separators, ensure_ascii=draw(st.booleans())).encode()


@settings(derandomize=True, deadline=None, max_examples=500)
@given(bodies())
def test_the_fast_parsers_and_the_exact_parser_agree(made: tuple[str, bytes]) -> None:
    signature, body = made
    check_all_ways(body, signature)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(1, 25))
def test_floats_are_rounded_as_the_exact_parser_rounds(value: float, digits: int) -> None:
    body = f'{{"instances": [{value:.{digits}e}, {value:.{digits}g}]}}'.encode()
    for signature in ("float", "double"):
        check_all_ways(body, signature)


@pytest.fixture
def no_python_values() -> Iterator[None]:
    with mock.patch.object(numbers, "parse_plain", side_effect=AssertionError("the numbers became Python objects")), \
            mock.patch.object(tensor, "_SMALL", 0):
        yield


@pytest.mark.usefixtures("no_python_values")
@pytest.mark.parametrize("shape", [(1,), (7,), (1, 1), (3, 1), (1, 3), (2, 3, 4), (100, 28, 28), (5, 1, 1, 2)])
@pytest.mark.parametrize("dtype", ["float", "double", "int8", "uint8", "int32", "int64", "uint64"])
@pytest.mark.parametrize("doc", [
    '{"instances": %s}', '{"signature_name": "NAME", "instances":%s }', ' {"inputs": %s, "signature_name":"NAME"}\n'])
def test_plain_arrays_never_become_python_objects(shape: tuple[int, ...], dtype: str, doc: str) -> None:
    array = (np.arange(math.prod(shape)).reshape(shape) % 120).astype(ELEMENT_TYPES[data_type(dtype)].dtype)
    body = PredictBody((doc.replace("NAME", dtype) % json.dumps(array.tolist())).encode())
    request = body.inputs(SIGNATURES[dtype].inputs)
    np.testing.assert_array_equal(request["x"], array)
    assert request["x"].dtype == array.dtype
    assert body.row == ("instances" in doc)


@pytest.mark.parametrize("text", ["[[1,2],[3]]", "[[1,2],3]", "[[1,2],[3,4,5],[6]]", "[[[1]],[2]]", "[[1],[]]",
                                  "[1,true]", "[1,null]", '[1,"2"]', "[[1,[2]],[3,4]]", "[1,{}]", "[[],[1]]"])
def test_an_irregular_array_is_never_taken_for_a_regular_one(text: str) -> None:
    for form in ("instances", "inputs"):
        with pytest.raises(ServingError) as caught:
            parse(f'{{"{form}": {text}}}')
        assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(("body", "message"), [
    ('{"instances": [{"a": [1.0], "b": 1}, {"a": [1.0, 2.0], "b": 1}]}',
     "Failed to process element: 1 key: a of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: 1 "
     "but got: 2"),
    ('{"instances": [1]}', "instances is a plain list, but expecting list of objects as multiple input tensors "
     "required as per tensorinfo_map"),
    ('{"inputs": [1]}', "inputs is a plain value/list, but expecting an object as multiple input tensors required as "
     "per tensorinfo_map"),
    ('{"instances": [{"a": 1.0, "b": 1, "b": 2}, {"a": 1.0}]}',
     "Failed to process element: 1 of 'instances' list. JSON object: {\n    \"a\": 1.0\n} keys must be equal to: a,b"),
])
def test_two_inputs(body: str, message: str) -> None:
    with pytest.raises(ServingError) as caught:
        parse(body, "pair")
    assert caught.value.message == message


def test_a_name_given_twice_adds_values_but_not_rows() -> None:
    request = parse('{"instances": [{"a": 1.0, "a": 2.0, "b": 1}, {"a": 3.0, "b": 2}]}', "pair")
    assert request["a"].tolist() == [1.0, 2.0]
    assert request["b"].tolist() == [1, 2]


@pytest.mark.parametrize(("dtype", "number", "taken"), [
    ("int8", 127, True), ("int8", 128, False), ("int8", -129, False), ("uint8", 255, True), ("uint8", 256, False),
    ("uint8", -1, False), ("int16", -32768, True), ("int16", 32768, False), ("int32", 2**31, False),
    ("uint32", 2**32 - 1, True), ("uint32", -1, False), ("int64", 2**63, False), ("uint64", 2**64 - 1, True)])
def test_integers_are_refused_never_wrapped(dtype: str, number: int, taken: bool) -> None:
    for body in (f'{{"instances": [{number}]}}', f'{{"inputs": {{"x": [[{number}]]}}}}'):
        if taken:
            assert parse(body, dtype)["x"].ravel().tolist() == [number]
        else:
            with pytest.raises(ServingError, match=f"JSON Value: {number} Type: Number is not of expected type"):
                parse(body, dtype)


@pytest.mark.parametrize(("rank", "message"), [
    (64, ""), (65, "tensor parsing error: x"), (20_000, "tensor parsing error: x")])
def test_nesting_is_limited_to_numpys_highest_rank(rank: int, message: str) -> None:
    body = '{"inputs": ' + "[" * rank + "1.0" + "]" * rank + "}"
    if message:
        with pytest.raises(ServingError, match=message):
            parse(body)
    else:
        assert parse(body)["x"].ndim == rank


@pytest.mark.parametrize(("text", "value"), [
    ("", b""), ("aGk=", b"hi"), ("aGk", b"hi"), ("aGk.", b"hi"), (" a G\nk =\t", b"hi"), ("aGl=", b"hi"),
    ("+/+/", b"\xfb\xff\xbf"),
    ("a", None), ("aGk==", None), ("aA=", None), ("aGk=aGk=", None), ("-_-_", None), ("aGk\xa0", None), ("=", None)])
def test_base64(text: str, value: bytes | None) -> None:
    if value is None:
        with pytest.raises(ServingError, match="Unable to base64 decode"):
            decode_base64(text)
    else:
        assert decode_base64(text) == value


@pytest.mark.parametrize("depth", [65, 254, 255, 5000])
def test_lists_nested_far_deeper_than_any_tensor_are_refused(depth: int) -> None:
    body = b'{"inputs": ' + b"[" * depth + b"1" + b"]" * depth + b"}"
    with pytest.raises(ServingError, match="tensor parsing error: x"):
        PredictBody(body).inputs({"x": TensorSpec("x:0", 1, None)})
