"""What is known before the graph runs of integer vectors such as computed shapes."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from export.node import Node, port, producer
from export.ops import attribute
from export.tensors import INT32, INT64

_MOST_ELEMENTS = 64  # shapes have few sizes; longer vectors are data
_DEEPEST = 12
Vector = list[Any]  # int, None, or what `sizes` has for a size that is unknown before the graph runs


class Vectors:
    """Follows shapes, constants and what is computed from them. `fed`: nodes whose value comes from outside.

    `sizes`: shapes whose unknown sizes have names and can be multiplied (export.sizes.known_sizes).
    """

    def __init__(self, nodes: Mapping[str, Node], shapes: Mapping[str, Any], fed: frozenset[str] = frozenset(),
                 sizes: Mapping[str, Any] | None = None) -> None:
        self.nodes, self.shapes, self.fed = nodes, shapes, fed
        self.sizes = shapes if sizes is None else sizes

    def of(self, ref: str, depth: int = 0) -> Vector | None:
        """The elements, None for unknown ones; None if not even their number is known."""
        item = self.nodes[producer(ref)]
        if depth > _DEEPEST or port(ref) or item.name in self.fed:
            return None
        if item.op == "Const":
            small = item.get("dtype") in (INT32, INT64) and len(item.shape) <= 1 and (
                math.prod(item.shape) <= _MOST_ELEMENTS)
            return [int(value) for value in item.value.ravel()] if small else None
        if item.op == "Shape":
            shape = self.sizes.get(item.data[0])
            return None if shape is None else list(shape)
        rule = {"GatherV2": self._gather, "StridedSlice": self._slice, "ConcatV2": self._joined, "Pack": self._joined,
                "Prod": self._product, "Cast": self._same, "Identity": self._same, "Mul": self._multiplied}.get(item.op)
        if rule is None:
            return None
        parts = [self.of(other, depth + 1) for other in item.data]
        return rule(item, [part for part in parts if part is not None]) if None not in parts else None

    def frame(self, ref: str) -> tuple[str, ...]:
        """The control inputs that keep a constant in a v1 loop: those of a constant that the shape is computed from."""
        todo, seen = [ref], 0
        while todo and seen < 100:
            item = self.nodes[producer(todo.pop())]
            seen += 1
            if item.op == "Const" and item.controls:
                return item.controls
            todo += item.data if item.op not in ("Const", "Shape") else ()
        return ()

    def _same(self, item: Node, parts: Sequence[Vector]) -> Vector:
        return parts[0]

    def _joined(self, item: Node, parts: Sequence[Vector]) -> Vector | None:
        if item.op == "Pack" and any(self.shapes.get(ref) != () for ref in item.data):
            return None
        return [size for part in (parts if item.op == "Pack" else parts[:-1]) for size in part]

    def _gather(self, item: Node, parts: Sequence[Vector]) -> Vector | None:
        whole, places = parts[0], parts[1]
        if any(not isinstance(place, int) or not 0 <= place < len(whole) for place in places):
            return None
        return [whole[place] for place in places]

    def _slice(self, item: Node, parts: Sequence[Vector]) -> Vector | None:
        whole, *limits = parts
        if any(attribute(item, mask) for mask in ("ellipsis_mask", "new_axis_mask")) or any(
                len(limit) != 1 or not isinstance(limit[0], int) for limit in limits):
            return None
        begin, end, step = (limit[0] for limit in limits)
        if attribute(item, "shrink_axis_mask"):
            return [whole[begin]] if -len(whole) <= begin < len(whole) else None
        return whole[slice(None if attribute(item, "begin_mask") else begin,
                           None if attribute(item, "end_mask") else end, step)]

    def _product(self, item: Node, parts: Sequence[Vector]) -> Vector | None:
        return [_times(parts[0])] if parts[1] == [0] and not attribute(item, "keep_dims") else None

    def _multiplied(self, item: Node, parts: Sequence[Vector]) -> Vector | None:
        return [_times([*parts[0], *parts[1]])] if len(parts[0]) == len(parts[1]) == 1 else None


def _times(sizes: Vector) -> Any:
    return None if None in sizes else math.prod(sizes)
