"""Patterns over a graph, written as nested ops: Op("Mul", Op(CONVOLUTIONS, Any("x"), Const("W")), ...).

    match(Op("Relu", Any("x")), graph.nodes, node)  ->  Match, or None when the shape of the graph differs

A pattern describes a node and the sources of its data inputs. Whether a match may be rewritten is checked separately,
by `Match.require(condition, reason)`; a refusal is recorded with its reason.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from export.graph import Node, port, producer


class Skip(Exception):  # noqa: N818 (a reason, not an error)
    """The reason why a match is not rewritten. `node` names the node that prevents it, if not the match's own."""

    def __init__(self, reason: str, node: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.node = node


@dataclass
class Match:
    """The nodes and tensors that a pattern matched: `m["conv"]` is a node, `m.refs["x"]` the name of a tensor."""

    root: Node
    nodes: dict[str, Node] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    # All nodes that the pattern's ops and constants matched, the root first.
    members: list[Node] = field(default_factory=list)

    def __getitem__(self, bind: str) -> Node:
        return self.nodes[bind]

    def require(self, condition: bool, reason: str) -> None:
        if not condition:
            raise Skip(reason)


@dataclass(frozen=True)
class Any:
    """Any tensor."""

    bind: str = ""

    def __str__(self) -> str:
        return self.bind or "*"


@dataclass(frozen=True)
class Const:
    """A constant's output."""

    bind: str = ""

    def __str__(self) -> str:
        return f"Const:{self.bind}" if self.bind else "Const"


class Op:
    """A node of one of these ops (a name, several joined by '|', or a collection) whose data inputs match in turn.

    Without `inputs` the inputs are not checked. Only the first output of an inner node matches.
    `either_way`: the two inputs may be in either order.
    """

    def __init__(self, ops: str | Iterable[str], *inputs: Op | Any | Const, bind: str = "",
                 either_way: bool = False) -> None:
        self.ops = frozenset(ops.split("|") if isinstance(ops, str) else ops)
        self.inputs = inputs
        self.bind = bind
        self.either_way = either_way

    def __str__(self) -> str:
        name = "|".join(sorted(self.ops))
        return f"{name}({', '.join(map(str, self.inputs))})" if self.inputs else name

    def orders(self) -> Iterator[tuple[Op | Any | Const, ...]]:
        yield self.inputs
        if self.either_way:
            yield self.inputs[::-1]


Pattern = Op | Any | Const


def match(pattern: Op, nodes: Mapping[str, Node], root: Node) -> Match | None:
    """The first match of `pattern` with its outermost op at `root`; None if it does not match."""
    found = Match(root)
    return found if _op(pattern, nodes, root, found) else None


def _op(pattern: Op, nodes: Mapping[str, Node], item: Node, found: Match) -> bool:
    if item.op not in pattern.ops:
        return False
    data = item.data
    if pattern.inputs and len(data) != len(pattern.inputs):
        return False
    before = (dict(found.nodes), dict(found.refs), list(found.members))
    for order in pattern.orders():
        if pattern.bind:
            found.nodes[pattern.bind] = item
        found.members.append(item)
        if all(_input(inner, nodes, ref, found) for inner, ref in zip(order, data, strict=False)):
            return True
        found.nodes, found.refs, found.members = dict(before[0]), dict(before[1]), list(before[2])
    return False


def _input(pattern: Pattern, nodes: Mapping[str, Node], ref: str, found: Match) -> bool:
    if isinstance(pattern, Any):
        if pattern.bind:
            found.refs[pattern.bind] = ref
        return True
    if port(ref) != 0:
        return False
    item = nodes[producer(ref)]
    if isinstance(pattern, Const):
        if item.op != "Const":
            return False
        if pattern.bind:
            found.nodes[pattern.bind] = item
        found.members.append(item)
        return True
    return _op(pattern, nodes, item, found)
