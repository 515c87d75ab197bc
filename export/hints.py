"""What a graph says of the values an input may have: how far its integers may go, which words its tables know, which
features its tf.Examples hold, which bytes are images.

Each input's tensor is followed forward, through what leaves values as they are, into calls, branches and loops.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from export.functions import ARGUMENT
from export.graph import Graph, Node, port, producer, tensor_name
from export.ops import attribute
from export.variables import LOOPS, called_by, is_variable

# op: the inputs whose values come out unchanged; None for all of them
_SAME: dict[str, tuple[int, ...] | None] = {
    **dict.fromkeys(("IdentityN", "ConcatV2", "Pack", "Merge"), None),
    **dict.fromkeys((
        "Identity", "Reshape", "ExpandDims", "Squeeze", "Cast", "Transpose", "Tile", "Unpack", "StridedSlice", "Slice",
        "SplitV", "ReverseV2", "ReverseSequence", "Enter", "Exit", "Switch", "NextIteration", "StopGradient",
        "Snapshot", "GatherV2", "GatherNd", "Unique", "UniqueV2", "PlaceholderWithDefault", "EnsureShape",
        "BroadcastTo", "PadV2", "Pad", "TensorListFromTensor", "TensorListGetItem", "TensorListStack", "StringLower",
        "StringUpper", "StringStrip", "RegexReplace", "StaticRegexReplace", "StringSplit", "StringSplitV2",
        "GuaranteeConst", "PreventGradient", "CheckNumerics"), (0,)),
    **dict.fromkeys(("Split", "TensorListPushBack", "RaggedTensorToTensor"), (1,)),
    **dict.fromkeys(("TensorListSetItem", "SparseToDense", "TensorArrayReadV3", "TensorArrayGatherV3"), (2,)),
    "Select": (1, 2), "SelectV2": (1, 2), "TensorArrayScatterV3": (2, 3), "TensorArrayWriteV3": (2, 3)}
_SPLITS = ("StringSplit", "StringSplitV2")
_GATHERS = {"Gather": 1, "GatherV2": 1, "ResourceGather": 1, "SparseSegmentSum": 1, "SparseSegmentMean": 1,
            "SparseSegmentSqrtN": 1}
_IMAGES = {"DecodeJpeg": "jpeg", "DecodeAndCropJpeg": "jpeg", "DecodePng": "png", "DecodeImage": "png",
           "DecodeBmp": "bmp", "DecodeGif": "gif"}
_FINDS = ("LookupTableFind", "LookupTableFindV2")
_PARSERS = ("ParseExample", "ParseExampleV2", "ParseSingleExample")
_MOST_WORDS = 2000


@dataclass
class Feature:
    """One feature of a tf.Example: `shape` None for any number of values."""

    dtype: int
    shape: tuple[int, ...] | None
    hint: Hint


@dataclass
class Hint:
    """What is known of one input's values; integers are in [0, below)."""

    below: int | None = None
    words: tuple[Any, ...] = ()
    sentence: bool = False
    image: str = ""
    number: bool = False
    base64: bool = False
    example: dict[str, Feature] | None = None


@dataclass
class _Place:
    """A body and where it is called from."""

    graph: Graph
    name: str = ""
    parent: _Place | None = None
    call: Node | None = None
    first: int = 0

    @cached_property
    def readers(self) -> Mapping[str, list[tuple[Node, int]]]:
        found: dict[str, list[tuple[Node, int]]] = {}
        for item in self.graph.nodes.values():
            for index, ref in enumerate(item.data):
                found.setdefault(ref, []).append((item, index))
        return found


