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
# A Relu may be the first half of a Relu6 that is written as two or three nodes.
_MORE_AFTER_RELU = 2
_CLOSE = 2e-6
_FAR = [-1e4, -1e3, -100, -30, 30, 100, 1e3, 1e4]  # what is cut there is no Relu
_GRID = np.concatenate([np.linspace(-12, 12, 4001), np.linspace(-0.02, 0.02, 101), _FAR]).astype(np.float32)
_WANTED = _GRID.astype(np.float64)
_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "Relu": lambda x: np.maximum(x, 0),
    "Relu6": lambda x: np.clip(x, 0, 6),
    "Elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "Tanh": np.tanh,
    "Sigmoid": expit,
    "GeluExact": lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))),
    "GeluApproximate": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))}


@dataclass(frozen=True)
class Activation:
    """`name` as the fused kernels know it; `members`: the nodes that compute it, the last of them makes the result.

    `alpha`: a LeakyRelu's factor of negative numbers.
    """

    name: str
    members: tuple[str, ...]
    alpha: float = 0.0


# decision 192
def find(graph: Graph, tensor: str, known: Collection[str], rank: int) -> Activation | None:
    """The activation of `tensor` that is one of `known`, if nothing else reads it or what is between.

    rank: the tensor's. A constant of a higher rank would give the result more axes.
    """
    if producer(tensor) in graph.kept or tensor != producer(tensor):
        return None
    members: dict[str, Node] = {}
    found: Activation | None = None
    for _ in range(_MOST_NODES):
        following = _next(graph, tensor, members, rank)
        if following is None:
            return found
        members[following.name] = following
        if _closed(graph, tensor, members, following.name):
            name, alpha = _named(graph, tensor, tuple(members.values()))
            if name in known and (found is None or found.name != name):
                found = Activation(name, tuple(members), alpha)
        if found is not None and (found.name != "Relu" or len(members) >= len(found.members) + _MORE_AFTER_RELU):
            return found
    return found


def _next(graph: Graph, tensor: str, members: dict[str, Node], rank: int) -> Node | None:
    """A node that reads only `tensor`, members and scalar constants."""
    for source in (tensor, *members):
        if source in graph.kept:
            continue
        for name in graph.consumers.get(source, ()):
            node = graph.nodes[name]
            if name in members or node.op not in _ELEMENTWISE or name in graph.fed or node.controls:
                continue
            if attribute(node, "T") == FLOAT and all(
                    ref in (tensor, *members) or _is_scalar(graph, ref, rank) for ref in node.data):
                return node
    return None


def _is_scalar(graph: Graph, ref: str, rank: int) -> bool:
    node = graph.nodes[producer(ref)]
    return node.op == "Const" and node.name not in graph.fed and len(node.shape) <= rank and all(
        size == 1 for size in node.shape)


def _closed(graph: Graph, tensor: str, members: dict[str, Node], last: str) -> bool:
    """Whether only the last member's value is read elsewhere."""
    return all(set(graph.consumers.get(name, ())) <= members.keys() and name not in graph.kept
               for name in (tensor, *members) if name != last)


def _named(graph: Graph, tensor: str, members: tuple[Node, ...]) -> tuple[str, float]:
    # Equal layers repeat the same nodes: the form is evaluated once, with inputs by their place among the members.
    places = {tensor: -1, **{node.name: place for place, node in enumerate(members)}}
    return _named_form(tuple((node.op, float(attribute(node, "alpha") or 0), tuple(
        (False, float(places[ref])) if ref in places else (True, float(graph.nodes[producer(ref)].value.ravel()[0]))
        for ref in node.data)) for node in members))


@cache
def _named_form(form: tuple[tuple[str, float, tuple[tuple[bool, float], ...]], ...]) -> tuple[str, float]:
    """(name, alpha); "" if it is none of them.

    form: each member's op, attribute alpha and inputs: a constant as (True, value), a member's result as (False,
    place).
    """
    values: dict[int, Array] = {-1: _GRID}
    for place, (op, alpha, parts) in enumerate(form):
        inputs = [np.float32(part) if is_constant else values[int(part)] for is_constant, part in parts]
        attrs = {item.name for item in op_def(op).attr}
        node = Node("node", op)
        node = node.with_attrs(T=FLOAT) if "T" in attrs else node
        node = node.with_attrs(alpha=alpha) if "alpha" in attrs else node
        values[place] = np.asarray(evaluate(node, inputs)[0])
    found = values[len(form) - 1].astype(np.float64)
    if found.shape != _GRID.shape:
        return "", 0.0
    for name, function in _FUNCTIONS.items():
        if _are_close(found, function(_WANTED)):
            return name, 0.0
    alpha = float(found[0] / _WANTED[0])
    if 0 < alpha < 1 and _are_close(found, np.where(_WANTED > 0, _WANTED, alpha * _WANTED)):
        return "LeakyRelu", alpha
    return "", 0.0


def _are_close(found: Array, wanted: Array) -> bool:
    return bool((np.abs(found - wanted) <= _CLOSE * np.maximum(1, np.abs(_WANTED))).all())
