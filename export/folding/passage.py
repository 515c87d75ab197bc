"""Moves an affine map per channel across an op between it and a contraction, if that is exact.

    after(op, A):  op(A(x)) = after(op, A)(op(x))        before(op, A):  A(op(x)) = op(before(op, A)(x))

Both raise Skip if there is no such map.
"""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from export.folding.affine import Affine
from export.graph import Node, producer
from export.ops import IDENTITIES, attribute
from export.pattern import Skip
from export.shapes import Shape, Shapes, channel_axis, constant
from export.tensors import Array

_POOLS = {"MaxPool": 4, "AvgPool": 4, "MaxPool3D": 5, "AvgPool3D": 5}
_PADS = frozenset({"Pad", "PadV2", "MirrorPad"})
_REDUCTIONS = frozenset({"Mean", "Max"})
_BLOCKS = frozenset({"BatchToSpaceND", "SpaceToBatchND"})
_RESIZES = frozenset({"ResizeNearestNeighbor", "ResizeBilinear"})
PASSAGES = frozenset(
    {"Relu", "LeakyRelu", "Reshape", "Transpose", "Squeeze", *_POOLS, *_PADS, *_REDUCTIONS, *_BLOCKS, *_RESIZES,
     *IDENTITIES})


def after(item: Node, affine: Affine, nodes: Mapping[str, Node], shape: Shape) -> Affine:
    """See above. `shape`: the op's output shape, as far as it is known."""
    _commutes(item, affine, nodes, axis=affine.axis)
    if affine.single:
        return affine
    if item.op == "Transpose":
        order = _needed(constant(item, 1, nodes), "its order is not constant")
        return affine.at(order.index(affine.axis), affine.rank)
    if item.op == "Reshape":
        return _reshaped(affine, shape, item.name)
    if item.op in _REDUCTIONS or item.op == "Squeeze":
        gone = _gone(item, nodes, affine.rank)
        if item.op != "Squeeze" and item.get("keep_dims"):
            return affine
        return affine.at(affine.axis - sum(axis < affine.axis for axis in gone), affine.rank - len(gone))
    return affine


def before(item: Node, affine: Affine, nodes: Mapping[str, Node], shapes: Shapes) -> Affine:
    result = affine
    if not affine.single:
        source = shapes.get(item.data[0])
        if item.op == "Transpose":
            order = _needed(constant(item, 1, nodes), "its order is not constant")
            result = affine.at(order[affine.axis], affine.rank)
        elif item.op == "Reshape":
            result = _reshaped(affine, source, item.data[0])
        elif item.op in _REDUCTIONS or item.op == "Squeeze":
            if source is None:
                raise Skip(f"the rank of '{item.data[0]}' is not known")
            gone = _gone(item, nodes, len(source))
            if item.op == "Squeeze" or not item.get("keep_dims"):
                left = [axis for axis in range(len(source)) if axis not in gone]
                result = affine.at(left[affine.axis], len(source))
    _commutes(item, result, nodes, axis=result.axis)
    return result


def _commutes(item: Node, affine: Affine, nodes: Mapping[str, Node], axis: int) -> None:
    """Raises Skip unless op(A(x)) = A(op(x)), for a map A along `axis` of the op's input."""
    if item.op in ("Relu", "LeakyRelu"):
        if affine.has_offset:
            raise Skip(f"an offset does not pass {item.op}")
        _not_negative(item, affine)
    elif item.op in _POOLS:
        if item.op.startswith("MaxPool"):
            _not_negative(item, affine)
            if attribute(item, "padding") not in ("SAME", "VALID"):
                raise Skip("its padding is explicit")
        place = channel_axis(item, _POOLS[item.op])
        if not affine.single and (axis != place or attribute(item, "ksize")[place] != 1
                                  or attribute(item, "strides")[place] != 1 or affine.rank != _POOLS[item.op]):
            raise Skip(f"'{item.name}' pools along the axis of the constant")
    elif item.op in _PADS:
        _pads(item, affine, nodes, axis)
    elif item.op in _BLOCKS:
        if item.op == "SpaceToBatchND" and affine.has_offset:
            raise Skip(f"'{item.name}' puts zeros beside the offset")
        blocks = _needed(constant(item, 1, nodes), f"the blocks of '{item.name}' are not constant")
        if not affine.single and axis <= len(blocks):
            raise Skip(f"'{item.name}' moves the axis of the constant")
    elif item.op in _RESIZES:
        if not affine.single and (axis, affine.rank) != (3, 4):
            raise Skip(f"'{item.name}' resizes along the axis of the constant")
    elif item.op in _REDUCTIONS:
        if item.op == "Max":
            _not_negative(item, affine)
        if not affine.single and axis in _gone(item, nodes, affine.rank):
            raise Skip(f"'{item.name}' reduces the axis of the constant")


def _pads(item: Node, affine: Affine, nodes: Mapping[str, Node], axis: int) -> None:
    paddings = _needed(constant(item, 1, nodes), f"what '{item.name}' pads is not constant")
    if not affine.single and any(paddings[2 * axis:2 * axis + 2]):
        raise Skip(f"'{item.name}' pads the axis of the constant")
    if item.op != "MirrorPad" and affine.has_offset:
        raise Skip(f"'{item.name}' puts zeros beside the offset")
    if item.op == "PadV2":
        value = nodes[producer(item.data[2])]
        if value.op != "Const" or np.any(value.value != 0):
            raise Skip(f"'{item.name}' pads with something else than 0")


def _not_negative(item: Node, affine: Affine) -> None:
    negative = int(np.sum(affine.scale < 0))
    if negative:
        raise Skip(f"{item.op} needs a positive scale, and {negative} of {affine.scale.size} are negative")


def _gone(item: Node, nodes: Mapping[str, Node], rank: int) -> set[int]:
    """The axes that a reduction or Squeeze removes."""
    if item.op == "Squeeze":
        axes = attribute(item, "squeeze_dims")
        if not axes:
            raise Skip("which axes it removes depends on the data")
    else:
        axes = _needed(constant(item, 1, nodes), "the axes it reduces are not constant")
    return {axis % rank for axis in axes}


def _reshaped(affine: Affine, shape: Shape, name: str) -> Affine:
    """The map along the last axis of a reshaped tensor, if one channel count is a multiple of the other."""
    if affine.axis != affine.rank - 1:
        raise Skip("the reshape mixes the channels with other axes")
    size = shape[-1] if shape else None
    if size is None or shape is None:
        raise Skip(f"the last size of '{name}' is not known")

    def tiled(vector: Array) -> Array:
        if size and size % vector.size == 0:
            return np.tile(vector, size // vector.size)
        if size and vector.size % size == 0 and np.array_equal(np.tile(vector[:size], vector.size // size), vector):
            return vector[:size]
        raise Skip("the reshape splits the channels")
    return affine.per_channel(tiled, len(shape) - 1, len(shape))


def _needed(value: list[int] | None, otherwise: str) -> list[int]:
    if value is None:
        raise Skip(otherwise)
    return value
