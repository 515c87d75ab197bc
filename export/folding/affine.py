"""Affine maps by constants, y = x * scale + offset per channel: batch norms, and arithmetic with constants."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from export.graph import Node, port, producer
from export.ops import attribute
from export.pattern import Skip
from export.shapes import Shape, Shapes, channel_axis
from export.tensors import DOUBLE, FLOAT, Array, DType

ARITHMETIC = frozenset({"Mul", "Add", "AddV2", "Sub", "RealDiv", "Div", "BiasAdd", "BiasAddV1"})
NORMS = frozenset({"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "BatchNormWithGlobalNormalization"})
AFFINE = ARITHMETIC | NORMS


@dataclass(frozen=True)
class Affine:
    """y = x * scale + offset. Both are float64: one number (shape ()), or one per entry of `axis` (shape [channels]).

    `axis` counts from the front of a tensor with `rank` axes; both have no meaning if scale and offset are one number.
    """

    scale: Array
    offset: Array
    axis: int = 0
    rank: int = 0

    @property
    def single(self) -> bool:
        return self.scale.ndim == 0 and self.offset.ndim == 0

    @property
    def has_scale(self) -> bool:
        return bool(np.any(self.scale != 1))

    @property
    def has_offset(self) -> bool:
        return bool(np.any(self.offset != 0))

    def then(self, other: Affine) -> Affine:
        """The map that applies this one first, then `other`."""
        if not self.single and not other.single and (self.axis, self.rank) != (other.axis, other.rank):
            raise Skip("two constants work along different axes")
        place = other if self.single else self
        return Affine(self.scale * other.scale, self.offset * other.scale + other.offset, place.axis, place.rank)

    def only_scale(self) -> Affine:
        return Affine(self.scale, np.zeros(()), self.axis, self.rank)

    def only_offset(self) -> Affine:
        return Affine(np.ones(()), self.offset, self.axis, self.rank)

    def offset_first(self) -> Affine:
        """The offset o for which (x + o) * scale equals this map. Raises Skip if a scale is 0, since there is none."""
        if not np.all(self.scale):
            raise Skip("a scale of 0 leaves no offset to add before it")
        return Affine(np.ones(()), self.offset / self.scale, self.axis, self.rank).finite()

    def at(self, axis: int, rank: int) -> Affine:
        return Affine(self.scale, self.offset, axis, rank)

    def per_channel(self, change: Callable[[Array], Array], axis: int, rank: int) -> Affine:
        """The map with `change` applied to the vectors that have one number per channel."""
        scale = change(self.scale) if self.scale.ndim else self.scale
        return Affine(scale, change(self.offset) if self.offset.ndim else self.offset, axis, rank)

    def finite(self) -> Affine:
        if not (np.all(np.isfinite(self.scale)) and np.all(np.isfinite(self.offset))):
            raise Skip("a constant is NaN or infinite")
        return self


def read(item: Node, nodes: Mapping[str, Node], shapes: Shapes) -> tuple[str, Affine] | None:
    """The tensor that a node maps, and the map; None if the node is not an affine map by constants.

    Raises Skip with the reason for a node that almost is one.
    """
    if item.op in NORMS:
        return _norm(item, nodes)
    data = item.data
    if item.op not in ARITHMETIC or len(data) != 2:
        return None
    constant = [nodes[producer(ref)].op == "Const" and port(ref) == 0 for ref in data]
    if constant[0] == constant[1] or (item.op.startswith("BiasAdd") and constant[0]):
        return None
    if item.get("T") not in (FLOAT, DOUBLE):
        if item.get("T") in (DType(14), DType(19)):
            raise Skip(f"type {item.get('T')!r} would be rounded a second time")
        return None
    source, value = (data[1], nodes[producer(data[0])]) if constant[0] else (data[0], nodes[producer(data[1])])
    if item.op.startswith("BiasAdd"):
        axis_of = shapes.get(source)
        rank = len(axis_of) if axis_of else 0
        if not rank and value.shape != ():
            raise Skip(f"the rank of '{source}' is not known")
        return source, Affine(np.ones(()), np.asarray(value.value, np.float64), channel_axis(item, rank), rank).finite()
    vector, axis, rank = _per_channel(value, shapes.get(source), source)
    one, zero = np.ones(()), np.zeros(())
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if item.op == "Mul":
            found = Affine(vector, zero, axis, rank)
        elif item.op in ("Add", "AddV2"):
            found = Affine(one, vector, axis, rank)
        elif item.op == "Sub":
            found = Affine(-one, vector, axis, rank) if constant[0] else Affine(one, -vector, axis, rank)
        elif constant[0]:
            return None
        else:
            found = Affine(1 / vector, zero, axis, rank)
    return source, found.finite()


def _per_channel(value: Node, shape: Shape, source: str) -> tuple[Array, int, int]:
    """A constant as one number or as one number per channel, with the channels' axis and the tensor's rank."""
    sizes = value.shape
    if sizes == ():
        return np.asarray(value.value, np.float64), 0, 0
    if 0 in sizes:
        raise Skip("the constant is empty")
    if shape is None:
        raise Skip(f"the rank of '{source}' is not known")
    if len(sizes) > len(shape):
        raise Skip(f"the constant has rank {len(sizes)} and '{source}' {len(shape)}, so it changes the shape")
    wide = [axis for axis, size in enumerate(sizes) if size != 1]
    if len(wide) > 1:
        raise Skip("the constant is not one float per channel")
    flat = np.asarray(value.value, np.float64).ravel()
    if not wide:
        return flat.reshape(()), 0, 0
    axis = wide[0] + len(shape) - len(sizes)
    if shape[axis] != flat.size:
        found = "an unknown number of" if shape[axis] is None else str(shape[axis])
        raise Skip(f"the constant has {flat.size} entries along an axis where '{source}' has {found}")
    return flat, axis, len(shape)


def _norm(item: Node, nodes: Mapping[str, Node]) -> tuple[str, Affine]:
    data = item.data
    if item.op.startswith("Fused") and attribute(item, "is_training"):
        raise Skip("it is in training mode: it normalises by the batch's own statistics")
    constants = [nodes[producer(ref)] for ref in data[1:]]
    if any(node.op != "Const" or port(ref) for node, ref in zip(constants, data[1:], strict=True)):
        raise Skip("its scale, offset, mean or variance is not constant")
    if item.get("T") not in (FLOAT, DOUBLE) or any(node.get("dtype") not in (FLOAT, DOUBLE) for node in constants):
        raise Skip(f"type {item.get('T')!r} would be rounded a second time")
    values = [np.asarray(node.value, np.float64) for node in constants]
    if any(value.ndim != 1 or value.size != values[0].size or not value.size for value in values):
        raise Skip("its statistics are not one float per channel")
    if item.op == "BatchNormWithGlobalNormalization":
        mean, variance, beta, gamma = values
        if not item.get("scale_after_normalization"):
            gamma = np.ones_like(gamma)
        epsilon, rank = item.get("variance_epsilon"), 4
    else:
        gamma, beta, mean, variance = values
        epsilon = attribute(item, "epsilon")
        rank = 5 if len(str(attribute(item, "data_format"))) == 5 else 4
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        scale = gamma / np.sqrt(variance + epsilon)
    return data[0], Affine(scale, beta - mean * scale, channel_axis(item, rank), rank).finite()
