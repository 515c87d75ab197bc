"""Sizes of axes that are unknown before the graph runs, told apart by where they come from.

    known_sizes(graph)["rows"] == (Size(16, ((("ids", 0),))), 64)      # 16 times the batch of `ids`, and 64

Two unknown sizes are equal if the same operations made them from the same input's size. That proves, for example, that
an addition broadcasts nothing.
"""
from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from export.graph import Graph, Node
from export.ops import attribute
from export.shapes import SAME_AS_FIRST, channel_axis, constant

_WINDOWS = frozenset({"Conv2D", "DepthwiseConv2dNative", "MaxPool", "AvgPool"})
_ELEMENTWISE = SAME_AS_FIRST | {"AddN", "Erfc", "Softmax", "_MklLayerNorm", "_MklSwish"}
_BROADCASTING = frozenset({"Add", "AddV2", "Sub", "Mul", "RealDiv", "Maximum", "Minimum", "SquaredDifference", "Pow",
                           "Less", "LessEqual", "Greater", "GreaterEqual", "Equal", "NotEqual"})


@dataclass(frozen=True)
class Size:
    """`factor` times the product of unknown sizes, each named by its origin."""

    factor: Fraction
    origins: tuple[Hashable, ...]

    def __mul__(self, other: int | Size) -> Size:
        factor, origins = (other.factor, other.origins) if isinstance(other, Size) else (Fraction(other), ())
        return Size(self.factor * factor, tuple(sorted((*self.origins, *origins), key=repr)))

    __rmul__ = __mul__


Sizes = tuple[int | Size, ...] | None


def known_sizes(graph: Graph) -> dict[str, Sizes]:
    """The sizes of the axes of each node's first output; None if its rank is unknown."""
    found: dict[str, Sizes] = {}
    for item in graph.order():
        found[item.name] = _sizes_of(item, graph.shapes.get(item.name), [found.get(ref) for ref in item.data], graph)
    return found


def _sizes_of(item: Node, static: tuple[int | None, ...] | None, sources: Sequence[Sizes], graph: Graph) -> Sizes:
    """One node's, from the static shape of its output and the sizes of its inputs."""
    if static is None:
        return None
    # What a request feeds has the sizes that the request says, whatever the node would compute.
    derived = _derived(item, static, sources, graph) if None in static and item.name not in graph.fed else None
    fits = derived is not None and len(derived) == len(static)
    return tuple(size if size is not None else derived[axis] if fits and derived is not None else
                 _unknown((item.name, axis)) for axis, size in enumerate(static))


def _unknown(origin: Hashable) -> Size:
    return Size(Fraction(1), (origin,))


def _derived(item: Node, static: tuple[int | None, ...], sources: Sequence[Sizes], graph: Graph) -> Sizes:
    """The output's sizes from those of the inputs, where a rule is known."""
    first = sources[0] if sources else None
    if first is None:
        return None
    if item.op in _ELEMENTWISE:
        return first
    if item.op in _BROADCASTING:
        return _broadcast(first, sources[1])
    if item.op in ("Pad", "PadV2", "MirrorPad"):
        pads = constant(item, 1, graph.nodes)
        if pads is None or len(pads) != 2 * len(first):
            return None
        added = [sum(pads[2 * axis:2 * axis + 2]) for axis in range(len(first))]
        return tuple(_unknown(("padded", size, more)) if more else size
                     for size, more in zip(first, added, strict=True))
    if item.op in _WINDOWS and len(first) == 4:
        return _window(item, first, sources, graph)
    if item.op == "Reshape":
        return _reshaped(first, static)
    if item.op in ("Mean", "Sum", "Max", "Min"):
        axes = constant(item, 1, graph.nodes)
        if axes is None or not first:
            return None
        gone = {axis % len(first) for axis in axes}
        kept = [1 if axis in gone else size for axis, size in enumerate(first)]
        return tuple(kept if attribute(item, "keep_dims") else [size for axis, size in enumerate(first)
                                                                if axis not in gone])
    if item.op == "Transpose":
        order = constant(item, 1, graph.nodes)
        return tuple(first[axis] for axis in order) if order is not None and len(order) == len(first) else None
    if item.op == "MatMul" and not attribute(item, "transpose_a"):
        return (first[0], static[1]) if static[1] is not None else None
    if item.op.startswith("BatchMatMul"):
        return _product(item, first, sources[1])
    if item.op == "SelectV2":
        return _broadcast(_broadcast(first, sources[1]), sources[2])
    if item.op == "GatherV2" and len(sources) > 1 and sources[1] is not None and not attribute(item, "batch_dims") \
            and constant(item, 2, graph.nodes) == [0]:
        return (*sources[1], *first[1:])
    return None


def _product(item: Node, first: Sizes, second: Sizes) -> Sizes:
    if first is None or second is None or min(len(first), len(second)) < 2:
        return None
    batch = _broadcast(first[:-2], second[:-2])
    rows, columns = first[-1 if attribute(item, "adj_x") else -2], second[-2 if attribute(item, "adj_y") else -1]
    return None if batch is None else (*batch, rows, columns)


def _broadcast(first: Sizes, second: Sizes) -> Sizes:
    if first is None or second is None:
        return None
    rank = max(len(first), len(second))
    sides = [(1,) * (rank - len(one)) + one for one in (first, second)]
    result = []
    for left, right in zip(*sides, strict=True):
        if left != right and 1 not in (left, right):
            return None
        result.append(right if left == 1 else left)
    return tuple(result)


def _reshaped(first: tuple[int | Size, ...], static: tuple[int | None, ...]) -> Sizes:
    """All sizes are known but one, which the number of elements gives."""
    if static.count(None) != 1 or 0 in static:
        return None
    share = Size(Fraction(1, math.prod(size for size in static if size is not None)), ())
    one = math.prod(first, start=share)
    return tuple(one if size is None else size for size in static)


def _window(item: Node, first: tuple[int | Size, ...], sources: Sequence[Sizes], graph: Graph) -> Sizes:
    channels = channel_axis(item, 4)
    if item.op in ("MaxPool", "AvgPool"):
        taps: list[int | Size] = [size for axis, size in enumerate(attribute(item, "ksize"))
                                  if axis not in (0, channels)]
    else:
        filters = sources[1] if len(sources) > 1 else None
        if filters is None:
            return None
        taps = list(filters[:2])
    strides, padding = attribute(item, "strides"), attribute(item, "padding")
    dilations = attribute(item, "dilations") or [1] * 4
    explicit = tuple(attribute(item, "explicit_paddings") or ())
    result: list[int | Size] = [first[0]]
    for axis in range(1, 4):
        if axis == channels:
            result.append(_unknown((item.name, axis)))
            continue
        one = taps.pop(0)
        same = strides[axis] == 1 and (padding == "SAME" or (padding == "VALID" and one == 1))
        result.append(first[axis] if same else _unknown((
            "window", first[axis], one, strides[axis], dilations[axis], padding, explicit[2 * axis:2 * axis + 2])))
    return tuple(result)
