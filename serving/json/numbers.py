"""The fast path for requests: bodies of plain numbers, which simdjson reads directly into arrays.

Almost every request body is {"instances": NUMBERS} or {"inputs": NUMBERS}, perhaps with a signature name. Such bodies
are recognised by their beginning and end, and simdjson checks and converts the numbers. The array is regular if the
text's brackets and commas are those of a regular array, which one comparison of bytes shows. All other bodies are left
to the exact parser: None never means that the body is wrong.
"""
import math
import re
import threading
from typing import Any, Literal

import numpy as np
import simdjson

from serving.json.rapidjson import Value
from serving.json.values import to_floats
from serving.servable import Array

_SPACE = rb"[ \n\r\t]*"
_SIGNATURE = rb'"signature_name"' + _SPACE + b":" + _SPACE + rb'"([^"\\\x00-\x1f\x80-\xff]*)"'
_COMMA = _SPACE + b"," + _SPACE
_HEAD = re.compile(_SPACE + rb"\{" + _SPACE + b"(?:" + _SIGNATURE + _COMMA + b")?"
                   rb'"(instances|inputs)"' + _SPACE + b":" + _SPACE + rb"(?=\[)")
_TAIL = re.compile(_SPACE + b"(?:" + _COMMA + _SIGNATURE + _SPACE + rb")?\}" + _SPACE)
_NOT_STRUCTURE = bytes(sorted(set(range(256)) - set(b"[],")))
# A number that RapidJSON may not round to the nearest double: many digits, or an exponent.
_ROUNDED = re.compile(rb"[0-9.]{17}|[0-9][eE]")
# Zero times a large power of ten: simdjson reads zero; for RapidJSON the number is too big.
_ZERO_POWER = re.compile(rb"0[eE]\+?[0-9]{3}")
_MAX_RANK = 32
_MANTISSA_TAIL, _HALF_WAY, _NEAR = (1 << 29) - 1, 1 << 28, 8

_parsers = threading.local()


def _parse(body: bytes, recursive: bool = False) -> Any:
    """The body parsed by simdjson (`recursive`: as Python objects, else as simdjson's document); None if it refuses."""
    if (b"0e" in body or b"0E" in body) and _ZERO_POWER.search(body):
        return None
    # One parser for each thread, since a parser owns the memory of its document.
    if not hasattr(_parsers, "parser"):
        _parsers.parser = simdjson.Parser()
    try:
        return _parsers.parser.parse(body, recursive)
    except ValueError:
        return None
    except RuntimeError:
        # One possible reason: this parser's last document is still in use.
        del _parsers.parser
        return None


def parse_plain(body: bytes) -> dict[str, Value] | None:
    """The body as an object, if simdjson can read it and no object in it repeats a name; else None."""
    doc = _parse(body, recursive=True)
    # With escaped quotes or repeated names the text has more quotes than the document's names and strings explain.
    if type(doc) is not dict:
        return None
    quotes = body.count(b'"')
    return doc if quotes == 2 * len(doc) or quotes == _quotes(doc) else None


def _quotes(value: Value) -> int:
    total, pending = 0, [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            total += 2
        elif isinstance(item, dict):
            total += 2 * len(item)
            pending += item.values()
        elif isinstance(item, list):
            # A list that begins with a number is not searched; strings in it would show as too many quotes.
            pending += item[:1] if item and isinstance(item[0], int | float) else item
    return total


def rounding_matters(body: bytes) -> bool:
    """Whether RapidJSON and simdjson may round a double in the body differently."""
    return _ROUNDED.search(body) is not None


class PlainArray:
    """A body that is one plain array: parsed first, converted to an array once its type is known."""

    def __init__(self, body: bytes, start: int, end: int, signature_name: str, row: bool) -> None:
        self.signature_name = signature_name
        self.row = row
        self._body, self._start, self._end = body, start, end
        self._array: Any = None

    def read(self) -> bool:
        """Parses the body; False if simdjson refuses it."""
        document = _parse(self._body)
        if document is not None:
            self._array = document["instances" if self.row else "inputs"]
        return document is not None

    def floats(self, dtype: np.dtype[Any]) -> Array | None:
        """The array in a floating-point type, or None."""
        if dtype == np.float64 and rounding_matters(self._body):
            return None
        doubles = self._take("d", np.float64)
        if doubles is None or (near_half_way(doubles) and rounding_matters(self._body)):
            return None
        return to_floats(doubles, dtype)

    def integers(self, unsigned: bool) -> Array | None:
        """The array as int64 or uint64, or None."""
        return self._take("u", np.uint64) if unsigned else self._take("i", np.int64)

    def release(self) -> None:
        """Frees the parser: it cannot read another body while its document is in use."""
        self._array = None

    def _take(self, kind: Literal["d", "i", "u"], dtype: type[np.generic]) -> Array | None:
        shape = _shape(self._body[self._start:self._end].translate(None, _NOT_STRUCTURE))
        if shape is None:
            return None
        try:
            values = np.frombuffer(self._array.as_buffer(of_type=kind), dtype)
        except (ValueError, TypeError):
            return None
        return values.reshape(shape) if len(values) == math.prod(shape) else None


def find_array(body: bytes) -> PlainArray | None:
    """The plain array that a body consists of, if its beginning and end look like one and simdjson reads it."""
    head = _HEAD.match(body)
    end = body.rfind(b"]") + 1
    tail = _TAIL.fullmatch(body, end)
    if not head or not tail or (head[1] is not None and tail[1] is not None):
        return None
    # Strings, or repeated names, inside the array would need more quotes.
    if body.find(b'"', head.end(), end) >= 0:
        return None
    name = head[1] if head[1] is not None else tail[1]
    array = PlainArray(body, head.end(), end, (name or b"").decode(), head[2] == b"instances")
    return array if array.read() else None


def _shape(structure: bytes) -> tuple[int, ...] | None:
    """The shape of the regular array whose brackets and commas these are, or None."""
    rank = len(structure) - len(structure.lstrip(b"["))
    if rank > _MAX_RANK:
        return None
    commas = structure.find(b"]") - rank
    text, shape = b"[" + b"," * commas + b"]", [commas + 1]
    for depth in range(1, rank):
        # The first list of this depth ends at the first run of brackets that closes one more than its elements do.
        start = rank - depth
        end = structure.find(b"]" * (depth + 1), start) + depth
        size = (end - start + 1) // (len(text) + 1)
        text = b"[" + b",".join([text] * size) + b"]"
        shape.insert(0, size)
        if len(text) > len(structure):
            return None
    return tuple(shape) if text == structure else None


def near_half_way(doubles: Array) -> bool:
    """Whether a double is so close to the middle between two floats that an error in its last bit changes the float."""
    tails = doubles.view(np.int64) & _MANTISSA_TAIL
    return bool((np.abs(tails - _HALF_WAY) <= _NEAR).any())
