"""The shape that a tensor must have for the ops that read it: a convolution's rank, the width of a matrix product.

    of(graph, graph.top, "x") == Demand(rank=4, sizes={-1: 3})

The tensor is followed through ops that keep its shape, into calls and branches, to the first reader that constrains it.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from export import axes
from export.following import Following, Place
from export.graph import Node
from export.ops import attribute

_BINARY = ("Add", "AddV2", "Sub", "Mul", "Div", "RealDiv", "Maximum", "Minimum", "SquaredDifference", "DivNoNan")
# op: the inputs whose shape the output has
_THROUGH: dict[str, tuple[int, ...] | None] = {
    **dict.fromkeys((
        "Identity", "Cast", "StopGradient", "Snapshot", "PreventGradient", "CheckNumerics", "Enter", "Switch", "Relu",
        "Relu6", "Elu", "Selu", "Sigmoid", "Tanh", "Neg", "Exp", "Log", "Log1p", "Sqrt", "Rsqrt", "Square", "Abs",
        "Softplus", "ClipByValue", "PlaceholderWithDefault", "EnsureShape", "BiasAdd", "AdjustContrastv2", "Sign",
        "QuantizeAndDequantizeV2", "QuantizeAndDequantizeV4", "FakeQuantWithMinMaxVars", "LRN", "StringLower",
        "StringUpper", "StringStrip", "StaticRegexReplace", "RegexReplace", "LogicalNot", "Floor", "Round", "Softmax"),
        (0,)),
    **dict.fromkeys((*_BINARY, "IdentityN", "Merge"), None)}
_RANK_4 = (
    "MaxPool", "MaxPoolV2", "AvgPool", "ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic", "ResizeArea",
    "CropAndResize", "ExtractImagePatches", "SpaceToDepth", "DepthToSpace", "Dilation2D")
# op: the index of the input, that of the weights (rows: inputs and states), weights' columns per state, the rank
_CELLS = {"BlockLSTM": (1, 4, 4, 3), "BlockLSTMV2": (1, 4, 4, 3), "LSTMBlockCell": (0, 3, 4, 2),
          "GRUBlockCell": (0, 2, 2, 2)}
_RANK_5 = ("MaxPool3D", "AvgPool3D")
_BATCH_NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
_RANK_3 = ("CudnnRNN", "CudnnRNNV2", "CudnnRNNV3")
_SCALARS = ("DecodeJpeg", "DecodeAndCropJpeg", "DecodePng", "DecodeBmp", "DecodeGif", "DecodeImage", "DecodeWav",
            "ParseSingleExample", "ParseSingleSequenceExample", "ParseTensor")
_VECTORS = ("ParseExample", "StringSplit", "ParseSequenceExample")


@dataclass
class Demand:
    """`rank` None: not known. `sizes` by axis, negative ones from the end. `least`: the rank is at least that."""

    rank: int | None = None
    sizes: dict[int, int] = field(default_factory=dict)
    least: int = 0

    def fill(self, shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
        """`shape` with its unknown sizes (-1) filled in, except the first; None if the rank is still unknown."""
        if shape is None:
            rank = self.likely_rank()
            if rank is None:
                return None
            shape = (-1,) * rank
        sizes = {axis % len(shape): size for axis, size in self.sizes.items() if -len(shape) <= axis < len(shape)}
        return tuple(sizes.get(axis, size) if size < 0 and axis else size for axis, size in enumerate(shape))

    def likely_rank(self) -> int | None:
        """The rank, or the least one that is possible; None if nothing is known."""
        return self.rank if self.rank is not None else (max(self.least, 2) if self.sizes else self.least or None)

    def _also(self, other: Demand) -> None:
        """Adds another reader's demand; the earlier demand, which is nearer to the input, has precedence."""
        if self.rank is None:
            self.rank = other.rank
        self.least = max(self.least, other.least)
        for axis, size in other.sizes.items():
            self.sizes.setdefault(axis, size)


def of(graph: Following, place: Place, ref: str, passed: frozenset[str] = frozenset()) -> Demand:
    """The demands of the tensor's readers on its shape. `passed`: nodes behind which a caller is looking already."""
    demand = Demand()
    for where, item, index in graph.uses(place, ref, _THROUGH):
        name = f"{where.name}/{item.name}"
        if (item.op in axes.MOVES and index == 0) or (item.op == "ConcatV2" and index < len(item.data) - 1):
            if name not in passed:  # a loop's result is its next input
                behind = of(graph, where, item.name, passed | {name})
                demand._also(_concat(graph, where, item, index, behind) if item.op == "ConcatV2" else
                             _moved(graph, where, item, behind))
        else:
            demand._also(_rule(graph, where, item, index))
    return demand


def _moved(graph: Following, place: Place, item: Node, behind: Demand) -> Demand:
    """The demand on a node's input of the demand `behind` on its output, whose axes are in other places."""
    numbers = [int(one) for one in attribute(item, "squeeze_dims") or ()] if item.op == "Squeeze" else (
        graph.integers(place, item.data[1]))
    return Demand(*axes.MOVES[item.op](numbers, behind.likely_rank(), behind.sizes)) if numbers else Demand()


def elements(demand: Demand) -> tuple[int, ...] | None:
    """The shape of one example; None unless all its sizes are known."""
    shape = demand.fill(None)
    if shape is None:
        return None
    inner = (*((demand.sizes[0],) if 0 in demand.sizes else ()), *shape[1:])
    return inner if inner and min(inner) > 0 else None


