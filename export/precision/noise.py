"""How much each layer loses by itself in a lower precision: noise over signal, of all layers in one pass.

    losses = noise.measure(content, requests, noise.rounded_to_int8(graph, ranges))
    sensitivity.search(evaluate, noise.ranked(losses))

Beside each contraction of the float32 graph a second one is put, which reads the same tensor but with it and the
weights rounded; the difference of the two is the layer's own noise. What other layers lose is not part of it.
"""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from export.graph import Graph, Node, make_const, make_node
from export.ops import input_dtypes
from export.precision.blocks import Block, find
from export.precision.calibration import Request, answers
from export.precision.encoding import Encoding
from export.precision.form import Form
from export.precision.inside import offsets_as_channels
from export.precision.int8_nodes import per_channel
from export.precision.int8_plan import plan
from export.precision.regions import CONTRACTING
from export.saved_model import Content
from export.tensors import BFLOAT16, FLOAT, Array
from export.transform import Draft

_LARGEST = 127
_USUAL = Form()
_ENOUGH = 32  # requests; more change the order of the layers little
Tensors = tuple[str, str]  # half the sums of squares, of the noise and of the signal


@dataclass(frozen=True)
class Rounded:
    """`graph`: the float32 graph with rounded copies beside the layers; `sums`: by layer, the pairs that it adds up,
    of which the first is of the contraction itself."""

    graph: Graph
    sums: Mapping[str, Sequence[Tensors]]

    def difference(self, layer: str) -> str:
        """The tensor (exact - rounded) of the contraction."""
        return self.graph.nodes[self.sums[layer][0][0]].data[0]


def measure(content: Content, asked: Sequence[Request], rounded: Rounded) -> dict[str, float]:  # decision 171
    """By layer, noise over signal: the sum of squared differences by that of squared values, over the requests.

    A layer's input and weights count, and the rounding of its result where that is kept in few bits. A layer that no
    request computes, or that is in a loop, has 0. Of many requests with the same inputs 32 are sent, evenly spaced.
    """
    wanted = [ref for pairs in rounded.sums.values() for pair in pairs for ref in pair]
    totals: dict[str, float] = {}
    for _, answer in answers(replace(content, graph=rounded.graph), asked, wanted, _ENOUGH):
        for ref, value in answer.items():
            totals[ref] = totals.get(ref, 0.0) + float(value)
    return {name: sum(_share(totals[noise], totals[signal]) for noise, signal in pairs if noise in totals)
            for name, pairs in rounded.sums.items()}


def ranked(losses: Mapping[str, float]) -> list[str]:
    """The layers, the one with most noise first; by name if two are equal."""
    return sorted(losses, key=lambda name: (-losses[name], name))


def _share(noise: float, signal: float) -> float:
    if not math.isfinite(noise):
        return math.inf
    return noise / signal if signal else (math.inf if noise else 0.0)


def rounded_to_int8(graph: Graph, ranges: Mapping[str, Any], keep: frozenset[str] = frozenset(),
                    form: Form = _USUAL) -> Rounded:
    """As `int8.quantize` with the same arguments rounds."""
    graph = offsets_as_channels(graph, ranges, keep, form.largest_weight)
    blocks, _ = find(graph)
    made = plan(graph, {name: one for name, one in blocks.items() if name not in keep and {
        one.x, one.result} <= ranges.keys()}, ranges)
    beside = _Beside(graph)
    sums = {}
    for name, block in made.blocks.items():
        whole, largest = per_channel(block, form.largest_weight)
        weights = whole * (largest.reshape(whole.shape[2:]) if block.op == "DepthwiseConv2dNative" else largest)
        sums[name] = [beside.product(block, beside.in_eight_bits(block.x, made.encodings[block.x]), weights / _LARGEST)]
        if block.result in made.encodings:
            sums[name].append(beside.difference(
                block.result, beside.in_eight_bits(block.result, made.encodings[block.result])))
    return Rounded(beside.result(), sums)


def rounded_to_bfloat16(graph: Graph, keep: frozenset[str] = frozenset()) -> Rounded:
    """As bfloat16 rounds the inputs and the result of each float32 contraction."""
    beside = _Beside(graph)
    sums = {item.name: beside.contraction(item) for item in graph.order()
            if item.op in CONTRACTING and item.get("T") == FLOAT and item.name not in keep}
    return Rounded(beside.result(), sums)


class _Beside:
    """Adds nodes to a graph that compute with rounded numbers; what is there stays as it is."""

    def __init__(self, graph: Graph) -> None:
        self._draft = Draft(graph)
        self._rounded: dict[str, str] = {}

    def result(self) -> Graph:
        return self._draft.result().validate("noise")

    def in_eight_bits(self, ref: str, encoding: Encoding) -> str:
        """The tensor as its eight bits stand for it."""
        if ref not in self._rounded:
            least = -_LARGEST if encoding.signed else 0
            most = _LARGEST if encoding.signed else 255
            moved = self._op("AddV2", ref, self._scalar(encoding.offset))
            whole = self._op("Round", self._op("Mul", moved, self._scalar(1 / encoding.step)))
            cut = self._op("Maximum", self._op("Minimum", whole, self._scalar(most)), self._scalar(least))
            self._rounded[ref] = self._op(
                "Sub", self._op("Mul", cut, self._scalar(encoding.step)), self._scalar(encoding.offset))
        return self._rounded[ref]

    def in_bfloat16(self, ref: str) -> str:
        if ref not in self._rounded:
            narrow = self._put("Cast", (ref,), SrcT=FLOAT, DstT=BFLOAT16, Truncate=False)
            self._rounded[ref] = self._put("Cast", (narrow,), SrcT=BFLOAT16, DstT=FLOAT, Truncate=False)
        return self._rounded[ref]

    def product(self, block: Block, x: str, weights: Array) -> Tensors:
        """The contraction with a rounded input and rounded weights, compared with what it computes."""
        node = block.contraction.node
        values = self._const(weights.astype(np.float32))
        own = {"transpose_a": False, "transpose_b": False} if block.op == "MatMul" else block.padding
        made = node.with_inputs((x, values)).with_attrs(**own)
        made = replace(made, name=self._draft.unused_name(f"{block.name}/rounded"))
        self._draft.put(made)
        return self.difference(block.name, made.name)

    def contraction(self, item: Node) -> list[Tensors]:
        """The contraction with all its float32 inputs in bfloat16, and its result in bfloat16."""
        dtypes = input_dtypes(item) or ()
        inputs = [self.in_bfloat16(ref) if dtype == FLOAT else ref
                  for ref, dtype in zip(item.data, dtypes, strict=True)]
        made = item.with_inputs((*inputs, *item.controls))
        made = replace(made, name=self._draft.unused_name(f"{item.name}/rounded"))
        self._draft.put(made)
        return [self.difference(item.name, made.name), self.difference(item.name, self.in_bfloat16(item.name))]

    def difference(self, exact: str, rounded: str) -> Tensors:
        return (self._op("L2Loss", self._op("Sub", exact, rounded)), self._op("L2Loss", exact))

    def _op(self, op: str, *inputs: str) -> str:
        return self._put(op, inputs, T=FLOAT)

    def _put(self, op: str, inputs: Sequence[str], **attrs: Any) -> str:
        made = make_node(self._draft.unused_name(f"noise/{op}"), op, inputs, **attrs)
        self._draft.put(made)
        return made.name

    def _scalar(self, value: float) -> str:
        return self._const(np.asarray(value, np.float32))

    def _const(self, value: Array) -> str:
        made = make_const(self._draft.unused_name("noise/Const"), value)
        self._draft.put(made)
        return made.name
