"""The fast way in: bodies of plain numbers, read by simdjson straight into arrays.

Almost every request body is {"instances": NUMBERS} or {"inputs": NUMBERS}, perhaps with a signature name. Such
bodies are recognised by their ends; simdjson checks and converts the numbers; and the array is regular if the
brackets and commas of the text are those of a regular array, which is one comparison of bytes. Whatever does
not fit is left to the exact parser: None never means that the body is wrong.
"""
import math
import re
import threading
from typing import Any, Literal

import numpy as np
import simdjson

from serving.json.rapid import Value
from serving.json.values import to_floats
from serving.servable import Array

_SPACE = rb"[ \n\r\t]*"
_SIGNATURE = rb'"signature_name"' + _SPACE + b":" + _SPACE + rb'"([^"\\\x00-\x1f\x80-\xff]*)"'
_COMMA = _SPACE + b"," + _SPACE
_HEAD = re.compile(_SPACE + rb"\{" + _SPACE + b"(?:" + _SIGNATURE + _COMMA + b")?"
                   rb'"(instances|inputs)"' + _SPACE + b":" + _SPACE + rb"(?=\[)")
_TAIL = re.compile(_SPACE + b"(?:" + _COMMA + _SIGNATURE + _SPACE + rb")?\}" + _SPACE)
_NOT_STRUCTURE = bytes(sorted(set(range(256)) - set(b"[],")))
# A number that RapidJSON may round otherwise than the nearest double: many digits, or an exponent.
_ROUNDED = re.compile(rb"[0-9.]{17}|[0-9][eE]")
# Zero times a large power of ten: zero for simdjson, and for RapidJSON a number that is too big.
_ZERO_POWER = re.compile(rb"0[eE]\+?[0-9]{3}")
_MAX_RANK = 32
_MANTISSA_TAIL, _HALF_WAY, _NEAR = (1 << 29) - 1, 1 << 28, 8

_parsers = threading.local()


def _parse(body: bytes, recursive: bool = False) -> Any:
    """What simdjson makes of a body, None if it refuses: Python objects, or a document that is still simdjson's."""
    if (b"0e" in body or b"0E" in body) and _ZERO_POWER.search(body):
        return None
    # A parser owns the memory of its document: one for each thread.
    if not hasattr(_parsers, "parser"):
        _parsers.parser = simdjson.Parser()
    try:
        return _parsers.parser.parse(body, recursive)
    except ValueError:
        return None
    except RuntimeError:
        # Among others: the last document is still in use somewhere.
        del _parsers.parser
        return None


def parse_plain(body: bytes) -> dict[str, Value] | None:
    """The object that a body is, if simdjson reads it and no name is repeated in it; else None."""
    doc = _parse(body, recursive=True)
    # Escaped quotes or repeated names leave more quotes in the text than the document accounts for.
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
            # In a list of numbers there is nothing to find; if other values follow, their count shows it.
            pending += item[:1] if item and isinstance(item[0], int | float) else item
    return total


def rounding_matters(body: bytes) -> bool:
    """Whether a double in the body may be rounded otherwise by RapidJSON than by simdjson."""
    return _ROUNDED.search(body) is not None


class PlainArray:
    """A body that is one plain array: read by simdjson, and taken out in a type later."""

    def __init__(self, body: bytes, start: int, end: int, signature_name: str, row: bool) -> None:
        self.signature_name = signature_name
        self.row = row
        self._body, self._start, self._end = body, start, end
        self._array: Any = None

    def read(self) -> bool:
        """Has simdjson read it; False if it refuses."""
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
        """Gives the parser back: it reads nothing else while its document is in use."""
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
    """The plain array that a body consists of, if it looks so at both ends and is JSON."""
    head = _HEAD.match(body)
    end = body.rfind(b"]") + 1
    tail = _TAIL.fullmatch(body, end)
    if not head or not tail or (head[1] is not None and tail[1] is not None):
        return None
    # A string inside would need quotes, and names repeated would too.
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
        # The first list of this depth ends where one bracket more closes than its elements have.
        start = rank - depth
        end = structure.find(b"]" * (depth + 1), start) + depth
        size = (end - start + 1) // (len(text) + 1)
        text = b"[" + b",".join([text] * size) + b"]"
        shape.insert(0, size)
        if len(text) > len(structure):
            return None
    return tuple(shape) if text == structure else None


def near_half_way(doubles: Array) -> bool:
    """Whether a double is so close to the middle of two floats that its own rounding decides which it becomes."""
    tails = doubles.view(np.int64) & _MANTISSA_TAIL
    return bool((np.abs(tails - _HALF_WAY) <= _NEAR).any())
