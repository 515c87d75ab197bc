"""Whether an int8 convolution can add its sum into the buffer of another tensor.

The kernel writes there without comparing shapes, and refuses to run ("Summand cannot be forwarded") if anything else
may still read that buffer. Both are known at run time only, so that what is not certain before stays float32.
"""
from __future__ import annotations

import math
from functools import cached_property

from export.graph import Graph, Node, port, producer
from export.ops import IDENTITIES, attribute
from export.precision.blocks import Block
from export.precision.passing import hands_on_buffer

_SAME_EXAMPLES = frozenset({
    "Conv2D", "DepthwiseConv2dNative", "MaxPool", "AvgPool", "BiasAdd", "Relu", "Relu6", "Elu", "Selu", "LeakyRelu",
    "Sigmoid", "Tanh", "Softplus", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "Cast", "LRN", "Neg",
    "ResizeBilinear", "ResizeNearestNeighbor", "EnsureShape", *IDENTITIES})
_BINARY = frozenset({"Add", "AddV2", "Sub", "Mul", "RealDiv", "Maximum", "Minimum"})


class Summands:  # decision 193
    """What the blocks of a graph may add into which tensors' buffers."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    @cached_property
    def _place(self) -> dict[str, int]:
        return {item.name: place for place, item in enumerate(self._graph.order())}

    @cached_property
    def _examples(self) -> dict[str, str]:
        """For each node that makes one row per row of its input: the tensor that the rows come from in the end."""
        found: dict[str, str] = {}
        for item in self._graph.order():
            sources = self._row_sources(item)
            roots = {found.get(ref, ref) for ref in sources}
            if len(roots) == 1:
                found[item.name] = roots.pop()
        return found

    def refusal(self, block: Block, addition: Node, summand: str) -> str:
        """Why the block cannot add `summand` as `addition` does; "" if it can."""
        graph = self._graph
        if not _same_shape(graph, block.result, summand):
            return f"the sizes of '{summand}' are not known to be those of '{block.result}'"
        root = self._examples.get(summand, summand)
        if self._examples.get(block.result) != root or graph.nodes[producer(root)].op == "Const":
            return f"the batch of '{summand}' is not known to be that of '{block.result}'"
        name = producer(summand)
        if port(summand) or name in graph.kept or graph.nodes[name].op == "Const":
            return f"'{summand}' is needed elsewhere"
        if hands_on_buffer(graph, graph.nodes[name]):
            return f"'{summand}' may share the memory of what it is made from"
        late = self._later_reader(block, addition, name)
        return f"'{late}' may still read '{summand}'" if late else ""

    def _later_reader(self, block: Block, addition: Node, name: str) -> str:
        """A reader of the summand's buffer that is not certain to have run before the block."""
        graph = self._graph
        before = self._between(name, block)
        todo, seen = [name], {name}
        while todo:
            for reader in graph.consumers.get(todo.pop(), ()):
                if reader == addition.name or reader in seen:
                    continue
                if reader not in before:
                    return reader
                seen.add(reader)
                if hands_on_buffer(graph, graph.nodes[reader]):
                    if reader in graph.kept:
                        return reader
                    todo.append(reader)
        return ""

    def _between(self, name: str, block: Block) -> set[str]:
        """The nodes that the block's input needs and that come after `name` in the graph's order."""
        found: set[str] = set()
        todo = [producer(block.x)]
        while todo:
            item = todo.pop()
            if item not in found and self._place[item] > self._place[name]:
                found.add(item)
                todo.extend(producer(ref) for ref in self._graph.nodes[item].inputs)
        return found

    def _row_sources(self, item: Node) -> tuple[str, ...]:
        graph = self._graph
        if item.name in graph.fed:
            return ()
        if item.op in _SAME_EXAMPLES:
            return item.data[:1]
        if item.op == "MatMul" and not attribute(item, "transpose_a"):
            return item.data[:1]
        if item.op in ("Pad", "PadV2", "MirrorPad"):
            amounts = graph.nodes[producer(item.data[1])]
            return item.data[:1] if amounts.op == "Const" and not amounts.value[:1].any() else ()
        if item.op == "Transpose":
            order = graph.nodes[producer(item.data[1])]
            return item.data[:1] if order.op == "Const" and order.value.ravel()[:1].tolist() == [0] else ()
        if item.op == "Reshape":
            return item.data[:1] if self._keeps_rows(item) else ()
        if item.op == "ConcatV2":
            axis = graph.nodes[producer(item.data[-1])]
            return item.data[:-1] if axis.op == "Const" and int(axis.value) in (1, 2, 3) else ()
        if item.op in _BINARY:
            return tuple(ref for ref in item.data if not self._is_one_row(ref))
        return ()

    def _keeps_rows(self, item: Node) -> bool:
        """Whether a Reshape makes as many numbers per row as it reads."""
        counts = []
        for ref in (item.data[0], item.name):
            sizes = (self._graph.shapes.get(ref) or (None, None))[1:]
            known = [size for size in sizes if size is not None]
            counts.append(math.prod(known) if len(known) == len(sizes) else 0)
        return counts[0] == counts[1] > 0

    def _is_one_row(self, ref: str) -> bool:
        item = self._graph.nodes[producer(ref)]
        return item.op == "Const" and (len(item.shape) < 4 or item.shape[0] == 1)


def _same_shape(graph: Graph, a: str, b: str) -> bool:
    """Whether both have the same known rank and sizes; only the first size, the batch, may be unknown."""
    first, second = graph.shapes.get(a), graph.shapes.get(b)
    return (first is not None and second is not None and len(first) == len(second) and first[1:] == second[1:]
            and None not in first[1:] and (first[0] == second[0] or None in (first[0], second[0])))
