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
from export.precision.blocks import sole_reader
from export.tensors import FLOAT, Array
from export.transform import Draft

_BETWEEN = frozenset({"Relu", "MaxPool", "AvgPool", "BiasAdd", "Identity"})
# Four eight-bit numbers are multiplied at once; more than 16 channels would cost more than the addition.
_COUNTS = (4, 8, 12, 16)
_LARGEST = 127


# decision 191
def offsets_as_channels(graph: Graph, ranges: Mapping[str, Any], keep: frozenset[str] = frozenset()) -> Graph:
    """The graph without the offsets that can be channels. ranges: of the tensors that the offsets are added to.

    Both convolutions must be Conv2D with constant weights in NHWC and not in `keep`, and only pools, Relu and a bias
    may be between; no tensor on the way may have another reader.
    """
    for item in graph.order():
        if item.op in ("AddV2", "Add", "BiasAdd") and item.get("T") == FLOAT and item.name not in graph.kept:
            graph = _without(graph, graph.nodes[item.name], ranges, keep)
    return graph


def offset_inputs(graph: Graph) -> list[str]:
    """The tensors whose ranges `offsets_as_channels` needs."""
    return [path[0] for item in graph.nodes.values() if item.op in ("AddV2", "Add", "BiasAdd")
            and (path := _path(graph, item)) is not None]


def _without(graph: Graph, item: Node, ranges: Mapping[str, Any], keep: frozenset[str]) -> Graph:
    """The graph in which this addition is channels; the same graph if it cannot be."""
    path = _path(graph, item)
    if path is None or path[0] not in ranges:
        return graph
    source, first, second, offset = path
    value = float(ranges[source].high)
    if first.name in keep or second.name in keep or value <= 0:
        return graph
    made = _more_inputs(graph.nodes[producer(second.data[1])].value, offset, value)
    if made is None:
        return graph
    weights, count = made
    draft = Draft(graph)
    own = graph.nodes[producer(first.data[1])].value
    more = np.zeros((*own.shape[:3], count), np.float32)
    bias = sole_reader(graph, first.name)
    assert bias is not None  # _path has found it
    constants = {}
    for name, array in ((first.data[1], np.concatenate([own, more], 3)), (second.data[1], weights),
                        (bias.data[1], np.concatenate([graph.nodes[producer(bias.data[1])].value,
                                                       np.full(count, value, np.float32)]))):
        constants[name] = make_const(draft.unused_name(f"{name}/with_channels"), array)
        draft.put(constants[name])
    for node in (first, bias):
        draft.put(node.with_inputs(constants[ref].name if ref in constants and ref != node.data[0] else ref
                                   for ref in node.inputs))
    draft.put(second.with_inputs((source, constants[second.data[1]].name, *second.controls)))
    draft.drop_unused([item.name, first.data[1], second.data[1], bias.data[1]])
    return draft.result()


def _path(graph: Graph, item: Node) -> tuple[str, Node, Node, Array] | None:
    """(tensor that the offset is added to, convolution before, convolution after, offset); None if it cannot be."""
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
    reader: Node | None = item
    while first.op in _BETWEEN and sole_reader(graph, first.name) is reader and (
            first.op != "BiasAdd" or not _is_plain(graph, graph.nodes[producer(first.data[0])])):
        reader, first = first, graph.nodes[producer(first.data[0])]
    if first.op != "BiasAdd" or sole_reader(graph, first.name) is not reader:
        return None
    bias, first = first, graph.nodes[producer(first.data[0])]
    known = graph.nodes[producer(bias.data[1])]
    if known.op != "Const" or known.name in graph.fed or attribute(bias, "data_format") != "NHWC":
        return None
    if not _is_plain(graph, first) or sole_reader(graph, first.name) is not bias:
        return None
    return source, first, second, np.broadcast_to(value.ravel().astype(np.float64), (channels,))


def _is_plain(graph: Graph, item: Node) -> bool:
    """Whether it is a Conv2D of which all is known, and which is not grouped."""
    if item.op != "Conv2D" or item.get("T") != FLOAT or attribute(item, "data_format") != "NHWC" or (
            item.name in graph.kept):
        return False
    weights, image = graph.nodes[producer(item.data[1])], graph.shapes.get(item.data[0])
    return weights.op == "Const" and weights.name not in graph.fed and len(weights.shape) == 4 and bool(
        image and image[-1] == weights.shape[2])


def _more_inputs(weights: Array, offset: Array, value: float) -> tuple[Array, int] | None:
    """The weights with more input channels, which are `value` inside the image; and how many more.

    What they multiply is a whole number of the int8 steps of the output channel, so that quantizing it changes nothing.
    None if so many are needed that the other weights would lose steps.
    """
    response = np.einsum("hwio,i->hwo", weights.astype(np.float64), offset) / value
    largest = np.abs(weights).max((0, 1, 2)).astype(np.float64)
    step = np.where(largest > 0, largest, 1.0) / _LARGEST
    steps = np.round(response / step)
    count = next((count for count in _COUNTS if np.abs(steps).max() <= count * _LARGEST), None)
    if count is None:
        return None
    share = np.floor(steps / count)
    left = steps - share * count
    parts = [(share + (left > number)) * step for number in range(count)]
    return np.concatenate([weights, np.stack(parts, 2).astype(np.float32)], 2), count
