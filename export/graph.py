"""The graph: immutable nodes by name, their consumers, their order, and checks.

A graph made from another shares its nodes and their constants, so a step copies pointers, not weights.
"""
from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, Any

from export.node import (
    COLOCATION,
    GraphError,
    Node,
    colocated,
    from_node_def,
    make_attr,
    make_const,
    make_node,
    normal,
    plain,
    port,
    producer,
    tensor_name,
)
from export.ops import output_dtypes
from export.shapes import Shapes, static_shapes

if TYPE_CHECKING:
    from tensorflow.core.framework.graph_pb2 import GraphDef

__all__ = [
    "COLOCATION", "Graph", "GraphError", "Node", "colocated", "from_node_def", "make_attr", "make_const", "make_node",
    "nearest", "normal", "plain", "port", "producer", "tensor_name", "without_cycle_collection"]

# The only op whose output may feed a node before it in the graph: it closes a v1 while loop.
BACK_EDGE_OPS = ("NextIteration", "RefNextIteration")


@contextmanager
def without_cycle_collection() -> Iterator[None]:
    """Turns the cycle collector off: it would visit all nodes again and again, and graphs have no reference cycles."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@dataclass(frozen=True)
class Graph:  # decision 10
    """Nodes by name, in file order.

    `inputs` are fed and `outputs` are fetched (tensor names): their nodes keep name and meaning in every step.
    `library` and `versions` are the GraphDef's messages; `bodies` has the functions of the library that have been read
    as graphs, which then replace those in the library.
    """

    nodes: Mapping[str, Node]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    library: Any = None
    versions: Any = None
    bodies: Mapping[str, Graph] = field(default_factory=dict)
    # Whether this is the body of a function, in which nodes with an effect run even if no output needs them.
    is_body: bool = False

    @staticmethod
    def from_graph_def(graph_def: GraphDef, inputs: Iterable[str] = (), outputs: Iterable[str] = ()) -> Graph:
        """Raises GraphError for a name that occurs twice, and for an input or output that is not in the graph."""
        nodes: dict[str, Node] = {}
        with without_cycle_collection():
            for proto in graph_def.node:
                if proto.name in nodes:
                    raise GraphError(f"the graph has two nodes named '{proto.name}': rename one")
                nodes[proto.name] = from_node_def(proto)
        graph = Graph(nodes, tuple(map(normal, inputs)), tuple(map(normal, outputs)),
                      graph_def.library if graph_def.HasField("library") else None,
                      graph_def.versions if graph_def.HasField("versions") else None)
        for kind, refs in (("input", graph.inputs), ("output", graph.outputs)):
            for ref in refs:
                if producer(ref) not in nodes:
                    raise GraphError(f"{kind} '{ref}' is not in the graph{nearest(producer(ref), nodes)}")
        return graph

    @cached_property
    def fed(self) -> frozenset[str]:
        """Nodes whose value comes from outside, so that what they would compute is irrelevant."""
        return frozenset(map(producer, self.inputs))

    @cached_property
    def kept(self) -> frozenset[str]:
        """Nodes that must survive with their name and their value."""
        return self.fed | frozenset(map(producer, self.outputs))

    @cached_property
    def shapes(self) -> Shapes:
        """The known shapes by tensor name; None or no entry: not even the rank is known."""
        return static_shapes(self.order(), self.nodes, self.versions)

    @cached_property
    def consumers(self) -> Mapping[str, tuple[str, ...]]:
        """The nodes that read or wait for each node, in file order; no entry for a node that nothing reads."""
        found: dict[str, dict[str, None]] = {}
        for item in self.nodes.values():
            for ref in item.inputs:
                found.setdefault(producer(ref), {})[item.name] = None
        return {name: tuple(readers) for name, readers in found.items()}

    def with_nodes(self, nodes: Iterable[Node]) -> Graph:
        return replace(self, nodes={item.name: item for item in nodes})

    def order(self) -> tuple[Node, ...]:
        """The nodes, each after those that it reads, otherwise in file order. Raises GraphError on a cycle."""
        return self._order

    @cached_property
    def _order(self) -> tuple[Node, ...]:
        return tuple(self.nodes.values()) if self._is_ordered() else self._sorted()

    def _is_ordered(self) -> bool:
        """Whether each node comes after those that it reads, as in most files: checking is cheaper than sorting."""
        before: set[str] = set()
        for item in self.nodes.values():
            for ref in item.inputs:
                name = producer(ref)
                if name not in before and (name not in self.nodes or self.nodes[name].op not in BACK_EDGE_OPS):
                    return False
            before.add(item.name)
        return True

    def _sorted(self) -> tuple[Node, ...]:
        waiting = {}
        ready = []
        for item in self.nodes.values():
            before = {producer(ref) for ref in item.inputs}
            for name in before:
                # One by one: a set minus a dict's keys iterates over all keys.
                if name not in self.nodes:
                    raise GraphError(f"node '{item.name}' reads '{name}', which is not in the graph")
            before = {name for name in before if self.nodes[name].op not in BACK_EDGE_OPS}
            waiting[item.name] = len(before)
            if not before:
                ready.append(item)
        done = []
        consumers = self.consumers
        ready.reverse()
        while ready:
            item = ready.pop()
            done.append(item)
            if item.op in BACK_EDGE_OPS:
                continue
            for reader in reversed(consumers.get(item.name, ())):
                waiting[reader] -= 1
                if not waiting[reader]:
                    ready.append(self.nodes[reader])
        if len(done) < len(self.nodes):
            placed = {item.name for item in done}
            stuck = next(name for name in self.nodes if name not in placed)
            raise GraphError(f"node '{stuck}' waits for itself through a cycle that is no while loop")
        return tuple(done)

    def reachable(self, roots: Iterable[str], stop: frozenset[str] = frozenset()) -> set[str]:
        """`roots` and the nodes that they need; nodes needed only by a node in `stop` are left out."""
        found: set[str] = set()
        todo = list(roots)
        while todo:
            name = todo.pop()
            if name not in self.nodes:
                raise GraphError(f"'{name}' is needed but is not in the graph")
            if name not in found:
                found.add(name)
                if name not in stop:
                    todo.extend(producer(ref) for ref in self.nodes[name].inputs)
        return found

    def renamed(self, names: Mapping[str, str]) -> Graph:
        """The same graph with nodes renamed, in inputs and in colocation constraints too."""
        def ref(old: str) -> str:
            name = producer(old)
            if name not in names:
                return old
            return f"^{names[name]}" if old[0] == "^" else tensor_name(names[name], port(old))

        def moved(item: Node) -> Node:
            result = replace(item, name=names.get(item.name, item.name), inputs=tuple(map(ref, item.inputs)))
            return colocated(result, lambda name: names.get(name, name)) if COLOCATION in item.attrs else result
        return replace(self.with_nodes(map(moved, self.nodes.values())),
                       inputs=tuple(map(ref, self.inputs)), outputs=tuple(map(ref, self.outputs)))

    def without_dangling_colocation(self) -> Graph:
        """Drops colocation constraints ("loc:@name") that name nodes that no longer exist."""
        changed = {
            item.name: colocated(item, lambda name: name if name in self.nodes else None)
            for item in self.nodes.values() if COLOCATION in item.attrs}
        return replace(self, nodes={**self.nodes, **changed}) if changed else self

    def validate(self, step: str) -> Graph:
        """Returns itself, or raises GraphError that names the step which broke an input, an output or the order."""
        for item in self.nodes.values():
            control_seen = False
            for ref in item.inputs:
                if producer(ref) not in self.nodes:
                    raise GraphError(f"{step}: node '{item.name}' reads '{ref}', which is not in the graph")
                if ":" in ref:
                    self._check_port(step, ref)
                if ref[0] == "^":
                    control_seen = True
                elif control_seen:
                    raise GraphError(f"{step}: node '{item.name}' has data input '{ref}' after a control input")
        for ref in (*self.inputs, *self.outputs):
            if producer(ref) not in self.nodes:
                raise GraphError(f"{step}: '{ref}' must survive but is gone")
            if ":" in ref:
                self._check_port(step, ref)
        self.order()
        return self

    def _check_port(self, step: str, ref: str) -> None:
        item = self.nodes[producer(ref)]
        dtypes = output_dtypes(item, self.library)
        if dtypes is not None and port(ref) >= len(dtypes):
            raise GraphError(f"{step}: '{ref}' is not an output of its node, which is now {item.op}")


def nearest(name: str, known: Iterable[str]) -> str:
    """' (did you mean ...?)' for an error message, or '' if no name is similar."""
    near = get_close_matches(name, list(known), n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""
