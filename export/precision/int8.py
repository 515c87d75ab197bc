"""Post-training quantization with the int8 kernels of TensorFlow's own build.

    graph, layers = quantize(graph, ranges, keep)

Contractions run in eight bits with their bias, residual addition and activation, and what lies between them (pooling,
concatenation, padding, another shape) stays in eight bits: no pair of Dequantize and QuantizeV2 between two of them.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from export.graph import Graph, Node, producer
from export.ops import SHAPE_OPS
from export.precision.blocks import LARGEST_VALUE, Block, find, residuals, with_residual
from export.precision.encoding import Encoding
from export.precision.form import Form
from export.precision.inside import offset_inputs, offsets_as_channels
from export.precision.int8_nodes import Int8Nodes
from export.precision.int8_plan import Plan, plan
from export.precision.layer import Layer
from export.precision.passing import passing_inputs
from export.precision.regions import CONTRACTING
from export.transform import Draft

_USUAL = Form()


class Limits(Protocol):
    """The range of a tensor's values (export.precision.ranges.Range)."""

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...


def wanted_tensors(graph: Graph) -> list[str]:
    """The tensors whose ranges `quantize` needs."""
    blocks, _ = find(graph)
    found = [ref for block in blocks.values() for ref in (block.x, block.linear[-1], block.result)]
    for block, addition, summand in residuals(graph, blocks):
        found += [summand, addition.name, with_residual(graph, block, addition, summand).result]
    return list(dict.fromkeys((*found, *_moved_from(graph, found), *offset_inputs(graph))))


def quantize(graph: Graph, ranges: Mapping[str, Limits], keep: frozenset[str] = frozenset(), form: Form = _USUAL
             ) -> tuple[Graph, list[Layer]]:
    """The graph with int8 contractions, and what became of each contraction.

    ranges: by tensor, for all of `wanted_tensors`; a tensor without one keeps its readers in float32. keep: names of
    contractions that stay float32. Answers differ from the graph's; how far, only a comparison can say. Before the
    graph is served, export.precision.guard holds what is fed to the shapes that the graph states.
    """
    graph = offsets_as_channels(graph, ranges, keep, form.largest_weight)
    blocks, reasons = find(graph)
    for name, block in list(blocks.items()):
        reason = "kept in float32" if name in keep else _range_refusal(block, ranges)
        if reason:
            del blocks[name]
            reasons[name] = reason
    made = plan(graph, blocks, {ref: limits for ref, limits in ranges.items() if _is_usable(limits)})
    reasons |= made.reasons
    layers = [Layer(item.name, item.op, "int8", made.apart.get(item.name, "")) if item.name in made.blocks else
              Layer(item.name, item.op, "float32", reasons.get(item.name, f"there is no int8 kernel for {item.op}"))
              for item in graph.order() if item.op in CONTRACTING]
    return _Quantizer(graph, made, form).result().validate("int8"), [*layers, *_in_functions(graph)]


def _moved_from(graph: Graph, tensors: Iterable[str]) -> list[str]:
    """The tensors that these are moved from, step by step."""
    found: dict[str, None] = {}
    todo = list(tensors)
    while todo:
        for ref in passing_inputs(graph, graph.nodes[producer(todo.pop())]):
            if ref not in found:
                found[ref] = None
                todo.append(ref)
    return list(found)


def _range_refusal(block: Block, ranges: Mapping[str, Limits]) -> str:
    """Why the block's ranges do not allow eight bits; "" if they do."""
    for ref in (block.x, block.linear[-1], block.result):
        if ref not in ranges:
            return f"no range was measured for '{ref}'"
        if not _is_usable(ranges[ref]):
            return f"the values of '{ref}' reach from {ranges[ref].low:g} to {ranges[ref].high:g}"
    return ""


def _is_usable(limits: Limits) -> bool:
    return -LARGEST_VALUE <= limits.low <= limits.high <= LARGEST_VALUE  # False for NaN too


def _in_functions(graph: Graph) -> list[Layer]:
    """The contractions in the bodies of functions (loops and conditions of TensorFlow 2), which stay as they are."""
    found = [(name, item.name, item.op) for name, body in graph.bodies.items() for item in body.nodes.values()]
    for function in graph.library.function if graph.library is not None else ():
        if function.signature.name not in graph.bodies:
            found += [(function.signature.name, item.name, item.op) for item in function.node_def]
    return [Layer(f"{function}/{name}", op, "float32", f"it is in the body of the function '{function}'")
            for function, name, op in found if op in CONTRACTING]


class _Quantizer:
    """Goes through the graph in order, and remembers which float tensors exist in eight bits."""

    def __init__(self, graph: Graph, made: Plan, form: Form) -> None:
        self.graph, self.plan = graph, made
        self.draft = Draft(graph)
        self.nodes = Int8Nodes(self.draft, form)
        self.eight: dict[str, str] = {}

    def result(self) -> Graph:
        results = {block.result: block for block in self.plan.blocks.values()}
        for item in self.graph.order():
            if item.name in results:
                self._block(results[item.name])
            elif item.name in self.plan.passing:
                encoding = self.plan.encodings[item.name]
                tensors = [self._in_eight_bits(ref, item.device) for ref in passing_inputs(self.graph, item)]
                self._made(item, self.nodes.passing(item, tensors, encoding), encoding)
        self.draft.drop_unused(list(self.graph.consumers))
        return self.draft.result().without_dangling_colocation()

    def _block(self, block: Block) -> None:
        device = block.contraction.node.device
        x = self._in_eight_bits(block.x, device), self.plan.encodings[block.x]
        summand = None
        if block.summand:
            summand = self._in_eight_bits(block.summand, device), self.plan.encodings[block.summand]
        out = self.plan.encodings.get(block.result)
        made = self.nodes.contraction(block, x, summand, out)
        if out is not None:
            self._made(self.graph.nodes[block.result], made, out)

    def _made(self, item: Node, tensor: str, encoding: Encoding) -> None:
        """Readers in float32 read a Dequantize under the node's old name; it is dropped if there are none."""
        self.eight[item.name] = tensor
        self.nodes.dequantize(item.name, tensor, encoding, item)
        for reader in self.draft.readers(item.name):
            if reader.op in SHAPE_OPS and reader.name not in self.graph.fed:
                self.draft.put(reader.with_inputs(tensor if ref == item.name else ref for ref in reader.inputs)
                               .with_attrs(T=encoding.dtype))

    def _in_eight_bits(self, ref: str, device: str) -> str:
        if ref not in self.eight:
            self.eight[ref] = self.nodes.quantize(ref, self.plan.encodings[ref], device)
        return self.eight[ref]
