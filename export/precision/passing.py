"""Ops that only move numbers, or take the largest or the mean of some: what they make has the encoding of its input."""
from __future__ import annotations

from export.graph import Graph, Node, port
from export.ops import IDENTITIES, attribute
from export.tensors import FLOAT

# They have kernels for quint8 and qint8 as they stand: the numbers stay where they are.
SAME_BUFFER = frozenset({"Reshape", "Squeeze", "ExpandDims", *IDENTITIES})
# They put zeros beside the numbers.
PADS = frozenset({"Pad", "SpaceToBatchND"})
POOLS = frozenset({"MaxPool", "AvgPool"})
_MOVES = frozenset({
    "Transpose", "StridedSlice", "Slice", "GatherV2", "Tile", "ResizeNearestNeighbor", "BatchToSpaceND", "DepthToSpace",
    "SpaceToDepth", "MirrorPad"})
_PASSING = frozenset({"ConcatV2", *POOLS, *PADS, *_MOVES, *SAME_BUFFER})
# The attribute with the type of the numbers that are moved.
TYPE = {"GatherV2": "Tparams"}


def passing_inputs(graph: Graph, item: Node) -> tuple[str, ...]:
    """The tensors that the node moves without computing with them; none if it does not, or not in eight bits."""
    if item.op not in _PASSING or item.name in graph.fed or attribute(item, TYPE.get(item.op, "T")) != FLOAT:
        return ()
    if item.op in POOLS:
        whole = all(attribute(item, key)[axis] == 1 for key in ("ksize", "strides") for axis in (0, 3))
        if attribute(item, "data_format") != "NHWC" or attribute(item, "padding") == "EXPLICIT" or not whole:
            return ()
    if item.op in ("DepthToSpace", "SpaceToDepth") and attribute(item, "data_format") != "NHWC":
        return ()
    moved = item.data[:-1] if item.op == "ConcatV2" else item.data[:1]
    return moved if all(not port(ref) for ref in moved) else ()


def hands_on_buffer(graph: Graph, item: Node) -> bool:
    """Whether what the node makes in eight bits may be in the memory of what it reads.

    Slices, and paddings or transpositions that change nothing, are; a pool or several inputs make a new tensor.
    """
    moved = passing_inputs(graph, item)
    return len(moved) == 1 and item.op not in POOLS
