"""REST predict bodies -> tensors: the row form ("instances") and the column form ("inputs").

The rules, their order and the error texts are TensorFlow Serving's (tensor.cc). Usual bodies are read by compiled code:
simdjson, which does not turn a plain array of numbers into Python objects. Wrong or unusual bodies are read again by
the exact parser and checked value by value, so that the answer equals the original's.
"""
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving.errors import ServingError, invalid
from serving.json import numbers, rapidjson
from serving.json.rapidjson import Value, members
from serving.json.text import quote
from serving.json.values import (
    ELEMENT_TYPES,
    c_string,
    fill,
    filled_array,
    flattened,
    format_error,
    is_base64,
    shape_of,
)
from serving.servable import Array, TensorSpec

_SMALL = 256


class PredictBody:
    """The body of a predict request. Raises ServingError with INVALID_ARGUMENT if it is not a JSON object.

    It is read in two steps: the constructor finds the signature name; `inputs` reads the values, given the signature.
    """

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._doc: dict[str, Value] | None = None
        self._exact = False
        self._plain = numbers.find_array(body) if len(body) >= _SMALL else None
        if self._plain is not None:
            self.signature_name = self._plain.signature_name
            self.row = self._plain.row
            return
        doc = self._read_document()
        self.signature_name = signature_name(doc)
        self.row = "instances" in doc

    def inputs(self, specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
        """The tensors by input alias. Raises ServingError (INVALID_ARGUMENT, UNIMPLEMENTED), worded as the original."""
        if not specs:
            raise invalid(f"Failed to get input map for signature: {self.signature_name or 'DEFAULT'}")
        if self._plain is not None:
            array = _plain_array(self._plain, specs)
            self._plain.release()
            if array is not None:
                return dict.fromkeys(specs, array)
        doc = self._doc if self._doc is not None else self._read_document()
        try:
            return _Reader(specs, self._exact or not numbers.rounding_matters(self._body)).read(doc)
        except _RoundingError:
            return _Reader(specs, True).read(_exact_document(self._body))

    def _read_document(self) -> dict[str, Value]:
        doc = numbers.parse_plain(self._body)
        self._exact = doc is None
        self._doc = _exact_document(self._body) if doc is None else doc
        return self._doc


def parse_document(body: bytes) -> dict[str, Value]:
    """The top-level object of a body. Raises INVALID_ARGUMENT with RapidJSON's text and offset."""
    doc = numbers.parse_plain(body)
    return _exact_document(body) if doc is None else doc


def _exact_document(body: bytes) -> dict[str, Value]:
    try:
        doc = rapidjson.parse(body)
    except rapidjson.JsonError as error:
        raise invalid(f"JSON Parse error: {error}") from None
    if not isinstance(doc, dict):
        raise format_error(doc, "Is not object")
    return doc


def signature_name(doc: dict[str, Value]) -> str:
    """The optional "signature_name". Raises INVALID_ARGUMENT if it is not a string."""
    name = doc.get("signature_name", "")
    if not isinstance(name, str):
        raise format_error(doc, "not formatted correctly. 'signature_name' key must be a string value.")
    return name


def _plain_array(plain: numbers.PlainArray, specs: Mapping[str, TensorSpec]) -> Array | None:
    kind = ELEMENT_TYPES.get(next(iter(specs.values())).dtype) if len(specs) == 1 else None
    if kind is None or kind.dtype.kind not in "fiu":
        return None
    if kind.dtype.kind == "f":
        return plain.floats(kind.dtype)
    values = plain.integers(kind.dtype == np.uint64)
    if values is None or (values.size and not (kind.low <= values.min() and values.max() <= kind.high)):
        return None
    return values.astype(kind.dtype, copy=False)


class _RoundingError(Exception):
    """A value depends on RapidJSON's rounding: the exact parser must read the body again."""


class _Reader:
    """Reads the tensors of a signature from a document. `exact`: its numbers are rounded exactly as by RapidJSON."""

    def __init__(self, specs: Mapping[str, TensorSpec], exact: bool) -> None:
        self.specs = specs
        self.exact = exact

    def read(self, doc: dict[str, Value]) -> dict[str, Array]:
        """The tensors by alias."""
        if "instances" in doc:
            instances = doc["instances"]
            if "inputs" in doc:
                raise format_error(doc, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys "
                                   "to exist ")
            if not isinstance(instances, list):
                raise format_error(doc, "Expecting 'instances' to be an list/array")
            if not instances:
                raise format_error(doc, "No values in 'instances' array")
            return self._rows(instances)
        if "inputs" in doc:
            return self._columns(doc["inputs"])
        raise invalid("Missing 'inputs' or 'instances' key")

    def _columns(self, value: Value) -> dict[str, Array]:
        if not isinstance(value, dict) or is_base64(value):
            if len(self.specs) > 1:
                raise invalid("inputs is a plain value/list, but expecting an object as multiple input tensors "
                              "required as per tensorinfo_map")
            return {alias: self._column(value, alias) for alias in self.specs}
        arrays = {}
        for alias in sorted(self.specs, reverse=True):  # if several are missing, the original names the last one
            if alias not in value:
                raise invalid(f"Missing named input: {alias} in 'inputs' object.")
            arrays[alias] = self._column(value[alias], alias)
        return arrays

    def _column(self, value: Value, alias: str) -> Array:
        array = self._regular(value, alias)
        if array is not None:
            return array
        dtype, shape = self.specs[alias].dtype, shape_of(value)
        elements: list[Any] = []
        fill(value, shape, dtype, elements)
        return filled_array(elements, shape, dtype, alias)

    def _rows(self, instances: list[Value]) -> dict[str, Array]:
        if len(self.specs) == 1 and type(instances[0]) is not dict:
            (alias,) = self.specs
            array = self._regular(instances, alias)
            return _exact_rows(instances, self.specs) if array is None else {alias: array}
        if len(self.specs) > 1 and not isinstance(instances[0], dict):
            raise invalid("instances is a plain list, but expecting list of objects as multiple input tensors "
                          "required as per tensorinfo_map")
        columns: dict[str, list[Value]] = {}
        if not _is_named(instances[0]):
            columns = dict.fromkeys(self.specs, instances)
        elif all(type(row) is dict and row.keys() == self.specs.keys() for row in instances):
            columns = {alias: [row[alias] for row in instances] for alias in self.specs}
        arrays = {alias: self._regular(column, alias) for alias, column in columns.items()}
        found = {alias: array for alias, array in arrays.items() if array is not None}
        return found if len(found) == len(self.specs) else _exact_rows(instances, self.specs)

    def _regular(self, value: Value, alias: str) -> Array | None:
        """The array of a value whose elements all have the right type; None if they must be checked one by one."""
        shape = shape_of(value)
        flat = flattened(value, shape)
        kind = ELEMENT_TYPES.get(self.specs[alias].dtype)
        if flat is None or kind is None or not kind.takes(flat):
            return None
        if kind.dtype.kind == "f" and not self.exact and (
                kind.dtype == np.float64 or numbers.near_half_way(np.array(flat, np.float64))):
            raise _RoundingError
        return kind.array(flat).reshape(shape)


def _is_named(value: Value) -> bool:
    return isinstance(value, dict) and not is_base64(value)


class _Rows:
    """Collects the tensors of the row form, row by row."""

    def __init__(self, specs: Mapping[str, TensorSpec]) -> None:
        self.specs = specs
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.sizes: dict[str, int] = {}
        self.elements: dict[str, list[Any]] = {}

    def add(self, alias: str, value: Value) -> None:
        if alias not in self.specs:
            raise invalid(f"JSON object: does not have named input: {alias}")
        shape = shape_of(value)
        elements = self.elements.setdefault(alias, [])
        before = len(elements)
        fill(value, shape, self.specs[alias].dtype, elements)
        size = len(elements) - before
        if alias not in self.shapes:
            self.sizes[alias], self.shapes[alias] = size, shape
        elif self.sizes[alias] != size:
            raise invalid(f"Expecting tensor size: {self.sizes[alias]} but got: {size}")
        elif self.shapes[alias] != shape:
            raise invalid(f"Expecting shape {_shape_text(self.shapes[alias])} but got: {_shape_text(shape)}")


def _exact_rows(instances: list[Value], specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    rows = _Rows(specs)
    named = _is_named(instances[0])
    for n, row in enumerate(instances):
        where = f"Failed to process element: {n}"
        if _is_named(row) != named:
            raise invalid(f"Expecting object but got list at item {n} of input list" if named else
                          f"Expecting value/list but got object at item {n} of input list")
        names = set()
        for name, value in members(row) if named else [(next(iter(specs)), row)]:
            alias = c_string(name)
            names.add(alias)
            try:
                rows.add(alias, value)
            except ServingError as error:
                raise invalid(f"{where}{f' key: {alias}' if named else ''} of 'instances' list. "
                              f"Error: {error.code.name}: {error.message}") from None
        if named and names != specs.keys():
            raise invalid(f"{where} of 'instances' list. JSON object: {quote(row)} keys must be equal to: "
                          f"{','.join(sorted(specs))}")
    return {alias: filled_array(elements, (len(instances), *rows.shapes[alias]), specs[alias].dtype, alias)
            for alias, elements in rows.elements.items()}


def _shape_text(shape: Sequence[int]) -> str:
    return f"[{','.join(map(str, shape))}]"
