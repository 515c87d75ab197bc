"""Weights: which constants a transform may approximate, and the range of their values."""
from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from export.graph import Graph, Node
from export.pattern import Skip
from export.tensors import BFLOAT16, DOUBLE, FLOAT, HALF, Array
from export.transform import Record

_FLOATS = (FLOAT, DOUBLE, HALF, BFLOAT16)


def approximable(graph: Graph, minimum_size: int, record: Record) -> Iterator[tuple[Node, Array]]:
    """The float32 constants with at least `minimum_size` elements, and their values, all finite.

    Records why other large float constants are not among them.
    """
    for item in graph.nodes.values():
        if item.op == "Const" and item.get("dtype") in _FLOATS and math.prod(item.shape) >= max(minimum_size, 1):
            try:
                yield item, _values(item, graph)
            except Skip as skip:
                record.skip(item.name, skip.reason)


def value_range(values: Array) -> tuple[np.float32, np.float32]:
    """The smallest and the largest of the values, which `approximable` has found to be finite."""
    return np.float32(values.min()), np.float32(values.max())


def _values(item: Node, graph: Graph) -> Array:
    if item.get("dtype") != FLOAT:
        raise Skip(f"it is {item.get('dtype')!r}, not float")
    if item.name in graph.kept:
        raise Skip("it is itself a requested input or output")
    values = item.value
    if not np.isfinite(values).all():
        raise Skip("it holds NaN or infinity")
    low, high = (float(limit) for limit in value_range(values))
    if max(high, 0) - min(low, 0) > float(np.finfo(np.float32).max):
        raise Skip("its range is not finite")
    return values
