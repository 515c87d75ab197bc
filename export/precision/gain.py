"""Whether a region in bfloat16 gains more than the conversions at its borders cost, by counting."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from export.graph import Graph, Node, producer
from export.ops import SHAPE_OPS
from export.precision.groups import Groups
from export.precision.work import of as work_of
from export.shapes import Shape, Shapes
from user_error import UserError

# So many multiply-adds save as much time in bfloat16 as converting one element costs.  # decision 160
LEAST_WORK = 40.0


def without_gain(graph: Graph, nodes: set[str], chosen: Iterable[str], moving: Callable[[Node], list[str]],
                 least_work: float) -> set[str]:
    """Contractions in regions of `nodes` with too little work per converted element.

    `moving(node)`: its inputs whose type changes; `least_work`: multiply-adds per element.
    """
    region = Groups()
    for name in nodes:
        for ref in moving(graph.nodes[name]):
            if producer(ref) in nodes:
                region.join(name, producer(ref))
    border: dict[str, set[str]] = {}
    for name in nodes:
        crossing = border.setdefault(region.find(name), set())
        crossing.update(ref for ref in moving(graph.nodes[name]) if producer(ref) not in nodes)
        if name in graph.kept or any(reader not in nodes and graph.nodes[reader].op not in SHAPE_OPS
                                     for reader in graph.consumers.get(name, ())):
            crossing.add(name)
    work: dict[str, float] = {}
    for name in chosen:
        work[region.find(name)] = work.get(region.find(name), 0) + _multiply_adds(graph.nodes[name], graph.shapes)
    poor = {key for key, done in work.items()
            if done < least_work * sum(_elements(graph.shapes.get(ref)) for ref in border[key])}
    return {name for name in chosen if region.find(name) in poor}


def _multiply_adds(item: Node, shapes: Shapes) -> int:
    """Multiply-adds of a contraction for one example; sizes that are not known count as one."""
    sizes = {ref: tuple(size or 1 for size in shape) for ref in (*item.data, item.name)
             if (shape := shapes.get(ref)) is not None}
    try:
        return work_of(item, sizes)
    except UserError:  # not even the number of axes is known: each weight is used at least once
        return int(max(_elements(shapes.get(ref)) for ref in item.data))


def _elements(shape: Shape) -> float:
    return math.prod(size or 1 for size in shape) if shape else 1
