"""How many multiplications, each with an addition, a contraction computes."""
from __future__ import annotations

import math
from collections.abc import Mapping

from export.graph import Node
from export.ops import attribute
from user_error import UserError

Sizes = tuple[int, ...]

_CONVOLUTIONS = frozenset({"Conv2D", "Conv3D", "_FusedConv2D", "_FusedQuantizedConv2D"})
_DEPTHWISE = frozenset({
    "DepthwiseConv2dNative", "_FusedDepthwiseConv2dNative", "_FusedQuantizedDepthwiseConv2D"})
_TRANSPOSED = frozenset({"Conv2DBackpropInput", "Conv3DBackpropInputV2"})
_PRODUCTS = frozenset({"MatMul", "_FusedMatMul", "_QuantizedMatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"})
CONTRACTIONS = _CONVOLUTIONS | _DEPTHWISE | _TRANSPOSED | _PRODUCTS | {"Einsum"}


def of(item: Node, sizes: Mapping[str, Sizes | None]) -> int:
    """The multiplications of one contraction; `sizes`: of its inputs and its output, by tensor name."""
    def known(ref: str) -> Sizes:
        found = sizes.get(ref)
        if found is None:
            raise UserError(f"the multiplications of '{item.name}' ({item.op}) cannot be counted: the shape of '{ref}' "
                            "depends on more than the batch")
        return found
    if item.op in _CONVOLUTIONS:
        return math.prod(known(item.name)) * math.prod(known(item.data[1])[:-1])
    if item.op in _DEPTHWISE:
        return math.prod(known(item.name)) * math.prod(known(item.data[1])[:2])
    if item.op in _TRANSPOSED:  # each number of the smaller, third input is multiplied with the filters of its channel
        return math.prod(known(item.data[2])) * math.prod(known(item.data[1])[:-1])
    if item.op == "Einsum":
        return _einsum(str(attribute(item, "equation")), [known(ref) for ref in item.data])
    first = known(item.data[0])
    rows_summed = attribute(item, "transpose_a") or attribute(item, "adj_x")
    return math.prod(known(item.name)) * first[-2 if rows_summed else -1]


def _einsum(equation: str, shapes: list[Sizes]) -> int:
    """The product of the sizes of all letters, those behind "..." included."""
    sizes: dict[str, int] = {}
    for letters, shape in zip(equation.replace(" ", "").partition("->")[0].split(","), shapes, strict=True):
        before, dots, after = letters.partition("...")
        hidden = shape[len(before):len(shape) - len(after)] if dots else ()
        # Hidden axes of two inputs are aligned at their ends.
        names = [*before, *(str(index - len(hidden)) for index in range(len(hidden))), *after]
        for name, size in zip(names, shape, strict=True):
            sizes[name] = max(sizes.get(name, 1), size)
    return math.prod(sizes.values())
