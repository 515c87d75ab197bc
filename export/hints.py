"""What a graph shows about the values of its inputs: the bound of integers, the words in tables, the features of
tf.Examples, the columns of CSV lines, which bytes are images. (For shapes see export.demands.)

Each input's tensor is followed forward, through ops that keep its values, into calls, branches and loops.
"""
from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from export import demands, media, parsing
from export.demands import Demand
from export.effects import FROM_TEXT_FILE
from export.following import SPLITS, Following, Place
from export.graph import Graph, Node, producer, tensor_name
from export.hint import Bytes, Hint, Message
from export.ops import attribute
from export.tensors import INT32, INT64, STRING, numpy_dtype
from export.variables import is_variable

_GATHERS = {"Gather": 1, "GatherV2": 1, "ResourceGather": 1, "SparseSegmentSum": 1, "SparseSegmentMean": 1,
            "SparseSegmentSqrtN": 1}
_IMAGES = {"DecodeJpeg": "jpeg", "DecodeAndCropJpeg": "jpeg", "DecodePng": "png", "DecodeImage": "png",
           "DecodeBmp": "bmp", "DecodeGif": "gif", "DecodeWebP": "webp", "DecodeWav": "wav"}
_FINDS = ("LookupTableFind", "LookupTableFindV2")
_DECODES = ("DecodeRaw", "DecodePaddedRaw", "ParseTensor")
_WRAPPINGS = {"DecodeBase64": "base64", "DecodeJSONExample": "json"}
# Sizes that the graph leaves open: of a serialized tensor's axis, and an image's height and width.
_UNKNOWN, _ANY_PIXELS = 3, (48, 64)
_FIRST, _FROM_SECOND = "StridedSlice", "Sub"
_MOST_WORDS = 2000


