"""A contraction with what the runtime's int8 kernels compute along with it: bias, residual addition, activation."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from export.convolution import merged_padding
from export.folding.contraction import Contraction
from export.graph import Graph, Node, producer
from export.ops import attribute
from export.pattern import Skip
from export.precision import activation
from export.precision.activation import Activation
from export.tensors import FLOAT, Array

# Beyond it the kernels' scales, products of two of them in float32, would not be finite.
LARGEST_VALUE = 1e15
CONVOLUTIONS = frozenset({"Conv2D", "DepthwiseConv2dNative"})
# What each kernel can apply to its sums. Relu6 of a convolution is Relu and a largest value of 6.
_ACTIVATIONS = {
    **dict.fromkeys(CONVOLUTIONS, frozenset({"Relu", "Relu6"})),
    "MatMul": frozenset({"Relu", "Relu6", "Elu", "Tanh", "Sigmoid", "LeakyRelu", "GeluExact", "GeluApproximate"})}
_RANKS = {**dict.fromkeys(CONVOLUTIONS, 4), "MatMul": 2}
_ADDITIONS = frozenset({"Add", "AddV2"})
_SUMS = frozenset({"BiasAdd", *_ADDITIONS})
_ENTERS = frozenset({"Enter", "RefEnter"})
_EXITS = frozenset({"Exit", "RefExit"})
# The kernels add up products of numbers up to 255 and 127 in 32 bits.
_MOST_INPUTS = 2**31 // (255 * 127)


@dataclass(frozen=True)
class Block:
    """activation(contraction(x, weights) + bias + summand) -> result.

    `weights`: as the kernel takes them (a MatMul's not transposed); `bias`: float32 [outputs]. `linear`: the names of
    the nodes up to the activation, the contraction first. `summand`: "" if nothing is added. `padding`: a convolution's
    attributes `padding` and `explicit_paddings`, with the node `pad` before it ("" if there is none).
    """

    contraction: Contraction
    x: str
    weights: Array
    bias: Array
    linear: tuple[str, ...]
    activation: Activation | None = None
    summand: str = ""
    padding: Mapping[str, Any] = field(default_factory=dict)
    pad: str = ""

    @property
    def name(self) -> str:
        return self.contraction.node.name

    @property
    def op(self) -> str:
        return self.contraction.node.op

    @property
    def members(self) -> tuple[str, ...]:
        """The names of the nodes that the block replaces, in order."""
        return (*([self.pad] if self.pad else []), *self.linear,
                *(self.activation.members if self.activation else ()))

    @property
    def result(self) -> str:
        return self.members[-1]

    @property
    def pads(self) -> bool:
        """Whether zeros are put beside the values of x."""
        if self.op == "MatMul":
            return False
        if self.padding["padding"] == "EXPLICIT":
            return any(self.padding["explicit_paddings"])
        # A SAME window of one pixel never reaches beyond the image, whatever its stride.
        return bool(self.padding["padding"] == "SAME" and self.weights.shape[:2] != (1, 1))


def find(graph: Graph) -> tuple[dict[str, Block], dict[str, str]]:
    """The blocks by the name of their contraction in the graph's order, and for other contractions why there is none.

    Residual additions are not in the blocks yet: see `residuals`.
    """
    blocks: dict[str, Block] = {}
    reasons: dict[str, str] = {}
    looped = in_loops(graph)
    for item in graph.order():
        if item.op not in _ACTIVATIONS:
            continue
        try:
            if item.name in looped:
                # Each of the many constants would need a control input that keeps it in the loop's frame.
                raise Skip("it is inside a while loop")
            blocks[item.name] = _block(graph, item)
        except Skip as skip:
            reasons[item.name] = skip.reason
    return blocks, reasons


def residuals(graph: Graph, blocks: Mapping[str, Block]) -> list[tuple[Block, Node, str]]:
    """Each convolution block without activation whose only reader adds another tensor: (block, addition, that tensor).

    In the order of the additions. Both sides of one may be such blocks; the one that runs last then comes first, since
    it can write its sum into the other's buffer.
    """
    found = []
    for block in reversed(list(blocks.values())):
        if block.op == "MatMul" or block.activation:
            continue
        addition = sole_reader(graph, block.result)
        if addition is None or addition.op not in _ADDITIONS or len(addition.data) != 2:
            continue
        other = next(ref for ref in addition.data if ref != block.result)
        if graph.nodes[producer(other)].op != "Const":  # a bias that does not fit
            found.append((block, addition, other))
    place = {item.name: number for number, item in enumerate(graph.order())}
    return sorted(found, key=lambda each: place[each[1].name])


def with_residual(graph: Graph, block: Block, addition: Node, summand: str) -> Block:
    """The block that also adds `summand`, and then applies a Relu or Relu6 that follows."""
    return replace(block, summand=summand, linear=(*block.linear, addition.name),
                   activation=activation.find(graph, addition.name, _ACTIVATIONS[block.op], _RANKS[block.op]))


def sole_reader(graph: Graph, tensor: str) -> Node | None:
    """The only node that reads `tensor`, once.

    None if there are others, if `tensor` is a requested input or output, or if the reader's own value is fed.
    """
    name = producer(tensor)
    readers = graph.consumers.get(name, ())
    if name in graph.kept or len(readers) != 1 or tensor != name:
        return None
    reader = graph.nodes[readers[0]]
    once = reader.inputs.count(name) == 1 and f"^{name}" not in reader.inputs
    return reader if once and reader.name not in graph.fed else None


def in_loops(graph: Graph) -> set[str]:
    """The nodes inside the while loops of TensorFlow 1, between Enter and Exit."""
    depths: dict[str, int] = {}
    for item in graph.order():
        depth = max((depths.get(producer(ref), 0) for ref in item.inputs), default=0)
        depths[item.name] = depth + (item.op in _ENTERS) - (item.op in _EXITS and depth > 0)
    return {name for name, depth in depths.items() if depth}


def _block(graph: Graph, item: Node) -> Block:
    weights = graph.nodes[producer(item.data[1])]
    if weights.op != "Const" or weights.name in graph.fed:
        raise Skip("its weights are not constant")
    if attribute(item, "T") != FLOAT:
        raise Skip(f"it computes in {attribute(item, 'T')!r}")
    if item.name in graph.fed:
        raise Skip("it is fed from outside")
    contraction = Contraction(item, weights)
    contraction.require_float()
    values = weights.value
    if not np.isfinite(values).all():
        raise Skip("its weights hold NaN or infinity")
    if values.size // contraction.outputs > _MOST_INPUTS:
        raise Skip("it adds up more products than 32 bits hold")
    if np.abs(values).max() > LARGEST_VALUE:
        raise Skip("its weights are too large for the kernels' scales")
    x, pad = item.data[0], ""
    padding: dict[str, Any] = {}
    if item.op == "MatMul":
        values = _product(item, values)
    else:
        x, padding, pad = _convolution(graph, item, values)
    bias = np.zeros(contraction.outputs, np.float32)
    block = Block(contraction, x, values, bias, (item.name,), padding=padding, pad=pad)
    block = _with_bias(graph, block)
    return replace(block, activation=activation.find(graph, block.result, _ACTIVATIONS[item.op], _RANKS[item.op]))


def _product(item: Node, values: Array) -> Array:
    if attribute(item, "transpose_a"):
        raise Skip("its input is transposed")
    return np.ascontiguousarray(values.T) if attribute(item, "transpose_b") else values


def _convolution(graph: Graph, item: Node, values: Array) -> tuple[str, dict[str, Any], str]:
    """The tensor that the kernel reads, how it pads it, and the Pad that is merged: one that nothing else reads."""
    if attribute(item, "data_format") != "NHWC":
        raise Skip("the int8 kernels take NHWC only")
    image = graph.shapes.get(item.data[0])
    if image is None or image[-1] is None:
        raise Skip("the channels of its input are not known, so that it may be grouped: there is no such int8 kernel")
    if image[-1] != values.shape[2]:
        raise Skip("there is no int8 kernel for a grouped convolution")
    own = {key: attribute(item, key) for key in ("padding", "explicit_paddings")}
    pad = graph.nodes[producer(item.data[0])]
    if pad.op != "Pad" or pad.name in graph.fed or sole_reader(graph, pad.name) is not item:
        return item.data[0], own, ""
    amounts = graph.nodes[producer(pad.data[1])]
    if amounts.op != "Const" or amounts.name in graph.fed:
        return item.data[0], own, ""
    try:
        return pad.data[0], {"explicit_paddings": [], **merged_padding(item, amounts.value)}, pad.name
    except Skip:
        return item.data[0], own, ""


def _with_bias(graph: Graph, block: Block) -> Block:
    """The block with a constant that is added per output channel."""
    reader = sole_reader(graph, block.result)
    if reader is None or reader.op not in _SUMS or (
            reader.op == "BiasAdd" and attribute(reader, "data_format") != "NHWC"):
        return block
    constants = [graph.nodes[producer(ref)] for ref in reader.data if ref != block.result]
    if len(constants) != 1 or constants[0].op != "Const" or constants[0].name in graph.fed:
        return block
    shape = constants[0].shape
    rank = _RANKS[block.op]
    outputs = block.contraction.outputs
    if len(shape) > rank or any(size != 1 for size in shape[:-1]) or (shape and shape[-1] not in (1, outputs)):
        return block
    value = np.broadcast_to(constants[0].value.ravel() if shape else constants[0].value, (outputs,))
    if not np.isfinite(value).all():
        raise Skip("its bias holds NaN or infinity")
    return replace(block, bias=value.astype(np.float32), linear=(*block.linear, reader.name))
