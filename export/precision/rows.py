"""Which tensors have one row per example, each row computed from that example alone.

    states = follow(graph)
    states["logits"].kind == "rows"        # or .kind == "other" and .reason says which operation mixes examples

The examples are the first axis of the fed tensors whose first size is not fixed. Only operations that are known to
treat rows separately are followed; behind any other one the tensors are "other".
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from export.graph import Graph, Node, normal, tensor_name
from export.ops import attribute, is_pure, output_dtypes
from export.shapes import Shape, channel_axis, constant
from export.tensors import RESOURCE, VARIANT

Kind = Literal["rows", "whole", "count", "shape", "other"]

_UNARY = (
    "Identity", "Snapshot", "StopGradient", "PreventGradient", "CheckNumerics", "Cast", "Relu", "Relu6", "Elu", "Selu",
    "LeakyRelu", "Sigmoid", "Tanh", "Softplus", "Softsign", "Neg", "Exp", "Expm1", "Log", "Log1p", "Sqrt", "Rsqrt",
    "Square", "Abs", "Sign", "Erf", "Erfc", "Sin", "Cos", "Floor", "Ceil", "Round", "Rint", "Reciprocal", "Inv",
    "LogicalNot", "IsNan", "IsInf", "IsFinite", "ZerosLike", "OnesLike", "Bitcast", "EnsureShape",
    "FakeQuantWithMinMaxArgs")
_ELEMENTWISE = frozenset((
    *_UNARY, "Add", "AddV2", "AddN", "Sub", "Mul", "Div", "RealDiv", "DivNoNan", "MulNoNan", "Maximum", "Minimum",
    "SquaredDifference", "Pow", "FloorDiv", "FloorMod", "Greater", "GreaterEqual", "Less", "LessEqual", "Equal",
    "NotEqual", "LogicalAnd", "LogicalOr", "SelectV2", "ClipByValue", "FakeQuantWithMinMaxVars"))
_REDUCTIONS = ("Mean", "Sum", "Max", "Min", "Prod", "All", "Any", "EuclideanNorm", "ArgMax", "ArgMin", "Cumsum",
               "ReverseV2")
# Rank 4 or 5, examples first; the other inputs are weights.
_IMAGES = frozenset((
    "Conv2D", "DepthwiseConv2dNative", "Conv3D", "MaxPool", "AvgPool", "MaxPool3D", "AvgPool3D", "LRN", "BiasAdd",
    "BiasAddV1", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "ResizeBilinear", "ResizeNearestNeighbor",
    "ResizeBicubic", "ResizeArea", "SpaceToDepth", "DepthToSpace", "QuantizeV2", "Dequantize", "Requantize",
    "QuantizedMaxPool", "QuantizedAvgPool", "QuantizedConv2D", "QuantizedRelu", "QuantizedRelu6", "_QuantizedMatMul",
    "QuantizedMatMul", "QuantizedBiasAdd", "TopKV2"))
_FUSED = ("_FusedQuantizedConv2D", "_FusedQuantizedDepthwiseConv2D")
_SHAPE_OF = ("Shape",)


@dataclass(frozen=True)
class State:
    """`rows`: the first axis has `block` rows for each example of the fed tensors `sources`. `whole`: it does not
    depend on how many examples there are, nor on their values. `count`: a scalar, the number of examples. `shape`: a
    vector that begins with that number. `other`: anything else, for `reason`."""

    kind: Kind
    block: int = 1
    sources: frozenset[str] = frozenset()
    reason: str = ""


WHOLE, COUNT, SHAPE = State("whole"), State("count"), State("shape")


def follow(graph: Graph) -> dict[str, State]:
    """The state of each tensor by name."""
    states: dict[str, State] = {}
    for item in graph.order():
        for number, state in enumerate(_outputs(graph, item, states)):
            states[tensor_name(item.name, number)] = state
    for ref in graph.inputs:
        states[ref] = _fed(graph, ref)
    return states


def _fed(graph: Graph, ref: str) -> State:
    shape = graph.shapes.get(ref)
    if shape is None:
        return State("other", reason=f"the rank of the input '{ref}' is not known")
    return State("rows", sources=frozenset((ref,))) if shape and shape[0] is None else WHOLE


def _outputs(graph: Graph, item: Node, states: dict[str, State]) -> Sequence[State]:
    if item.name in graph.fed:
        return [_fed(graph, item.name)]
    dtypes = output_dtypes(item, graph.library) or []
    given = [states.get(ref, WHOLE) for ref in item.data]  # a loop's back edge: its loop is not followed anyway
    made = list(_state(graph, item, given))
    if any(dtype in (RESOURCE, VARIANT) for dtype in dtypes):
        made = [_other(item)]
    return [*made, *[made[-1]] * (len(dtypes) - len(made))]


def _state(graph: Graph, item: Node, given: Sequence[State]) -> Sequence[State]:
    """The states of the outputs; the last one holds for further outputs too."""
    broken = next((one for one in given if one.kind == "other"), None)
    if broken and item.op != "IdentityN":
        return [broken]
    kinds = {one.kind for one in given}
    if item.op in _SHAPE_OF and kinds == {"rows"}:
        return [SHAPE if given[0].block == 1 else _other(item)]
    if kinds <= {"whole"}:
        return [WHOLE if is_pure(item) or item.op in ("Const", "NoOp") else _other(item)]
    rule = _RULES.get(item.op)
    sources = frozenset().union(*(one.sources for one in given))
    found = rule(graph, item, given) if rule else None
    if found is None:
        return [_other(item)]
    return [replace(one, sources=sources) if one.kind == "rows" else one for one in found]


def _other(item: Node) -> State:
    return State("other", reason=f"'{item.name}' ({item.op}) is not known to compute each example by itself")


Found = Sequence[State] | None
Given = Sequence[State]


def _shape(graph: Graph, ref: str) -> Shape:
    return graph.shapes.get(normal(ref))


def _elementwise(graph: Graph, item: Node, given: Given) -> Found:
    if {one.kind for one in given} <= {"count", "whole"} and len(given) == 1:
        return given  # a Cast of the number of examples
    if {one.kind for one in given} == {"shape"} and len(given) == 1:
        return given
    shapes = [_shape(graph, ref) for ref in item.data]
    rows = [(one, shape) for one, shape in zip(given, shapes, strict=True) if one.kind == "rows"]
    if len(rows) + sum(one.kind == "whole" for one in given) < len(given):
        return None
    blocks = {one.block for one, _ in rows}
    ranks = {None if shape is None else len(shape) for _, shape in rows}
    others = [shape for one, shape in zip(given, shapes, strict=True) if one.kind == "whole"]
    if len(blocks) > 1 or (len(rows) > 1 and (len(ranks) > 1 or None in ranks)):
        return None
    rank = ranks.pop()
    for shape in others:
        if shape is None or (shape and (rank is None or len(shape) > rank or (len(shape) == rank and shape[0] != 1))):
            return None
    return [rows[0][0]]


def _first_only(graph: Graph, item: Node, given: Given) -> Found:
    """The first input has the examples, and all others are the same for all of them."""
    if given[0].kind != "rows" or any(one.kind != "whole" for one in given[1:]):
        return None
    if item.op.startswith("FusedBatchNorm") and attribute(item, "is_training") is not False:
        return None
    if item.op in ("MaxPool", "AvgPool", "MaxPool3D", "AvgPool3D", "QuantizedMaxPool", "QuantizedAvgPool") and (
            attribute(item, "ksize")[0] != 1 or attribute(item, "strides")[0] != 1):
        return None
    if item.op in ("BiasAdd", "BiasAddV1", "TopKV2", "LRN") and len(_shape(graph, item.data[0]) or ()) < 2:
        return None
    if item.op == "BiasAdd" and channel_axis(item, 4) == 0:
        return None
    if item.op in ("QuantizeV2", "Dequantize") and attribute(item, "axis") not in (-1, None):
        return None
    if item.op in ("QuantizedMatMul", "_QuantizedMatMul") and item.get("transpose_a"):
        return None
    return [given[0], *([given[0]] if item.op == "TopKV2" else [WHOLE])]


def _fused_conv(graph: Graph, item: Node, given: Given) -> Found:
    """As `_first_only`; with a residual addition the fourth input has the examples too."""
    summand = 3 if "Sum" in (item.get("fused_ops") or ()) else None
    for index, one in enumerate(given):
        if one.kind != ("rows" if index in (0, summand) else "whole") or one.block != 1:
            return None
    return [given[0], WHOLE]


def _matmul(graph: Graph, item: Node, given: Given) -> Found:
    first, second = given
    turned = item.get("transpose_a") or item.get("adj_x")
    if item.op == "MatMul":
        return [first] if first.kind == "rows" and second.kind == "whole" and not turned else None
    shapes = [_shape(graph, ref) for ref in item.data]
    ranks = [len(shape or ()) for shape in shapes]
    if first.kind == second.kind == "rows":
        return [first] if first.block == second.block and ranks[0] == ranks[1] >= 3 else None
    if first.kind == "rows" and second.kind == "whole" and shapes[1] is not None:
        aligned = ranks[1] < ranks[0] or shapes[1][0] == 1
        return [first] if ranks[0] >= 3 and aligned and ranks[1] <= ranks[0] else None
    return None


def _softmax(graph: Graph, item: Node, given: Given) -> Found:
    return [given[0]] if given[0].kind == "rows" and len(_shape(graph, item.data[0]) or ()) >= 2 else None


def _axes(graph: Graph, item: Node, index: int, rank: int | None) -> list[int] | None:
    """The constant axes of an input, counted from the front; None if one is not known."""
    found = constant(item, index, graph.nodes)
    if found is None or (rank is None and min(found, default=0) < 0):
        return None
    return [axis % rank if rank else axis for axis in found]


def _reduction(graph: Graph, item: Node, given: Given) -> Found:
    if given[0].kind != "rows":
        return None
    shape = _shape(graph, item.data[0])
    axes = _axes(graph, item, 1, None if shape is None else len(shape))
    return [given[0]] if axes and 0 not in axes else None


def _concat(graph: Graph, item: Node, given: Given) -> Found:
    parts = list(item.data[:item.get("N")])
    kinds = [one.kind for one in given[:len(parts)]]
    if kinds[0] in ("shape", "count") and set(kinds[1:]) <= {"whole"}:
        return [SHAPE]
    rank = next((len(shape) for ref in parts if (shape := _shape(graph, ref)) is not None), None)
    axes = _axes(graph, item, len(parts), rank)
    if set(kinds) != {"rows"} or not axes or axes[0] == 0 or len({one.block for one in given[:len(parts)]}) > 1:
        return None
    return [given[0], WHOLE] if item.op == "QuantizedConcatV2" else [given[0]]


def _pack(graph: Graph, item: Node, given: Given) -> Found:
    if given[0].kind == "count" and {one.kind for one in given[1:]} <= {"whole"}:
        return [SHAPE]
    shape = _shape(graph, item.data[0])
    axis = int(attribute(item, "axis") or 0)
    axis = axis if axis >= 0 or shape is None else axis + len(shape) + 1
    if {one.kind for one in given} != {"rows"} or axis < 1 or len({one.block for one in given}) > 1:
        return None
    return [given[0]]


def _split(graph: Graph, item: Node, given: Given) -> Found:
    at, axis_at = {"Split": (1, 0), "SplitV": (0, 2), "Unpack": (0, -1)}[item.op]
    shape = _shape(graph, item.data[at])
    rank = None if shape is None else len(shape)
    if axis_at < 0:
        axis = int(attribute(item, "axis") or 0)
        axes = [axis % rank] if rank else [axis]
    else:
        axes = _axes(graph, item, axis_at, rank) or []
    others = all(one.kind == "whole" for index, one in enumerate(given) if index != at)
    return [given[at]] if given[at].kind == "rows" and others and axes and axes[0] > 0 else None


def _pad(graph: Graph, item: Node, given: Given) -> Found:
    paddings = constant(item, 1, graph.nodes)
    return [given[0]] if given[0].kind == "rows" and paddings and paddings[:2] == [0, 0] else None


def _reshape(graph: Graph, item: Node, given: Given) -> Found:
    if given[0].kind != "rows":
        return None
    shape, target = _shape(graph, item.data[0]), constant(item, 1, graph.nodes)
    if given[1].kind == "shape":
        return [replace(given[0], block=1)]  # the first size is the number of examples again
    if target is None or not target or target[0] != -1 or min(target[1:], default=1) < 1 or not _known(shape):
        return None
    assert shape is not None
    each, inner = given[0].block * math.prod(size or 0 for size in shape[1:]), math.prod(target[1:])
    return [replace(given[0], block=each // inner)] if inner and each and each % inner == 0 else None


def _known(shape: Shape) -> bool:
    return shape is not None and None not in shape[1:]


def _squeeze(graph: Graph, item: Node, given: Given) -> Found:
    axes, shape = attribute(item, "squeeze_dims") or (), _shape(graph, item.data[0])
    if given[0].kind != "rows" or not axes or (shape is None and min(axes) < 0):
        return None
    return [given[0]] if all(axis % len(shape) if shape else axis for axis in axes) else None


def _expand(graph: Graph, item: Node, given: Given) -> Found:
    axes, shape = constant(item, 1, graph.nodes), _shape(graph, item.data[0])
    if given[0].kind == "count":
        return [SHAPE]
    if given[0].kind != "rows" or not axes or (shape is None and axes[0] < 0):
        return None
    return [given[0]] if axes[0] % (len(shape) + 1 if shape else axes[0] + 1) else None


def _transpose(graph: Graph, item: Node, given: Given) -> Found:
    order = constant(item, 1, graph.nodes)
    return [given[0]] if given[0].kind == "rows" and order and order[0] == 0 else None


def _strided_slice(graph: Graph, item: Node, given: Given) -> Found:
    begin, end, strides = (constant(item, index, graph.nodes) for index in (1, 2, 3))
    masks = {name: int(attribute(item, f"{name}_mask") or 0) & 1
             for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}
    if begin is None or end is None or strides is None or not begin:
        return None
    if given[0].kind == "shape":
        if masks["new_axis"] or masks["ellipsis"] or len(begin) != 1 or strides != [1]:
            return None
        first = 0 if masks["begin"] else begin[0]
        if first:  # counted from the end it may be the number of examples again
            return [WHOLE] if first > 0 else None
        return [COUNT if masks["shrink_axis"] else SHAPE]
    shape = _shape(graph, item.data[0])
    whole = masks["begin"] and masks["end"] and strides[0] == 1 and not masks["new_axis"] and not masks["shrink_axis"]
    rest = masks["ellipsis"] and shape is not None and len(begin) - 1 < len(shape)
    return [given[0]] if given[0].kind == "rows" and (whole or rest) else None


def _slice(graph: Graph, item: Node, given: Given) -> Found:
    begin, size = constant(item, 1, graph.nodes), constant(item, 2, graph.nodes)
    return [given[0]] if given[0].kind == "rows" and begin and size and begin[0] == 0 and size[0] == -1 else None


def _tile(graph: Graph, item: Node, given: Given) -> Found:
    times = constant(item, 1, graph.nodes)
    return [given[0]] if given[0].kind == "rows" and times and times[0] == 1 else None


def _gather(graph: Graph, item: Node, given: Given) -> Found:
    table, ids = given[0], given[1]
    shape = _shape(graph, item.data[0])
    axes = _axes(graph, item, 2, None if shape is None else len(shape))
    if attribute(item, "batch_dims") or not axes:
        return None
    if table.kind == "whole" and ids.kind == "rows" and axes[0] == 0:
        return [ids]
    return [table] if table.kind == "rows" and ids.kind == "whole" and axes[0] > 0 else None


def _each(graph: Graph, item: Node, given: Given) -> Found:
    return given


def _fill(graph: Graph, item: Node, given: Given) -> Found:
    return [State("rows")] if given[0].kind == "shape" and given[1].kind == "whole" else None


def _one_hot(graph: Graph, item: Node, given: Given) -> Found:
    same = given[0].kind == "rows" and all(one.kind == "whole" for one in given[1:])
    return [given[0]] if same and attribute(item, "axis") != 0 else None


def _einsum(graph: Graph, item: Node, given: Given) -> Found:
    left, _, right = str(item.get("equation")).replace(" ", "").partition("->")
    terms = left.split(",")
    label = right[:1]
    if "." in left or not label or len({one.block for one in given if one.kind == "rows"}) > 1:
        return None
    for term, one in zip(terms, given, strict=True):
        if (term[:1] == label) != (one.kind == "rows") or label in term[1:] or one.kind not in ("rows", "whole"):
            return None
    return [next(one for one in given if one.kind == "rows")]


_RULES: dict[str, Callable[[Graph, Node, Given], Found]] = {
    **dict.fromkeys(_ELEMENTWISE, _elementwise), **dict.fromkeys(_IMAGES, _first_only),
    **dict.fromkeys(_FUSED, _fused_conv), **dict.fromkeys(_REDUCTIONS, _reduction),
    **dict.fromkeys(("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), _matmul),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax), **dict.fromkeys(("ConcatV2", "QuantizedConcatV2"), _concat),
    "Pack": _pack, **dict.fromkeys(("Split", "SplitV", "Unpack"), _split),
    **dict.fromkeys(("Pad", "PadV2", "MirrorPad"), _pad), "Reshape": _reshape, "Squeeze": _squeeze,
    "ExpandDims": _expand, "Transpose": _transpose, "StridedSlice": _strided_slice, "Slice": _slice, "Tile": _tile,
    "GatherV2": _gather, "IdentityN": _each, "Fill": _fill, "OneHot": _one_hot, "Einsum": _einsum}
