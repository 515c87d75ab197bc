"""Weights: which constants a transform may approximate, and the range of their values."""
from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from export.graph import Graph, GraphError, Node, make_const
from export.pattern import Skip
from export.tensors import BFLOAT16, DOUBLE, FLOAT, HALF, QUINT8, Array
from export.transform import Draft, Record

_STEPS = 255
FLOATS = (FLOAT, DOUBLE, HALF, BFLOAT16)


def approximable(graph: Graph, minimum_size: int, record: Record) -> Iterator[tuple[Node, Array]]:
    """The float32 constants with at least `minimum_size` elements, and their values, all finite.

    Records the reason for each other large float constant.
    """
    for item in graph.nodes.values():
        if item.op == "Const" and item.get("dtype") in FLOATS and math.prod(item.shape) >= max(minimum_size, 1):
            try:
                yield item, _values(item, graph)
            except Skip as skip:
                record.skip(item.name, skip.reason)
            except (KeyError, ValueError) as error:
                raise GraphError(f"constant '{item.name}' cannot be read: {error}") from None


def value_range(values: Array) -> tuple[np.float32, np.float32]:
    """The smallest and the largest of the values, which `approximable` has found to be finite."""
    return np.float32(values.min()), np.float32(values.max())


def eight_bit(draft: Draft, item: Node, values: Array) -> tuple[str, str, str]:
    """Adds constants with `values` as 0..255 and their range, for Dequantize in mode MIN_FIRST.

    The range includes zero, which stays exact: without it some eight-bit kernels are wrong. Returns the names of the
    constants: numbers, minimum, maximum.
    """
    low, high = value_range(values)
    low, high = min(low, np.float32(0)), max(high, np.float32(0))
    if low == high:
        high = np.float32(1)
    parts = (("const", _quantized(values, low, high), QUINT8), ("min", np.asarray(low), FLOAT),
             ("max", np.asarray(high), FLOAT))
    names = []
    for part, array, dtype in parts:
        names.append(draft.unused_name(f"{item.name}_quantized_{part}"))
        draft.put(make_const(names[-1], array, item.controls, item.device, dtype))
    return names[0], names[1], names[2]


def check_finite(values: Array) -> None:
    """Raises Skip for values that eight bits, or equal steps, cannot represent."""
    if not np.isfinite(values).all():
        raise Skip("it holds NaN or infinity")
    low, high = (float(limit) for limit in value_range(values))
    if max(high, 0) - min(low, 0) > float(np.finfo(np.float32).max):
        raise Skip("its range is not finite")


def _quantized(values: Array, low: np.float32, high: np.float32) -> Array:
    scale = _STEPS / (float(high) - float(low))
    steps = np.floor(values.astype(np.float64) * scale + 0.5) - np.floor(float(low) * scale + 0.5)
    return np.clip(steps, 0, _STEPS).astype(np.uint8)


def _values(item: Node, graph: Graph) -> Array:
    if item.get("dtype") != FLOAT:
        raise Skip(f"it is {item.get('dtype')!r}, not float")
    if item.name in graph.kept:
        raise Skip("it is itself a requested input or output")
    values = item.value
    check_finite(values)
    return values
