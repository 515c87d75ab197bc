"""Which activation the nodes after a tensor compute, told by their values: its forms in graphs are too many to list.

GELU alone is 0.5 * x * (1 + erf(x / sqrt 2)), 0.5 * x * erfc(-x / sqrt 2), x * (0.5 * ...), with constants as
multiplications or divisions, and its approximation by tanh has as many forms.
"""
from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import erf, expit

from export.evaluate import evaluate
from export.graph import Graph, Node, producer
from export.ops import attribute, op_def
from export.tensors import FLOAT, Array

# They compute each number from the number at the same place.
_ELEMENTWISE = frozenset({
    "Mul", "Add", "AddV2", "Sub", "RealDiv", "Div", "Neg", "Erf", "Erfc", "Tanh", "Sigmoid", "Pow", "Square", "Exp",
    "Maximum", "Minimum", "Relu", "Relu6", "Elu", "LeakyRelu", "Softplus", "Identity"})
_MOST_NODES = 16
_CLOSE = 2e-6
_GRID = np.concatenate([np.linspace(-12, 12, 4001), np.linspace(-0.02, 0.02, 101)]).astype(np.float32)
_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "Relu": lambda x: np.maximum(x, 0),
    "Relu6": lambda x: np.clip(x, 0, 6),
    "Elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "Tanh": np.tanh,
    "Sigmoid": expit,
    "GeluExact": lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))),
    "GeluApproximate": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))}


@dataclass(frozen=True)
class Activation:
    """`name` as the fused kernels know it; `members`: the nodes that compute it, the last of them makes the result."""

    name: str
    members: tuple[str, ...]
    alpha: float = 0.0


def find(graph: Graph, tensor: str, known: Collection[str]) -> Activation | None:
    """The activation of `tensor` that is one of `known`, if nothing else reads it or what is between."""
    if producer(tensor) in graph.kept or tensor != producer(tensor):
        return None
    readers = graph.consumers.get(tensor, ())
    if len(readers) == 1 and graph.nodes[readers[0]].op == "LeakyRelu":
        node = graph.nodes[readers[0]]
        return Activation("LeakyRelu", (node.name,), float(attribute(node, "alpha"))) if "LeakyRelu" in known else None
    members: dict[str, Node] = {}
    for _ in range(_MOST_NODES):
        following = _next(graph, tensor, members)
        if following is None:
            return None
        members[following.name] = following
        if _closed(graph, tensor, members, following.name):
            name = _named(graph, tensor, tuple(members.values()))
            if name is not None:
                return Activation(name, tuple(members)) if name in known else None
    return None


def _next(graph: Graph, tensor: str, members: dict[str, Node]) -> Node | None:
    """A node that reads only `tensor`, members and scalar constants."""
    for source in (tensor, *members):
        for name in graph.consumers.get(source, ()):
            node = graph.nodes[name]
            if name in members or node.op not in _ELEMENTWISE or name in graph.fed or node.controls:
                continue
            if node.get("T") == FLOAT and all(
                    ref in (tensor, *members) or _is_scalar(graph, ref) for ref in node.data):
                return node
    return None


def _is_scalar(graph: Graph, ref: str) -> bool:
    node = graph.nodes[producer(ref)]
    return node.op == "Const" and node.name not in graph.fed and all(size == 1 for size in node.shape)


def _closed(graph: Graph, tensor: str, members: dict[str, Node], last: str) -> bool:
    """Whether only the last member's value is read elsewhere."""
    return all(set(graph.consumers.get(name, ())) <= members.keys() and name not in graph.kept
               for name in (tensor, *members) if name != last)


def _named(graph: Graph, tensor: str, members: tuple[Node, ...]) -> str | None:
    # Equal layers repeat the same nodes: the form is evaluated once, with inputs by their place among the members.
    places = {tensor: -1, **{node.name: place for place, node in enumerate(members)}}
    form = tuple((node.op, tuple(places[ref] if ref in places else float(graph.nodes[producer(ref)].value.ravel()[0])
                                 for ref in node.data)) for node in members)
    return _named_form(tuple((op, tuple((type(part) is float, part) for part in parts)) for op, parts in form))


@cache
def _named_form(form: tuple[tuple[str, tuple[tuple[bool, float], ...]], ...]) -> str | None:
    """form: each member's op and inputs, a constant as (True, value), a member's result as (False, place)."""
    values: dict[int, Array] = {-1: _GRID}
    for place, (op, parts) in enumerate(form):
        inputs = [np.float32(part) if is_constant else values[int(part)] for is_constant, part in parts]
        attrs = {item.name for item in op_def(op).attr}
        node = Node("node", op, (), {})
        node = node.with_attrs(T=FLOAT) if "T" in attrs else node
        values[place] = np.asarray(evaluate(node, inputs)[0])
    found = values[len(form) - 1].astype(np.float64)
    if found.shape != _GRID.shape:
        return None
    wanted = _GRID.astype(np.float64)
    return next((name for name, function in _FUNCTIONS.items()
                 if (np.abs(found - function(wanted)) <= _CLOSE * np.maximum(1, np.abs(wanted))).all()), None)
