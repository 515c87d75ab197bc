"""How many multiplications and additions a graph's contractions compute for a batch: what a speed in FLOP/s divides."""
from __future__ import annotations

import math
from collections.abc import Mapping

from export.graph import Graph, Node, port, producer
from export.graph_file import as_graph_def, whole
from export.ops import attribute
from user_error import UserError

Sizes = tuple[int, ...]

# Shapes are computed from constants of this size at most, never from weights.
_MAX_ELEMENTS = 1024

_CONVOLUTIONS = frozenset({"Conv2D", "Conv3D", "_FusedConv2D", "_FusedQuantizedConv2D"})
_DEPTHWISE = frozenset({
    "DepthwiseConv2dNative", "_FusedDepthwiseConv2dNative", "_FusedQuantizedDepthwiseConv2D"})
_TRANSPOSED = frozenset({"Conv2DBackpropInput", "Conv3DBackpropInputV2"})
_PRODUCTS = frozenset({"MatMul", "_FusedMatMul", "_QuantizedMatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"})
CONTRACTIONS = _CONVOLUTIONS | _DEPTHWISE | _TRANSPOSED | _PRODUCTS | {"Einsum"}


def gigaflop(graph: Graph, batch: int) -> float:
    """What the contractions compute for `batch` examples: 2e-9 for each multiplication with its addition."""
    return 2e-9 * sum(multiply_adds(graph, batch).values())


def multiply_adds(graph: Graph, batch: int) -> dict[str, int]:
    """By contraction, the multiplications, each with an addition, that it computes for `batch` examples.

    An unknown first size of an input is the batch. The bodies of functions are not counted, that of a v1 loop once.
    Raises UserError for a contraction whose sizes depend on more than the batch.
    """
    chosen = {name: item for name, item in graph.nodes.items() if item.op in CONTRACTIONS}
    sizes = _sizes(graph, batch, {ref for item in chosen.values() for ref in (*item.data, item.name)})
    return {name: of(item, sizes) for name, item in chosen.items()}


def of(item: Node, sizes: Mapping[str, Sizes | None]) -> int:
    """The multiplications of one contraction; `sizes`: of its inputs and its output, by tensor name."""
    def known(ref: str) -> Sizes:
        found = sizes.get(ref)
        if found is None:
            raise UserError(f"the multiplications of '{item.name}' ({item.op}) cannot be counted: the shape of '{ref}' "
                            "depends on more than the batch")
        return found
    if item.op in _CONVOLUTIONS:
        return math.prod(known(item.name)) * math.prod(known(item.data[1])[:-1])
    if item.op in _DEPTHWISE:
        return math.prod(known(item.name)) * math.prod(known(item.data[1])[:2])
    if item.op in _TRANSPOSED:  # each number of the smaller, third input is multiplied with the filters of its channel
        return math.prod(known(item.data[2])) * math.prod(known(item.data[1])[:-1])
    if item.op == "Einsum":
        return _einsum(str(attribute(item, "equation")), [known(ref) for ref in item.data])
    first = known(item.data[0])
    rows_summed = attribute(item, "transpose_a") or attribute(item, "adj_x")
    return math.prod(known(item.name)) * first[-2 if rows_summed else -1]


def _einsum(equation: str, shapes: list[Sizes]) -> int:
    """The product of the sizes of all letters, those behind "..." included."""
    sizes: dict[str, int] = {}
    for letters, shape in zip(equation.replace(" ", "").partition("->")[0].split(","), shapes, strict=True):
        before, dots, after = letters.partition("...")
        hidden = shape[len(before):len(shape) - len(after)] if dots else ()
        # Hidden axes of two inputs are aligned at their ends.
        names = [*before, *(str(index - len(hidden)) for index in range(len(hidden))), *after]
        for name, size in zip(names, shape, strict=True):
            sizes[name] = max(sizes.get(name, 1), size)
    return math.prod(sizes.values())


def _sizes(graph: Graph, batch: int, wanted: set[str]) -> dict[str, Sizes | None]:
    """The shapes of the wanted tensors at a batch; None where one is not known.

    By TensorFlow's shape inference of the whole graph, which follows shapes that the graph computes, as Keras' products
    of three-dimensional tensors do.
    """
    from export.runtime import tf
    graph_def = as_graph_def(whole(graph.with_nodes(map(_without_weights, graph.nodes.values()))))
    for node in graph_def.node:
        shape = node.attr["shape"].shape if node.op in ("Placeholder", "PlaceholderWithDefault") else None
        if shape is not None and node.name in graph.fed and shape.dim and shape.dim[0].size < 0:
            shape.dim[0].size = batch
    loaded = tf.Graph()
    with loaded.as_default():
        tf.import_graph_def(graph_def, name="")
    found = {ref: loaded.get_tensor_by_name(f"{producer(ref)}:{port(ref)}").shape for ref in wanted}
    return {ref: tuple(shape.as_list()) if shape.is_fully_defined() else None for ref, shape in found.items()}


def _without_weights(item: Node) -> Node:
    """A node, or in place of a large constant a placeholder of its shape: importing its bytes would take seconds."""
    if item.op != "Const" or math.prod(item.shape) <= _MAX_ELEMENTS:
        return item
    shape = type(item.attrs["value"])(shape=item.attrs["value"].tensor.tensor_shape)
    return Node(item.name, "Placeholder", item.inputs, {"dtype": item.attrs["dtype"], "shape": shape}, item.device)