def _rule(graph: Following, place: Place, item: Node, index: int) -> Demand:
    op = item.op
    if op in ("Conv2D", "DepthwiseConv2dNative", "Conv3D") and index == 0:
        rank = 5 if op == "Conv3D" else 4
        filters = graph.shape(place, item.data[1])
        return Demand(rank, _channels(item, filters[rank - 2] if filters and len(filters) == rank else None))
    if op == "Conv2DBackpropInput" and index == 2:
        filters = graph.shape(place, item.data[1])
        return Demand(4, _channels(item, filters[3] if filters and len(filters) == 4 else None))
    if op in _BATCH_NORMS and index == 0:
        scale = graph.shape(place, item.data[1])
        return Demand(5 if "D" in str(attribute(item, "data_format"))[2:] else 4,
                      _channels(item, scale[0] if scale else None))
    if op == "MatMul" and index == 0 and not item.get("transpose_a"):
        weights = graph.shape(place, item.data[1])
        return Demand(2, _last(weights[1 if item.get("transpose_b") else 0] if weights else None))
    if op in ("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3") and index == 0 and not item.get("adj_x"):
        weights = graph.shape(place, item.data[1])
        return Demand(None, _last(weights[-1 if item.get("adj_y") else -2] if weights else None),
                      max(2, len(weights) if weights else 3))
    if op in ("BiasAdd", *_BINARY):
        other = graph.shape(place, item.data[1 - index]) if len(item.data) == 2 else None
        if other and index <= 1:
            return Demand(None, {at - len(other): size for at, size in enumerate(other) if size > 1}, len(other))
        return Demand()
    if op == "Einsum":
        return _einsum(graph, place, item, index)
    if op == "Split" and index == 1:
        return Demand(least=axes.least(graph.integers(place, item.data[0]) or ()))
    if op in _CELLS and index == _CELLS[op][0]:
        _, weights_at, gates, rank = _CELLS[op]
        weights = graph.shape(place, item.data[weights_at])
        return Demand(rank, _last(weights[0] - weights[1] // gates if weights else None))
    return _by_rank(graph, place, item, index)


def _concat(graph: Following, place: Place, item: Node, index: int, behind: Demand) -> Demand:
    """All parts have one rank, and the same sizes except along the axis."""
    axis = graph.integers(place, item.data[-1]) or []
    for other in item.data[:-1]:
        shape = graph.shape(place, other)
        if shape and other != item.data[index]:
            return Demand(len(shape), {at: size for at, size in enumerate(shape) if at != axis[0] % len(shape)}
                          if axis else {})
    rank = behind.likely_rank()
    if rank is None or not axis:
        return Demand(least=axes.least(axis))
    sizes = {at % rank: size for at, size in behind.sizes.items()}
    whole = sizes.pop(axis[0] % rank, -1)
    if whole > 0 and len(set(item.data[:-1])) == 1 and whole % (len(item.data) - 1) == 0:
        sizes[axis[0] % rank] = whole // (len(item.data) - 1)
    return Demand(rank, sizes)


def _by_rank(graph: Following, place: Place, item: Node, index: int) -> Demand:
    if index != 0:
        return Demand()
    if item.op in _RANK_3:
        return Demand(3)
    if item.op in _RANK_4:
        return Demand(4)
    if item.op in _RANK_5:
        return Demand(5)
    if item.op in _SCALARS:
        return Demand(0)
    if item.op in _VECTORS:
        return Demand(1)
    if item.op in axes.AXES:
        source = axes.AXES[item.op]
        chosen = graph.integers(place, item.data[source]) if isinstance(source, int) else [int(item.get(source, 0))]
        return Demand(least=axes.least(chosen or ()))
    if item.op == "StridedSlice":
        begin = graph.shape(place, item.data[1])
        wide = begin is not None and not attribute(item, "ellipsis_mask")
        return Demand(least=begin[0] - int(attribute(item, "new_axis_mask") or 0).bit_count()) if (
            begin and wide) else Demand()
    if item.op == "EnsureShape":
        known = attribute(item, "shape")
        return Demand() if known is None else Demand(len(known), _known(known))
    if item.op in ("Pad", "PadV2", "MirrorPad", "Tile", "Slice"):
        given = graph.shape(place, item.data[1])
        return Demand(given[0]) if given else Demand()
    if item.op == "Reshape":
        target = graph.integers(place, item.data[1])
        # An input that already has the target shape is the most likely one.
        return Demand(len(target), _known(target)) if target and min(target[1:], default=1) > 0 else Demand()
    return Demand()


def _einsum(graph: Following, place: Place, item: Node, index: int) -> Demand:
    terms = str(item.get("equation")).partition("->")[0].split(",")
    if index >= len(terms) or "..." in terms[index]:
        return Demand()
    sizes: dict[str, int] = {}
    for at, term in enumerate(terms):
        shape = graph.shape(place, item.data[at]) if at != index else None
        if shape and len(shape) == len(term):
            sizes.update(zip(term, shape, strict=True))
    return Demand(len(terms[index]), {at: sizes[one] for at, one in enumerate(terms[index])
                                      if sizes.get(one, -1) > 0 and at})


def _channels(item: Node, size: int | None) -> dict[int, int]:
    if size is None or size <= 0:
        return {}
    return {1 if str(attribute(item, "data_format") or "").startswith("NC") else -1: size}


def _known(sizes: Sequence[int]) -> dict[int, int]:
    return {at: size for at, size in enumerate(sizes) if size > 0}


def _last(size: int | None) -> dict[int, int]:
    return {-1: size} if size is not None and size > 0 else {}
