"""Whether a region in bfloat16 gains more than the conversions at its borders cost, by counting."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from export.graph import Graph, Node, producer
from export.ops import attribute
from export.shapes import Shape, Shapes

# So many multiply-adds save as much time in bfloat16 as converting one element costs.  # decision 160
LEAST_WORK = 40.0
_SIZES = frozenset({"Shape", "Size", "Rank"})


def without_gain(graph: Graph, nodes: set[str], chosen: Iterable[str], moving: Callable[[Node], list[str]],
                 least_work: float) -> set[str]:
    """Contractions in regions of `nodes` with too little work per converted element.

    `moving(node)`: its inputs whose type changes; `least_work`: multiply-adds per element.
    """
    region = _Sets(nodes)
    for name in nodes:
        for ref in moving(graph.nodes[name]):
            if producer(ref) in nodes:
                region.join(name, producer(ref))
    border: dict[str, set[str]] = {}
    for name in nodes:
        crossing = border.setdefault(region.of(name), set())
        crossing.update(ref for ref in moving(graph.nodes[name]) if producer(ref) not in nodes)
        if name in graph.kept or any(reader not in nodes and graph.nodes[reader].op not in _SIZES
                                     for reader in graph.consumers.get(name, ())):
            crossing.add(name)
    work: dict[str, float] = {}
    for name in chosen:
        work[region.of(name)] = work.get(region.of(name), 0) + multiply_adds(graph.nodes[name], graph.shapes)
    poor = {key for key, done in work.items()
            if done < least_work * sum(_elements(graph.shapes.get(ref)) for ref in border[key])}
    return {name for name in chosen if region.of(name) in poor}


def multiply_adds(item: Node, shapes: Shapes) -> float:
    """Multiply-adds of a contraction for one example; sizes that are not known count as one."""
    first, second, result = (shapes.get(ref) for ref in (item.data[0], item.data[1], item.name))
    if item.op in ("Conv2D", "Conv3D"):
        return _elements(second) * _positions(item, result)
    if item.op == "DepthwiseConv2dNative":
        return _elements(second) * _positions(item, result)
    if item.op == "Conv2DBackpropInput":
        return _elements(second) * _positions(item, shapes.get(item.data[2]))
    if item.op == "Einsum":
        return _einsum(str(attribute(item, "equation")), (first, second))
    if first is None or len(first) < 2:
        return _elements(second)
    summed = first[-2 if attribute(item, "transpose_a" if item.op == "MatMul" else "adj_x") else -1] or 1
    if result is None:
        return _elements(second)
    return _elements(result) * summed


def _einsum(equation: str, shapes: tuple[Shape, Shape]) -> float:
    """The product of the sizes of all letters."""
    sizes: dict[str, int] = {}
    for letters, shape in zip(equation.partition("->")[0].split(","), shapes, strict=False):
        letters = letters.strip()
        if shape is None or "..." in letters or len(letters) != len(shape):
            continue
        for letter, size in zip(letters, shape, strict=True):
            sizes[letter] = max(sizes.get(letter, 1), size or 1)
    return math.prod(sizes.values())


def _positions(item: Node, shape: Shape) -> int:
    """Places at which a convolution applies its filter."""
    if shape is None:
        return 1
    first = str(attribute(item, "data_format") or "").startswith("NC")
    return math.prod(size or 1 for size in (shape[2:] if first else shape[1:-1]))


def _elements(shape: Shape) -> float:
    return math.prod(size or 1 for size in shape) if shape else 1


class _Sets:
    """Disjoint sets of names that are joined."""

    def __init__(self, names: Iterable[str]) -> None:
        self.parent = {name: name for name in names}

    def of(self, name: str) -> str:
        while self.parent[name] != name:
            self.parent[name] = self.parent[self.parent[name]]
            name = self.parent[name]
        return name

    def join(self, a: str, b: str) -> None:
        self.parent[self.of(a)] = self.of(b)
