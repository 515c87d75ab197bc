"""Checks in a graph (`tf.debugging`): converters leave them out without a word, and the engine then answers what
TensorFlow refuses. Pure."""
from __future__ import annotations

from dataclasses import dataclass

from export.engines.convertible import Ends
from export.functions import called, definitions
from export.graph import Graph, Node, producer
from export.node import from_node_def

# OpenVINO's converter leaves out all of them, LiteRT's the first two: it does not convert a graph with the others.
_CHECKS = frozenset(("Assert", "CheckNumerics", "CheckNumericsV2", "EnsureShape"))


@dataclass(frozen=True)
class Check:
    """`node`: its name in the graph; in the body of a function, behind the name of the node that calls it."""

    node: str
    op: str


def checks(graph: Graph, ends: Ends) -> tuple[Check, ...]:
    """The checks that a request for these ends runs, but for shapes that are known to fit.

    Functions count once, with all nodes: checks run there even if no output needs them.
    """
    run = graph.reachable(map(producer, ends.outputs), stop=frozenset(map(producer, ends.inputs)))
    library, seen = definitions(graph.library), set[str]()
    todo: list[tuple[str, Node, Graph | None]] = [
        (name, graph.nodes[name], graph) for name in sorted(run, reverse=True)]
    found = []
    while todo:
        path, item, part = todo.pop()
        if item.op in _CHECKS and not _fits(item, part):
            found.append(Check(path, item.op))
        for name in (item.op, *called(item.attrs)):
            if name in library and name not in seen:
                seen.add(name)
                body = graph.bodies.get(name)  # none: it could not be read as a graph
                nodes = map(from_node_def, library[name].node_def) if body is None else body.nodes.values()
                todo += [(_below(path, one.name), one, body) for one in reversed([*nodes])]
    return tuple(found)


def _below(path: str, name: str) -> str:
    """The name of a node in a function, behind its caller's; bodies may repeat the end of that."""
    parts = path.split("/")
    same = next((start for start in range(len(parts)) if name.startswith("/".join(parts[start:]) + "/")), len(parts))
    return "/".join((*parts[:same], name))


def _fits(item: Node, part: Graph | None) -> bool:
    """Whether the shape that an EnsureShape wants is known to be there."""
    if item.op != "EnsureShape" or part is None:
        return False
    wanted, known = item.get("shape"), part.shapes.get(item.data[0])
    return wanted is None or (known is not None and len(known) == len(wanted) and all(
        size in (-1, there) for size, there in zip(wanted, known, strict=True)))
