"""JSON values -> tensor elements: which values each type accepts, {"b64": ...}, and the error messages.

The order of the checks and the messages are TensorFlow Serving's (tensor.cc). One rule is stricter: an integer that
int8, int16 or uint8 cannot hold is refused, as the original does for int32; the original wraps it around.
"""
import base64
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from serving.errors import Code, ServingError, invalid
from serving.json.rapidjson import Repeated, Value
from serving.json.text import quote
from serving.protos import types_pb2
from serving.servable import Array, string_array
from serving.tensor_proto import numpy_dtype

_MAX_RANK = 64  # numpy's; TensorFlow's own limit is 254

_TYPE_NAMES = {type(None): "Null", dict: "Object", Repeated: "Object", list: "Array", str: "String",
               int: "Number", float: "Number"}


@dataclass(frozen=True, slots=True)
class ElementType:
    """The Python types that JSON elements of a tensor may have, and the numpy type they become.

    `low` and `high` bound the integers that are accepted; both 0: no bounds.
    """

    dtype: np.dtype[Any]
    types: frozenset[type]
    low: int = 0
    high: int = 0

    def takes(self, values: list[Value]) -> bool:
        """Whether each of the values can be an element."""
        if not self.types.issuperset(map(type, values)):
            return False
        return not self.high or not values or (self.low <= min(values) and max(values) <= self.high)

    def array(self, values: list[Value]) -> Array:
        """The elements as an array of rank 1; `takes` must have accepted them."""
        if self.dtype == object:
            return string_array([v.encode("utf-8", "surrogateescape") if isinstance(v, str) else v for v in values])
        if self.dtype.kind == "f":
            if len(values) <= _FEW and _are_normal(values, *_NORMAL[self.dtype]):
                return np.array(values, self.dtype)
            return to_floats(np.array(values, np.float64), self.dtype)
        return np.array(values, self.dtype)


def _integers(dtype: type[np.integer[Any]]) -> ElementType:
    return ElementType(np.dtype(dtype), frozenset({int}), int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))


_NUMBERS = frozenset({int, float})
ELEMENT_TYPES = {
    types_pb2.DT_FLOAT: ElementType(np.dtype(np.float32), _NUMBERS),
    types_pb2.DT_DOUBLE: ElementType(np.dtype(np.float64), _NUMBERS),
    types_pb2.DT_INT8: _integers(np.int8), types_pb2.DT_INT16: _integers(np.int16),  # decision 40
    types_pb2.DT_INT32: _integers(np.int32), types_pb2.DT_INT64: _integers(np.int64),
    types_pb2.DT_UINT8: _integers(np.uint8), types_pb2.DT_UINT32: _integers(np.uint32),
    types_pb2.DT_UINT64: _integers(np.uint64),
    types_pb2.DT_BOOL: ElementType(np.dtype(np.bool_), frozenset({bool})),
    types_pb2.DT_STRING: ElementType(np.dtype(object), frozenset({str})),
}
_BITS: dict[np.dtype[Any], tuple[Any, Any, Any]] = {
    np.dtype(np.float32): (np.uint32, np.uint32(2**31 - 1), np.uint32(2**23)),
    np.dtype(np.float64): (np.uint64, np.uint64(2**63 - 1), np.uint64(2**52))}


# The smallest and the largest normal number; up to how many numbers Python is faster than numpy.
_NORMAL = {np.dtype(kind): (float(np.finfo(kind).tiny), float(np.finfo(kind).max)) for kind in (np.float32, np.float64)}
_FEW = 16


def _are_normal(values: list[Value], smallest: float, largest: float) -> bool:
    """Whether none of the numbers is flushed to zero or overflows as a float."""
    magnitudes = list(map(abs, filter(None, values)))
    return not magnitudes or (smallest <= min(magnitudes) and max(magnitudes) <= largest)


def to_floats(doubles: Array, dtype: np.dtype[Any]) -> Array:
    """Doubles in a floating-point type, with denormals flushed to zero, as the original does."""
    with np.errstate(over="ignore", under="ignore"):
        values = doubles.astype(dtype)
    # Compares bits: less than the smallest normal number, but not zero (which wraps around to the largest integer).
    integer, magnitude, smallest = _BITS[dtype]
    denormal = (values.view(integer) & magnitude) - 1 < smallest - 1
    if denormal.any():
        values[denormal] = np.copysign(dtype.type(0), values[denormal])
    return values


