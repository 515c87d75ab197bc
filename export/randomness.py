"""Random tensors of which a graph needs only a bound: what is certain whatever numbers are drawn.

A uniform random number is at least 0 and below 1, so `random >= 0` is true for certain.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from export.graph import Graph, Node, port, producer
from export.ops import IDENTITIES
from export.tensors import BFLOAT16, BOOL, DOUBLE, FLOAT, HALF, Array, DType, numpy_dtype

_UNIFORM = {"RandomUniform": 0, "StatelessRandomUniform": 0, "StatelessRandomUniformV2": 0, "StatefulUniform": 2}
_NORMAL = {"RandomStandardNormal": 0, "TruncatedNormal": 0, "StatelessRandomNormal": 0, "StatelessRandomNormalV2": 0,
           "StatelessTruncatedNormal": 0, "StatelessTruncatedNormalV2": 0, "StatefulStandardNormal": 1,
           "StatefulStandardNormalV2": 2, "StatefulTruncatedNormal": 2}
# The ops that draw, and which of their inputs is the shape of what they draw.
SHAPE_INPUT = _UNIFORM | _NORMAL
# TensorFlow fills the mantissa with random bits: the largest uniform number is 1 - 2 ** -bits.
_MANTISSA_BITS = {HALF: 10, BFLOAT16: 7, FLOAT: 23, DOUBLE: 52}
# Monotone in each operand, rounding included: their bounds are among the results of the operands' bounds.
_ARITHMETIC: dict[str, Callable[[Array, Array], Array]] = {
    "Mul": np.multiply, "Add": np.add, "AddV2": np.add, "Sub": np.subtract, "RealDiv": np.divide, "Div": np.divide,
    "Maximum": np.maximum, "Minimum": np.minimum}
_ROUNDING: dict[str, Callable[[Array], Array]] = {
    "Floor": np.floor, "Ceil": np.ceil, "Neg": np.negative, "LogicalNot": np.logical_not}
_COMPARISONS: dict[str, Callable[[Array, Array], Array]] = {
    "GreaterEqual": np.greater_equal, "Greater": np.greater, "LessEqual": np.less_equal, "Less": np.less}


@dataclass(frozen=True)
class Range:
    """Every element of a tensor is in [low, high], which are scalars of the tensor's type.

    `drawn` is the node that draws, None if nothing random is in it; `constants` are the constants that it depends on,
    `branches` the outputs of v1 Switch nodes through which they came.
    """

    low: Array
    high: Array
    drawn: Node | None = None
    constants: tuple[Node, ...] = ()
    branches: tuple[str, ...] = ()

    @property
    def certain(self) -> bool:
        return bool(self.low == self.high)


# decision 123
def ranges(graph: Graph) -> tuple[dict[str, Range], dict[str, str]]:
    """The ranges of tensors that depend on random numbers and constants only, by node (both outputs of a Switch have
    one); and for comparisons of such a tensor whose outcome is not certain, the reason.

    Constants have no entry, but what carries them into a v1 loop or branch does.
    """
    found: dict[str, Range] = {}
    reasons: dict[str, str] = {}
    for item in graph.order():
        if item.name in graph.fed:
            continue
        if item.op in SHAPE_INPUT:
            drawn = _drawn(item)
            if drawn:
                found[item.name] = drawn
        elif item.op == "Switch" or (item.op == "Enter" and item.get("is_constant")):
            carried = _operand(item.data[0], found, graph)
            if carried and not carried.drawn:
                found[item.name] = carried
        elif any(producer(ref) in found for ref in item.data):
            result = _result(item, found, graph)
            if isinstance(result, Range):
                found[item.name] = result
            elif item.op in _COMPARISONS:
                reasons[item.name] = result
    return found, reasons


def _drawn(item: Node) -> Range | None:
    dtype = item.get("dtype", FLOAT)
    if dtype not in _MANTISSA_BITS:
        return None
    kind = numpy_dtype(dtype)
    if item.op in _UNIFORM:
        return Range(np.zeros((), kind), np.asarray(1 - 2.0 ** -_MANTISSA_BITS[dtype], kind), item)
    most = np.asarray(np.finfo(kind).max if dtype != BFLOAT16 else 3.3e38, kind)
    return Range(-most, most, item)


def _result(item: Node, found: Mapping[str, Range], graph: Graph) -> Range | str:
    """The range of a node's output, or the reason why there is none."""
    operands = []
    for ref in item.data:
        one = _operand(ref, found, graph)
        if one is None:
            return f"it depends on '{producer(ref)}', which is not constant"
        operands.append(one)
    drawn = {one.drawn.name: one.drawn for one in operands if one.drawn}
    if len(drawn) > 1:
        return "it compares two random numbers"
    with np.errstate(all="ignore"):
        bounds = _bounds(item, operands)
    if not isinstance(bounds, tuple):
        return bounds
    constants = tuple({one.name: one for part in operands for one in part.constants}.values())
    branches = tuple(dict.fromkeys(ref for part in operands for ref in part.branches))
    return Range(*bounds, next(iter(drawn.values()), None), constants, branches)


