"""Follows tensors through a graph, into calls, branches and loops: forward to their readers, back to their source."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from export.functions import ARGUMENT
from export.graph import Graph, Node, port, producer, tensor_name
from export.variables import LOOPS, called_by, is_variable

# op: the inputs that it passes on unchanged; None for all of them
SAME_VALUES: dict[str, tuple[int, ...] | None] = {
    **dict.fromkeys(("IdentityN", "ConcatV2", "Pack", "Merge"), None),
    **dict.fromkeys((
        "Floor", "Round", "Rint", "Identity", "Reshape", "ExpandDims",
        "Squeeze", "Cast", "Transpose", "Tile", "Unpack", "StridedSlice", "Slice",
        "SplitV", "ReverseV2", "ReverseSequence", "Enter", "Exit", "Switch", "NextIteration", "StopGradient",
        "Snapshot", "GatherV2", "GatherNd", "Unique", "UniqueV2", "PlaceholderWithDefault", "EnsureShape",
        "BroadcastTo", "PadV2", "Pad", "TensorListFromTensor", "TensorListGetItem", "TensorListStack", "StringLower",
        "StringUpper", "StringStrip", "Substr", "RegexReplace", "StaticRegexReplace", "StringSplit", "StringSplitV2",
        "GuaranteeConst", "PreventGradient", "CheckNumerics"), (0,)),
    **dict.fromkeys(("Split", "TensorListPushBack", "RaggedTensorToTensor"), (1,)),
    **dict.fromkeys(("TensorListSetItem", "SparseToDense", "TensorArrayReadV3", "TensorArrayGatherV3"), (2,)),
    "Select": (1, 2), "SelectV2": (1, 2), "TensorArrayScatterV3": (2, 3), "TensorArrayWriteV3": (2, 3)}
SPLITS = ("StringSplit", "StringSplitV2")


@dataclass
class Place:
    """A body and where it is called from."""

    graph: Graph
    name: str = ""
    parent: Place | None = None
    call: Node | None = None
    first: int = 0

    @cached_property
    def readers(self) -> Mapping[str, list[tuple[Node, int]]]:
        found: dict[str, list[tuple[Node, int]]] = {}
        for item in self.graph.nodes.values():
            for index, ref in enumerate(item.data):
                found.setdefault(ref, []).append((item, index))
        return found


class Following:
    """`graph` comes from `served.served_graph`; `top` is the place of the nodes outside of any function."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.top = Place(graph)

    def uses(self, place: Place, ref: str, same: Mapping[str, tuple[int, ...] | None] = SAME_VALUES
             ) -> Iterator[tuple[Place, Node, int]]:
        """Every node that reads the tensor's unchanged values, with the index of the input by which it reads them.

        `same`: the ops that pass values on, with the inputs that they pass on (None: all).
        """
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
                        below = Place(body, f"{where.name}/{item.name}/{name}", where, item, first)
                        todo.append((below, body.inputs[index - first]))
                if op in same and index in (same[op] or (index,)):
                    count = 3 if op in ("Split", "SplitV", "Unpack", "IdentityN", "Switch", *SPLITS) else 1
                    outputs = range(max(count, int(item.get("num_split", 1) or 1), int(item.get("num", 1) or 1)))
                    todo += [(where, tensor_name(item.name, output)) for output in outputs]

    def origin(self, place: Place, ref: str) -> tuple[Place, Node]:
        """The node that makes a value: back through ops that pass it on, and out of function bodies."""
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

    def shape(self, place: Place, ref: str) -> tuple[int, ...] | None:
        place, item = self.origin(place, ref)
        if item.op == "Const":
            return item.shape
        if is_variable(item):
            shape = item.get("shape")
            return tuple(shape) if shape is not None else None
        if item.op == "ConcatV2":
            parts = [self.shape(place, one) for one in item.data[:-1]]
            if all(part and part[1:] == parts[0][1:] for part in parts if parts[0]) and parts[0]:
                return (sum(part[0] for part in parts if part), *parts[0][1:])
        return None

    def scalar(self, place: Place, ref: str) -> int | None:
        _, item = self.origin(place, ref)
        return int(item.value) if item.op == "Const" and item.shape == () else None

    def integers(self, place: Place, ref: str) -> list[int] | None:
        """The integers of a constant, or of a Pack of scalars (-1 for those that are not constant)."""
        where, item = self.origin(place, ref)
        if item.op == "Pack":
            return [-1 if one is None else one for one in (self.scalar(where, part) for part in item.data)]
        return [int(one) for one in item.value.ravel()] if item.op == "Const" else None

    def strings(self, place: Place, ref: str) -> list[str]:
        _, item = self.origin(place, ref)
        return [one.decode() for one in item.value.ravel().tolist()] if item.op == "Const" else []