def data_type_name(dtype: int) -> str:
    """A DataType as error texts name it: "float", "int8", "string"."""
    return types_pb2.DataType.Name(dtype).removeprefix("DT_").lower()


def type_name(value: Value) -> str:
    """RapidJSON's name for a value's type."""
    if isinstance(value, bool):
        return "True" if value else "False"
    return _TYPE_NAMES[type(value)]


def format_error(value: Value, text: str) -> ServingError:
    """INVALID_ARGUMENT that quotes the value."""
    return invalid(f"JSON Value: {quote(value)} {text}")


def c_string(name: str) -> str:
    """A name as C++ code reads it that takes it for a C string: cut at the first NUL."""
    return name.partition("\0")[0]


def shape_of(value: Value) -> tuple[int, ...]:
    """The shape of a value, if it is regular: the sizes of the first list at each level, outermost first."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def flattened(value: Value, shape: Sequence[int]) -> list[Value] | None:
    """The elements of a value of that shape, or None if its lists are irregular."""
    if len(shape) > _MAX_RANK:
        return None
    flat = [value]
    for size in shape:
        if set(map(type, flat)) != {list} or set(map(len, flat)) != {size}:
            return None
        flat = list(chain.from_iterable(flat))
    return flat


def fill(value: Value, shape: Sequence[int], dtype: int, elements: list[Any]) -> None:
    """Adds the elements of a value to `elements`, in order. Raises INVALID_ARGUMENT at the first that does not fit."""
    rank = len(shape)
    pending = [iter((value,))]
    while pending:
        level = len(pending) - 1
        for item in pending[-1]:
            if not isinstance(item, list):
                if level != rank:
                    raise format_error(item, f"found at incorrect level: {level + 1} in the JSON DOM. "
                                       f"Expected at level: {rank}")
                elements.append(_element(item, dtype))
                continue
            if level >= rank:
                raise invalid(f"Encountered list at unexpected level: {level} expected < {rank}")
            if len(item) != shape[level]:
                raise invalid(f"Encountered list at unexpected size: {len(item)} at level: {level} "
                              f"expected size: {shape[level]}")
            pending.append(iter(item))
            break
        else:
            pending.pop()


def filled_array(elements: list[Any], shape: Sequence[int], dtype: int, alias: str) -> Array:
    """The array of the elements that `fill` collected. Raises INVALID_ARGUMENT for a rank that is too high."""
    if len(shape) > _MAX_RANK:
        raise invalid(f"tensor parsing error: {alias}")
    kind = ELEMENT_TYPES.get(dtype)
    if kind is None:
        try:
            return np.empty(shape, numpy_dtype(dtype))  # empty: any other array of a type without JSON form is refused
        except ValueError:
            raise invalid(f"tensor parsing error: {alias}") from None
    # A row that gives a name twice leaves more elements than the shape holds.
    return kind.array(elements[:math.prod(shape)]).reshape(shape)


def _element(value: Value, dtype: int) -> Any:
    if isinstance(value, dict):
        if dtype != types_pb2.DT_STRING:
            raise _type_error(value, dtype)
        if not is_base64(value):
            raise format_error(value, "not formatted correctly for base64 data")
        return decode_base64(value["b64"])
    kind = ELEMENT_TYPES.get(dtype)
    if kind is None:
        raise ServingError(Code.UNIMPLEMENTED, f"Conversion of JSON Value: {quote(value)} to type: "
                           f"{data_type_name(dtype)}")
    if not kind.takes([value]):
        raise _type_error(value, dtype)
    return value


def _type_error(value: Value, dtype: int) -> ServingError:
    return format_error(value, f"Type: {type_name(value)} is not of expected type: {data_type_name(dtype)}")


_BASE64 = re.compile(r"[A-Za-z0-9+/]*")
_BASE64_SPACE = re.compile(r"[ \t\n\v\f\r]+")


def is_base64(value: Value) -> bool:
    """Whether a value is {"b64": "..."} and nothing else."""
    return type(value) is dict and len(value) == 1 and isinstance(value.get("b64"), str)


def decode_base64(text: str) -> bytes:
    """The bytes of a base64 text. White space is skipped; padding ('=' or '.') may be missing, but not be wrong."""
    packed = _BASE64_SPACE.sub("", text)
    bare = packed.rstrip("=.")
    padding, missing = len(packed) - len(bare), -len(bare) % 4
    if not _BASE64.fullmatch(bare) or missing == 3 or padding not in (0, missing):
        raise invalid("Unable to base64 decode")
    return base64.b64decode(bare + "=" * missing)
