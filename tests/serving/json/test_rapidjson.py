"""The exact parser: RapidJSON's grammar, texts, offsets and numbers. (The recorded cases test many more.)"""
import json
import math
import struct
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from serving.json.rapidjson import JsonError, Repeated, members, parse
from serving.json.text import quote, string

JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-2**63, 2**64 - 1) | st.floats(-1e300, 1e300).filter(
        lambda x: x == 0 or abs(x) > 1e-300) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(
        st.characters(exclude_categories=["Cs"])), inner, max_size=6), max_leaves=20)


@pytest.mark.parametrize(("text", "message"), [
    (b"", "The document is empty"),
    (b" \n", "The document is empty. at offset: 2"),
    (b"\0", "The document is empty. at offset: 0"),
    (b"[1,]", "Invalid value. at offset: 3"),
    (b"[1 2]", "Missing a comma or ']' after an array element. at offset: 3"),
    (b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
    (b'{"a":1 "b":2}', "Missing a comma or '}' after an object member. at offset: 7"),
    (b'{"a":1,}', "Missing a name for object member. at offset: 7"),
    (b'["abc', "Missing a closing quotation mark in string. at offset: 5"),
    (b'["a\nb"]', "Invalid escape character in string. at offset: 3"),
    (b'["a\\qb"]', "Invalid escape character in string. at offset: 3"),
    (b'["\\u12g4"]', "Incorrect hex digit after \\u escape in string. at offset: 2"),
    (b'["\\ud83dx"]', "The surrogate pair in string is invalid. at offset: 2"),
    (b"[1.]", "Miss fraction part in number. at offset: 3"),
    (b"[1e]", "Miss exponent in number. at offset: 3"),
    (b"[1e+]", "Miss exponent in number. at offset: 4"),
    (b"[-]", "Invalid value. at offset: 2"),
    (b"[2, 1e309]", "Number too big to be stored in double. at offset: 4"),
    (b"[1" + b"0" * 400 + b"]", "Number too big to be stored in double. at offset: 1"),
    (b"[nul]", "Invalid value. at offset: 4"),
    (b"[Infinit]", "Invalid value. at offset: 8"),
    (b"[" * 100_000, "Invalid value. at offset: 100000"),
    (b"[" * 100_001, "Terminate parsing due to Handler error. at offset: 100001"),
])
def test_errors_and_their_offsets(text: bytes, message: str) -> None:
    with pytest.raises(JsonError) as caught:
        parse(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(("text", "value"), [
    (b"[1] and more", [1]),
    (b"\xef\xbb\xbf[1]", [1]),
    (b"[-NaN, Inf, -Infinity]", [math.nan, math.inf, -math.inf]),
    (b"[-0, 18446744073709551615]", [0, 2**64 - 1]),
    (b"[-0.0]", [-0.0]),
    (b"[18446744073709551616, -9223372036854775809]", [2.0**64, -(2.0**63)]),
    (b"[1e-400, 1e" + b"0" * 5000 + b"5]", [0.0, 1e5]),
    (b"[0." + b"3" * 9000 + b"]", [0.33333333333333331]),
    (b'["\\udc00"]', ["\udced\udcb0\udc80"]),  # a lone surrogate is accepted; its bytes are not UTF-8
    (b'["\xff"]', ["\udcff"]),
])
def test_accepted_json(text: bytes, value: Any) -> None:
    assert repr(parse(text)) == repr(value)


def test_deep_nesting_does_not_recurse() -> None:
    value = parse(b'{"a":[' * 50_000 + b"1" + b"]}" * 50_000)
    assert quote(value).startswith('{\n    "a": [{\n')


def test_repeated_names_keep_the_first_and_all() -> None:
    value = parse(b'{"a": 1, "b": 2, "a": 3}')
    assert isinstance(value, Repeated)
    assert value == {"a": 1, "b": 2}
    assert list(members(value)) == [("a", 1), ("b", 2), ("a", 3)]


@settings(derandomize=True, deadline=None, max_examples=300)
@given(JSON_VALUES, st.booleans())
def test_json_is_read_as_python_reads_it(value: Any, ascii_only: bool) -> None:
    assert _alike(parse(json.dumps(value, ensure_ascii=ascii_only).encode()), value)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.integers(0, 2**64 - 1))
def test_a_quoted_double_is_read_back_unchanged(bits: int) -> None:
    (value,) = struct.unpack("<d", struct.pack("<Q", bits))
    assume(math.isfinite(value))
    assert float(quote(value)) == value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_quote_ends_where_a_number_is_not_finite(value: float) -> None:
    assert quote(value) == ""
    assert quote([1.5, value, 2]) == "[1.5, "
    assert quote({"a": [value]}) == '{\n    "a": ['
    assert quote({"a": 1, "b": value, "c": 2}) == '{\n    "a": 1,\n    "b": '


@pytest.mark.parametrize(("text", "value"), [
    (b"1e-400", 0.0), (b"-1e-400", -0.0), (b"1e-310", 0.0), (b"123456789e-320", 0.0), (b"1e-99999999999", 0.0),
    (b"0." + b"0" * 400 + b"1e390", 1e-11), (b"22250738585072014e-324", 2.2250738585072014e-308)])
def test_exponents_that_underflow(text: bytes, value: float) -> None:
    found = parse(text)
    assert (found, math.copysign(1, found)) == (value, math.copysign(1, value))


@pytest.mark.parametrize("text", [b"0e309", b"0.0e310", b"-0E+400"])
def test_zero_times_too_large_a_power_is_too_big(text: bytes) -> None:
    with pytest.raises(JsonError, match="Number too big to be stored in double"):
        parse(text)


def test_quoting_ends_between_tokens_after_256_characters() -> None:
    assert len(quote([1] * 1000)) == 257  # 86 numbers: "[1" and ", 1" 85 times
    assert quote(["x" * 1000]) == '["' + "x" * 1000 + '"'
    assert quote({"a": [1, {"b": None}], "c": {}}) == (
        '{\n    "a": [1, {\n            "b": null\n        }],\n    "c": {}\n}')


def test_strings_are_escaped_as_the_original_does() -> None:
    assert string('a"\\/\b\f\n\r\t\x01\x1f\x7fé') == '"a\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001F\x7fé"'


def _alike(found: Any, value: Any) -> bool:
    """Equal in type and value; floats approximately, since RapidJSON may round the last bits differently."""
    if type(found) is not type(value):
        return False
    if isinstance(value, float):
        return math.isclose(found, value, rel_tol=1e-15)
    if isinstance(value, list):
        return len(found) == len(value) and all(map(_alike, found, value))
    if isinstance(value, dict):
        return list(found) == list(value) and all(map(_alike, found.values(), value.values()))
    return bool(found == value)