@dataclass
class Hints:
    """`graph` as `served.served_graph` makes it; `assets` are files by the tensor that names them."""

    graph: Graph
    assets: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._top = _Place(self.graph)

    def of(self, ref: str) -> Hint:
        """What is known of the tensor `ref`."""
        return self._hint(self._top, ref)

    def _hint(self, place: _Place, ref: str) -> Hint:
        hint = Hint()
        for where, item, index in self._uses(place, ref):
            if index == _GATHERS.get(item.op):
                self._bound(hint, self._gathered(where, item))
            elif item.op == "OneHot" and index == 0:
                self._bound(hint, self._scalar(where, item.data[1]))
            elif item.op in ("UnsortedSegmentSum", "UnsortedSegmentMean") and index == 1:
                self._bound(hint, self._scalar(where, item.data[2]))
            elif item.op in _FINDS and index == 1:
                hint.words = hint.words or self._words(where, item.data[0])
            elif item.op in _IMAGES and index == 0:
                hint.image = _IMAGES[item.op]
            elif item.op in ("StringToNumber", "DecodeCSV"):
                hint.number = True
            elif item.op == "DecodeBase64":
                hint = self._hint(where, item.name)
                hint.base64 = True
            elif item.op in _PARSERS and index == 0:
                hint.example = self._features(where, item)
            if item.op in _SPLITS:
                hint.sentence = True
        return hint

    def _uses(self, place: _Place, ref: str) -> Iterator[tuple[_Place, Node, int]]:
        """Every node that reads the tensor's values, as they are, with the input it reads them by."""
        seen: set[tuple[str, str]] = set()
        todo = [(place, ref)]
        while todo:
            where, current = todo.pop()
            if (where.name, current) in seen:
                continue
            seen.add((where.name, current))
            if where.parent and where.call and current in where.graph.outputs:
                results = [index for index, one in enumerate(where.graph.outputs) if one == current]
                if where.call.op not in LOOPS or len(where.graph.outputs) == len(where.call.data):
                    todo += [(where.parent, tensor_name(where.call.name, index)) for index in results]
                if where.call.op in LOOPS:
                    todo += [(where, where.graph.inputs[index]) for index in results if index < len(where.graph.inputs)]
            for item, index in where.readers.get(current, ()):
                yield where, item, index
                op = item.op.removeprefix("Ref")
                functions, first = called_by(item, {})
                for name in functions:
                    body = self.graph.bodies.get(name)
                    if body is not None and index >= first:
                        below = _Place(body, f"{where.name}/{item.name}/{name}", where, item, first)
                        todo.append((below, body.inputs[index - first]))
                if op in _SAME and index in (_SAME[op] or (index,)):
                    count = 3 if op in ("Split", "SplitV", "Unpack", "IdentityN", "Switch", *_SPLITS) else 1
                    outputs = range(max(count, int(item.get("num_split", 1) or 1), int(item.get("num", 1) or 1)))
                    todo += [(where, tensor_name(item.name, output)) for output in outputs]

    def _bound(self, hint: Hint, size: int | None) -> None:
        if size is not None and size > 0:
            hint.below = min(size, hint.below or size)

    def _gathered(self, place: _Place, item: Node) -> int | None:
        axis = self._scalar(place, item.data[2]) if item.op == "GatherV2" else int(item.get("batch_dims", 0))
        shape = self._shape(place, item.data[0])
        return shape[axis] if shape and axis is not None and -len(shape) <= axis < len(shape) else None

    def _origin(self, place: _Place, ref: str) -> tuple[_Place, Node]:
        """The node that makes a value, seen through what passes it on and out of bodies."""
        while True:
            item = place.graph.nodes[producer(ref)]
            if item.op == ARGUMENT and place.parent and place.call:
                ref = place.call.data[place.graph.inputs.index(item.name) + place.first]
                place = place.parent
            elif item.op.removeprefix("Ref") in ("Identity", "Enter", "ReadVariableOp", "Cast", "Switch") and item.data:
                ref = item.data[0]
            elif item.op in LOOPS:
                ref = item.data[port(ref)]
            else:
                return place, item

    def _shape(self, place: _Place, ref: str) -> tuple[int, ...] | None:
        place, item = self._origin(place, ref)
        if item.op == "Const":
            return item.shape
        if is_variable(item):
            shape = item.get("shape")
            return tuple(shape) if shape is not None else None
        if item.op == "ConcatV2":
            parts = [self._shape(place, one) for one in item.data[:-1]]
            if all(part and part[1:] == parts[0][1:] for part in parts if parts[0]) and parts[0]:
                return (sum(part[0] for part in parts if part), *parts[0][1:])
        return None

    def _scalar(self, place: _Place, ref: str) -> int | None:
        _, item = self._origin(place, ref)
        return int(item.value) if item.op == "Const" and item.shape == () else None

    def _words(self, place: _Place, ref: str) -> tuple[Any, ...]:
        """The keys of a table, from the file or the constant that initialises it."""
        _, table = self._origin(place, ref)
        for item in self.graph.nodes.values():
            if not item.data or self._origin(self._top, item.data[0])[1] is not table:
                continue
            if item.op in ("InitializeTableFromTextFile", "InitializeTableFromTextFileV2"):
                path = self.assets.get(producer(item.data[1]))
                return _lines(path, item) if path else ()
            if item.op.startswith(("InitializeTable", "LookupTableImport", "LookupTableInsert")):
                _, keys = self._origin(self._top, item.data[1])
                if keys.op == "Const":
                    return tuple(keys.value.ravel()[:_MOST_WORDS].tolist())
        return ()

    def _features(self, place: _Place, item: Node) -> dict[str, Feature]:
        """The features that a node parses, by their keys."""
        if item.op == "ParseSingleExample":
            sparse, dense = item.get("sparse_keys", []), item.get("dense_keys", [])
        elif item.op == "ParseExampleV2":
            sparse, dense = (self._strings(place, ref) for ref in item.data[2:4])
        else:
            split = 2 + int(item.get("Nsparse", 0))
            sparse = [one for ref in item.data[2:split] for one in self._strings(place, ref)]
            dense = [one for ref in item.data[split:split + int(item.get("Ndense", 0))]
                     for one in self._strings(place, ref)]
        found: dict[str, Feature] = {}
        for index, key in enumerate(sparse):
            hint = self._hint(place, tensor_name(item.name, len(sparse) + index))
            found[key] = Feature(item.get("sparse_types")[index], None, hint)
        shapes = attribute(item, "dense_shapes") or []
        for index, key in enumerate(dense):
            hint = self._hint(place, tensor_name(item.name, 3 * len(sparse) + index))
            found[key] = Feature(item.get("Tdense")[index], shapes[index], hint)
        if item.op == "ParseExampleV2":
            after = 3 * len(sparse) + len(dense)
            for index, key in enumerate(self._strings(place, item.data[4])):
                hint = self._hint(place, tensor_name(item.name, after + index))
                found[key] = Feature(item.get("ragged_value_types")[index], None, hint)
        return found

    def _strings(self, place: _Place, ref: str) -> list[str]:
        _, item = self._origin(place, ref)
        return [one.decode() for one in item.value.ravel().tolist()] if item.op == "Const" else []


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
