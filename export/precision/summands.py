"""Whether an int8 convolution can add its sum into the buffer of another tensor.

The kernel writes there without comparing shapes, and refuses to run ("Summand cannot be forwarded") if anything else
may still read that buffer. Both are known at run time only, so that what is not certain before stays float32.
"""
from __future__ import annotations

from functools import cached_property

from export.graph import Graph, Node, port, producer
from export.precision.blocks import Block
from export.precision.passing import hands_on_buffer
from export.precision.rows import State, follow


class Summands:  # decision 193
    """What the blocks of a graph may add into which tensors' buffers."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    @cached_property
    def _place(self) -> dict[str, int]:
        return {item.name: place for place, item in enumerate(self._graph.order())}

    @cached_property
    def _rows(self) -> dict[str, State]:
        return follow(self._graph)

    @cached_property
    def _varying(self) -> set[str]:
        """The nodes that depend on what is fed; TensorFlow may make one constant of what does not."""
        found = set(self._graph.fed)
        for item in self._graph.order():
            if any(producer(ref) in found for ref in item.inputs):
                found.add(item.name)
        return found

    def refusal(self, block: Block, addition: Node, summand: str) -> str:
        """Why the block cannot add `summand` as `addition` does; "" if it can."""
        graph = self._graph
        if not _same_shape(graph, block.result, summand):
            return f"the sizes of '{summand}' are not known to be those of '{block.result}'"
        if not self._same_rows(block.result, summand):
            return f"the batch of '{summand}' is not known to be that of '{block.result}'"
        name = producer(summand)
        if name not in self._varying:
            return f"'{summand}' does not depend on the inputs, so that TensorFlow may keep it"
        if port(summand) or name in graph.kept:
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

    def _same_rows(self, a: str, b: str) -> bool:
        """Whether both have one row per example, of the same examples, or a fixed number of rows."""
        sizes = [(self._graph.shapes.get(ref) or (None,))[0] for ref in (a, b)]
        if None not in sizes:
            return sizes[0] == sizes[1]
        first, second = (self._rows.get(ref) for ref in (a, b))
        return (first is not None and second is not None and first.kind == second.kind == "rows"
                and first.block == second.block and first.sources == second.sources and len(first.sources) == 1)


def _same_shape(graph: Graph, a: str, b: str) -> bool:
    """Whether both have the same known rank and sizes; only the first size, the batch, may be unknown."""
    first, second = graph.shapes.get(a), graph.shapes.get(b)
    return (first is not None and second is not None and len(first) == len(second) and first[1:] == second[1:]
            and None not in first[1:] and (first[0] == second[0] or None in (first[0], second[0])))