class Hints(Following):
    """`graph` comes from `served.served_graph`; `assets`: the file for each tensor that holds a file's name."""

    def __init__(self, graph: Graph, assets: Mapping[str, Path] | None = None) -> None:
        super().__init__(graph)
        self.assets = assets or {}

    def of(self, ref: str) -> Hint:
        """What is known about the values of the tensor `ref`."""
        return self.inner(self.top, ref)

    def demand(self, ref: str) -> Demand:
        """The shape that the tensor must have for its readers."""
        return demands.of(self, self.top, ref)

    def inner(self, place: Place, ref: str) -> Hint:
        hint = Hint()
        for where, item, index in self.uses(place, ref):
            if index == _GATHERS.get(item.op):
                self._bound(hint, self._gathered(where, item))
            elif item.op == "OneHot" and index == 0:
                self._bound(hint, self.scalar(where, item.data[1]))
            elif item.op in ("UnsortedSegmentSum", "UnsortedSegmentMean") and index == 1:
                self._bound(hint, self.scalar(where, item.data[2]))
            elif item.op in _FINDS and index == 1:
                hint.words = hint.words or self._words(where, item.data[0])
            elif item.op in _IMAGES and index == 0:
                hint.image = _IMAGES[item.op]
                hint.pixels = hint.pixels or self._pixels(where, item)
            elif item.op == "ExtractJpegShape":
                hint.image = hint.image or media.ANY_SIZE
            elif item.op == "DecodeProtoV2" and index == 0:
                hint.message = self._message(where, item)
            elif item.op == "StringToNumber":
                hint.number = True
                hint.whole = attribute(item, "out_type") in (INT32, INT64)
            elif item.op == "DecodeCSV" and index == 0:
                hint.columns = self._columns(where, item)
                hint.separator = str(attribute(item, "field_delim") or ",").encode()
            elif item.op in ("DecodeBase64", "DecodeJSONExample", "DecodeCompressed"):
                hint = self.inner(where, item.name)
                hint.wrappings = (_WRAPPINGS.get(item.op) or str(attribute(item, "compression_type") or "none"),
                                  *hint.wrappings)
            elif item.op in _DECODES and index == 0:
                hint.raw = self._raw(where, item)
            elif item.op in parsing.PARSERS and index == 0:
                hint.example, hint.steps = parsing.features(self, where, item, self.inner)
            elif parsing.ends_rows(item, index) or (item.op == _FIRST and index == 0 and self._differs(where, item)):
                hint.row_splits = True
            if item.op in SPLITS:
                hint.sentence = True
                hint.separator = self.strings(where, item.data[1])[0].encode() or b" " if (
                    self.strings(where, item.data[1])) else b" "
        return hint

    def _columns(self, place: Place, item: Node) -> tuple[tuple[int, Hint], ...]:
        """The columns of a CSV line; columns that are not read are strings without a hint."""
        read = [(dtype, self.inner(place, tensor_name(item.name, index)))
                for index, dtype in enumerate(item.get("OUT_TYPE"))]
        chosen = [int(one) for one in attribute(item, "select_cols") or ()]
        if not chosen:
            return tuple(read)
        columns: list[tuple[int, Hint]] = [(STRING, Hint())] * (max(chosen) + 1)
        for at, one in zip(chosen, read, strict=True):
            columns[at] = one
        return tuple(columns)

    def _raw(self, place: Place, item: Node) -> Bytes:
        dtype = int(item.get("out_type") or STRING)
        values = self.inner(place, item.name)
        if item.op == "DecodePaddedRaw":
            size = self.scalar(place, item.data[1])
            return Bytes(item.op, dtype,
                         None if size is None else (size // max(1, np.dtype(numpy_dtype(dtype)).itemsize),), values)
        wanted = demands.of(self, place, item.name)
        if item.op == "ParseTensor" and (rank := len(wanted.fill(None) or ())):
            sizes = {axis % rank: size for axis, size in wanted.sizes.items()}
            return Bytes(item.op, dtype, tuple(sizes.get(axis, _UNKNOWN) for axis in range(rank)), values)
        return Bytes(item.op, dtype, demands.elements(wanted), values)

    def _pixels(self, place: Place, item: Node) -> tuple[int, int, int] | None:
        """The height, width and channels that the readers of a decoded image require; None if they take any."""
        channels = int(attribute(item, "channels") or 0)
        wanted = demands.of(self, place, item.name)
        sizes = demands.elements(wanted) if wanted.rank is not None else None
        if sizes and len(sizes) == 1 and sizes[0] % (channels or 1) == 0:
            side = math.isqrt(sizes[0] // (channels or 1))
            sizes = (side, side, channels or 1)
        if sizes and len(sizes) == 2:
            sizes = (*sizes, 1)
        if sizes and len(sizes) >= 3:
            return sizes[-3], sizes[-2], sizes[-1]
        return (*_ANY_PIXELS, channels) if channels else None

    def _message(self, place: Place, item: Node) -> Message:
        """The message that a node decodes: output 0 has the number of values of each field, the others the values."""
        fields = []
        for index, (name, dtype) in enumerate(zip(attribute(item, "field_names") or (), attribute(item, "output_types")
                                                  or (), strict=True)):
            ref = tensor_name(item.name, index + 1)
            count = demands.elements(demands.of(self, place, ref)) or (1,)
            fields.append((str(name), int(dtype), self.inner(place, ref), math.prod(count)))
        return Message(str(attribute(item, "message_type")), str(attribute(item, "descriptor_source") or ""),
                       str(attribute(item, "message_format") or "binary"), tuple(fields))

    def _differs(self, place: Place, item: Node) -> bool:
        """Whether a slice is subtracted from another slice of the same tensor, as row starts from row ends."""
        for reader, _ in place.readers.get(item.name, ()):
            if reader.op == _FROM_SECOND:
                sides = [place.graph.nodes[producer(ref)] for ref in reader.data]
                if all(side.op == _FIRST for side in sides) and sides[0].data[0] == sides[1].data[0] and (
                        sides[0].data[1] != sides[1].data[1]):
                    return True
        return False

    def _bound(self, hint: Hint, size: int | None) -> None:
        if size is not None and size > 0:
            hint.below = min(size, hint.below or size)

    def _gathered(self, place: Place, item: Node) -> int | None:
        axis = self.scalar(place, item.data[2]) if item.op == "GatherV2" else int(item.get("batch_dims", 0))
        shape = self.shape(place, item.data[0])
        return shape[axis] if shape and axis is not None and -len(shape) <= axis < len(shape) else None

    def _words(self, place: Place, ref: str) -> tuple[Any, ...]:
        """The keys of a table, from the file or the constant that initialises it."""
        _, table = self.origin(place, ref)
        for item in self.graph.nodes.values():
            if not item.data or self.origin(self.top, item.data[0])[1] is not table:
                continue
            if item.op in FROM_TEXT_FILE:
                path = self.assets.get(self._file_name(item.data[1]))
                return _lines(path, item) if path else ()
            if item.op.startswith(("InitializeTable", "LookupTableImport", "LookupTableInsert")):
                _, keys = self.origin(self.top, item.data[1])
                if keys.op == "Const":
                    return tuple(keys.value.ravel()[:_MOST_WORDS].tolist())
        return ()

    def _file_name(self, ref: str) -> str:
        """The node whose value is a file's name: TensorFlow 2 keeps it in a variable that the initialiser assigns."""
        _, item = self.origin(self.top, ref)
        if is_variable(item):
            for one in self.graph.nodes.values():
                if one.op in ("AssignVariableOp", "Assign") and self.origin(self.top, one.data[0])[1] is item:
                    return self.origin(self.top, one.data[1])[1].name
        return item.name


def _lines(path: Path, item: Node) -> tuple[Any, ...]:
    """The keys that a table reads from a text file."""
    column = int(item.get("key_index", -2))
    delimiter = item.get("delimiter", "\t") or "\t"
    try:
        with path.open("rb") as file:
            lines = [line.rstrip(b"\r\n") for _, line in zip(range(_MOST_WORDS), file, strict=False)]
    except OSError:
        return ()
    if column == -1:
        return tuple(range(len(lines)))
    parts = [line if column == -2 else line.split(delimiter.encode())[column] for line in lines]
    return tuple(parts)
