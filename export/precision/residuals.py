"""Residual additions written so that TensorFlow computes them inside the convolution before them.

TensorFlow's optimizer merges Conv2D + BiasAdd + addition + Relu into one kernel, for an AddV2 only if it can tell that
nothing is broadcast. It knows no size of a fed tensor, so it cannot tell after a stride, a VALID padding or a pooling;
an AddN adds equal shapes by definition. Here the sizes are compared by where they come from: two unknown sizes are
equal if the same operations made them from the same input's size.
"""
from __future__ import annotations

from collections.abc import Hashable

from export.graph import Graph, Node, make_node, producer
from export.ops import attribute
from export.shapes import SAME_AS_FIRST, channel_axis, constant

Size = Hashable
_WINDOWS = frozenset({"Conv2D", "DepthwiseConv2dNative", "MaxPool", "AvgPool"})


def with_fused_residuals(graph: Graph) -> Graph:  # decision 0161
    """AddV2(convolution with bias, x) -> AddN, where both provably have the same shape.

    The sum is the same to the last bit; what an AddV2 would have broadcast, an AddN would refuse.
    """
    changed = {}
    sizes = known_sizes(graph)
    for item in graph.nodes.values():
        if item.op in ("Add", "AddV2") and not item.controls and len(set(item.data)) == 2 and any(
                _fusible(graph, ref, item) for ref in item.data):
            first, second = (sizes.get(ref) for ref in item.data)
            if first is not None and first == second:
                changed[item.name] = make_node(item.name, "AddN", item.data, item.device, N=2, T=item.get("T"))
    return graph.with_nodes({**graph.nodes, **changed}.values()) if changed else graph


def _fusible(graph: Graph, ref: str, reader: Node) -> bool:
    """Whether a tensor is a convolution with bias that only `reader` reads."""
    bias = graph.nodes[producer(ref)]
    if bias.op != "BiasAdd" or not _only(graph, bias, reader):
        return False
    convolution = graph.nodes[producer(bias.data[0])]
    return convolution.op == "Conv2D" and _only(graph, convolution, bias)


def _only(graph: Graph, item: Node, reader: Node) -> bool:
    return item.name not in graph.kept and graph.consumers[item.name] == (reader.name,) and not item.controls


def known_sizes(graph: Graph) -> dict[str, tuple[Size, ...] | None]:
    """For each first output the sizes of its axes: numbers, or for unknown ones a value that only equal sizes share."""
    found: dict[str, tuple[Size, ...] | None] = {}
    for item in graph.order():
        static = graph.shapes.get(item.name)
        if static is None:
            found[item.name] = None
            continue
        sources = [found.get(ref) for ref in item.data]
        derived = _derived(item, sources, graph)
        found[item.name] = tuple(
            size if size is not None else derived[axis] if derived is not None and len(derived) == len(static)
            else (item.name, axis) for axis, size in enumerate(static))
    return found


def _derived(item: Node, sources: list[tuple[Size, ...] | None], graph: Graph) -> tuple[Size, ...] | None:
    """The output's sizes from those of the inputs, where a rule is known."""
    if not sources or sources[0] is None:
        return None
    first = sources[0]
    if item.op in SAME_AS_FIRST or item.op == "AddN":
        return first
    if item.op in ("Add", "AddV2", "Sub", "Mul", "Maximum", "Minimum"):
        return _broadcast(first, sources[1])
    if item.op in ("Pad", "PadV2", "MirrorPad"):
        pads = constant(item, 1, graph.nodes)
        if pads is None or len(pads) != 2 * len(first):
            return None
        added = [sum(pads[2 * axis:2 * axis + 2]) for axis in range(len(first))]
        return tuple(size if not more else ("padded", size, more) for size, more in zip(first, added, strict=True))
    if item.op in _WINDOWS and len(first) == 4:
        return _window(item, first, sources, graph)
    return None


def _broadcast(first: tuple[Size, ...], second: tuple[Size, ...] | None) -> tuple[Size, ...] | None:
    if second is None or len(second) > len(first):
        return None
    whole = (1,) * (len(first) - len(second)) + second
    if all(other in (size, 1) for size, other in zip(first, whole, strict=True)):
        return first
    return None


def _window(item: Node, first: tuple[Size, ...], sources: list[tuple[Size, ...] | None],
            graph: Graph) -> tuple[Size, ...] | None:
    channels = channel_axis(item, 4)
    if item.op in ("MaxPool", "AvgPool"):
        taps: list[Size] = [size for axis, size in enumerate(attribute(item, "ksize")) if axis not in (0, channels)]
    else:
        filters = sources[1] if len(sources) > 1 else None
        if filters is None:
            return None
        taps = list(filters[:2])
    strides, padding = attribute(item, "strides"), attribute(item, "padding")
    dilations = attribute(item, "dilations") or [1] * 4
    explicit = tuple(attribute(item, "explicit_paddings") or ())
    result: list[Size] = [first[0]]
    for axis in range(1, 4):
        if axis == channels:
            result.append(("channels", item.name))
            continue
        one = taps.pop(0)
        same = strides[axis] == 1 and (padding == "SAME" or (padding == "VALID" and one == 1))
        result.append(first[axis] if same else (
            "window", first[axis], one, strides[axis], dilations[axis], padding, explicit[2 * axis:2 * axis + 2]))
    return tuple(result)