def _operand(ref: str, found: Mapping[str, Range], graph: Graph) -> Range | None:
    item = graph.nodes[producer(ref)]
    if item.op == "Switch" and item.name in found:
        return replace(found[item.name], branches=(*found[item.name].branches, ref))
    if port(ref) == 0 and item.name in found:
        return found[item.name]
    return of_constant(item, graph)


def of_constant(item: Node, graph: Graph) -> Range | None:
    """The range of a constant's values; None if it is no constant of finite floats or booleans."""
    if item.op != "Const" or item.name in graph.fed or item.get("dtype") not in (*_MANTISSA_BITS, BOOL) \
            or 0 in item.shape:
        return None
    value = item.value
    if not np.all(np.isfinite(value.astype(np.float64))):
        return None
    return Range(np.asarray(value.min()), np.asarray(value.max()), None, (item,))


def _bounds(item: Node, operands: list[Range]) -> tuple[Array, Array] | str:
    first, last = operands[0], operands[-1]
    if item.op in IDENTITIES:
        return first.low, first.high
    if item.op == "Cast":
        return _cast(first, DType(item.get("DstT")))
    if item.op in _COMPARISONS and len(operands) == 2:
        compare = _COMPARISONS[item.op]
        outcomes = [bool(compare(a, b)) for a in (first.low, first.high) for b in (last.low, last.high)]
        if len(set(outcomes)) == 1:
            return np.asarray(outcomes[0]), np.asarray(outcomes[0])
        fixed = first if last.drawn else last
        return f"its outcome is random: it compares with {float(fixed.low):g}, such as a dropout's rate"
    if item.op in _ROUNDING:
        ends = [_ROUNDING[item.op](first.low), _ROUNDING[item.op](first.high)]
    elif item.op in _ARITHMETIC and len(operands) == 2:
        if item.op in ("RealDiv", "Div") and last.low <= 0 <= last.high:
            return "it may divide by 0"
        ends = [_ARITHMETIC[item.op](a, b) for a in (first.low, first.high) for b in (last.low, last.high)]
    else:
        return f"{item.op} is not followed"
    kind = first.low.dtype
    values = [np.asarray(one, kind) for one in ends]
    if not all(np.isfinite(one.astype(np.float64)) for one in values):
        return "it may overflow"
    return min(values, key=float), max(values, key=float)


def _cast(operand: Range, to: DType) -> tuple[Array, Array] | str:
    if to not in (*_MANTISSA_BITS, BOOL) or (to == BOOL and not operand.certain):
        return "Cast is not followed"
    kind = numpy_dtype(to)
    low, high = operand.low.astype(kind), operand.high.astype(kind)
    return (low, high) if np.all(np.isfinite([float(low), float(high)])) else "it may overflow"
