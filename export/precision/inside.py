"""An offset before a padding convolution, as input channels that are constant inside the image and 0 in its border.

    conv2(pool(relu(conv1(x))) + t)   =   conv2'(pool(relu(conv1'(x))))

conv1' makes a few more channels, whose weights are 0 and whose bias is `value`; conv2' multiplies them by what t adds
at each position of its window. What t adds in the border thus stays out, as in the original. Without the addition
between, all stays in eight bits, and without negative numbers.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from export.graph import Graph, Node, make_const, producer
from export.ops import attribute
from export.precision.blocks import LARGEST_VALUE, in_loops, sole_reader
from export.tensors import FLOAT, Array
from export.transform import Draft

_BETWEEN = frozenset({"Relu", "MaxPool", "AvgPool", "Identity"})
_ADDITIONS = frozenset({"AddV2", "Add", "BiasAdd"})
# Four eight-bit numbers are multiplied at once; more than 16 channels would cost more than the addition.
_COUNTS = (4, 8, 12, 16)
_LARGEST = 127


# decision 191
def offsets_as_channels(graph: Graph, ranges: Mapping[str, Any], keep: frozenset[str] = frozenset(),
                        largest_weight: int = _LARGEST) -> Graph:
    """The graph without the offsets that can be channels. ranges: of the tensors that the offsets are added to;
    largest_weight: the whole number that a channel's largest weight will become.

    Both convolutions must be Conv2D with constant weights in NHWC and not in `keep`, and only a bias, pools
    and Relu may be between; no tensor on the way may have another reader.
    """
    draft = Draft(graph)
    keep |= in_loops(graph)
    for item in graph.order():
        if item.op in _ADDITIONS:
            _without(draft, item, ranges, keep, largest_weight)
    return draft.result()


def offset_inputs(graph: Graph) -> list[str]:
    """The tensors whose ranges `offsets_as_channels` needs."""
    return [path[0] for item in graph.nodes.values() if item.op in _ADDITIONS
            and (path := _path(graph, item)) is not None]


def _without(draft: Draft, item: Node, ranges: Mapping[str, Any], keep: frozenset[str], largest_weight: int) -> None:
    """Makes this addition channels, if it can be. A convolution may already have more channels for another one."""
    path = _path(draft.graph, item)
    if path is None or path[0] not in ranges:
        return
    source, before, after, offset = path
    value = float(ranges[source].high)
    if {before, after} & keep or not 0 < value <= LARGEST_VALUE:
        return
    first, second = draft.nodes[before], draft.nodes[after]
    bias = draft.nodes[draft.graph.consumers[before][0]]
    weights = {node.name: draft.nodes[producer(node.data[1])] for node in (first, bias, second)}
    made = _more_inputs(weights[after].value, offset, value, largest_weight)
    if made is None:
        return
    values, count = made
    own = weights[before].value
    arrays = {before: np.concatenate([own, np.zeros((*own.shape[:3], count), np.float32)], 3),
              bias.name: np.concatenate([weights[bias.name].value, np.full(count, value, np.float32)]),
              after: values}
    for node in (first, bias, second):
        old = weights[node.name]
        constant = make_const(draft.unused_name(f"{old.name}/with_channels"), arrays[node.name], old.controls)
        draft.put(constant)
        x = source if node.name == after else node.data[0]
        draft.put(node.with_inputs((x, constant.name, *node.controls)))
    draft.drop_unused([item.name, *(node.name for node in weights.values())])


def _path(graph: Graph, item: Node) -> tuple[str, str, str, Array] | None:
    """(tensor that the offset is added to, convolution before, convolution after, offset); None if it cannot be."""
    if item.get("T") != FLOAT or item.name in graph.kept or item.controls or (
            item.op == "BiasAdd" and attribute(item, "data_format") != "NHWC"):
        return None
    second = sole_reader(graph, item.name)
    if second is None or len(item.data) != 2 or not _is_plain(graph, second) or second.data[0] != item.name:
        return None
    if attribute(second, "padding") == "VALID":
        return None  # such an offset belongs into the bias
    constants = [ref for ref in item.data if graph.nodes[producer(ref)].op == "Const"]
    if len(constants) != 1 or producer(constants[0]) in graph.fed:
        return None
    source = next(ref for ref in item.data if ref != constants[0])
    value = graph.nodes[producer(constants[0])].value
    channels = graph.nodes[producer(second.data[1])].shape[2]
    if value.size not in (1, channels) or any(size != 1 for size in value.shape[:-1]) or not np.isfinite(value).all():
        return None
    first = graph.nodes[producer(source)]
    reader = item
    while first.op in _BETWEEN and _keeps_constant(first) and sole_reader(graph, first.name) is reader:
        reader, first = first, graph.nodes[producer(first.data[0])]
    if first.op != "BiasAdd" or sole_reader(graph, first.name) is not reader:
        return None
    bias, first = first, graph.nodes[producer(first.data[0])]
    known = graph.nodes[producer(bias.data[1])]
    if known.op != "Const" or known.name in graph.fed or attribute(bias, "data_format") != "NHWC":
        return None
    if not _is_plain(graph, first) or sole_reader(graph, first.name) is not bias:
        return None
    return source, first.name, second.name, np.broadcast_to(value.ravel().astype(np.float64), (channels,))


def _keeps_constant(item: Node) -> bool:
    """Whether a channel that is a constant above 0 still is after the node."""
    return item.op not in ("MaxPool", "AvgPool") or (attribute(item, "data_format") == "NHWC" and all(
        attribute(item, key)[axis] == 1 for key in ("ksize", "strides") for axis in (0, 3)))


def _is_plain(graph: Graph, item: Node) -> bool:
    """Whether it is a Conv2D of which all is known, and which is not grouped."""
    if item.op != "Conv2D" or item.get("T") != FLOAT or attribute(item, "data_format") != "NHWC" or (
            item.name in graph.kept):
        return False
    weights, image = graph.nodes[producer(item.data[1])], graph.shapes.get(item.data[0])
    return weights.op == "Const" and weights.name not in graph.fed and len(weights.shape) == 4 and bool(
        image and image[-1] == weights.shape[2])


def _more_inputs(weights: Array, offset: Array, value: float, largest_weight: int) -> tuple[Array, int] | None:
    """The weights with more input channels, which are `value` inside the image; and how many more.

    What they multiply is a whole number of the int8 steps of the output channel, so that quantizing it changes nothing.
    None if so many are needed that the other weights would lose steps.
    """
    response = np.einsum("hwio,i->hwo", weights.astype(np.float64), offset) / value
    largest = np.abs(weights).max((0, 1, 2)).astype(np.float64)
    step = np.where(largest > 0, largest, 1.0) / largest_weight
    steps = np.round(response / step)
    count = next((count for count in _COUNTS if np.abs(steps).max() <= count * largest_weight), None)
    if count is None:
        return None
    share = np.floor(steps / count)
    left = steps - share * count
    parts = [(share + (left > number)) * step for number in range(count)]
    return np.concatenate([weights, np.stack(parts, 2).astype(np.float32)], 2), count
