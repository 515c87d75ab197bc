"""Which nodes compute in bfloat16: the contractions, and what lies between them.

A float32 graph is divided so that converting happens at borders only:

- a contraction computes in bfloat16 unless it is kept, fed, without a kernel, or with too little work for its borders;
- a node after contractions follows them if all its inputs are bfloat16 already, and a further contraction reads its
  value in the end: what comes after the last contraction is float32 (softmax, boxes, scores), except for the bias that
  the contraction's own kernel adds, and what only moves values;
- a node before the first contraction follows if it only moves values (padding, reshaping, a row of an embedding), so
  that the border lies before it: arithmetic on inputs, which may be positions or pixels, is float32;
- what decides an index (a Cast to integers, a comparison, a rounding) is computed in float32 from the contraction on.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from export.folding.contraction import CONTRACTIONS
from export.graph import Graph, Node, producer, tensor_name
from export.ops import SHAPE_OPS, attribute, output_dtypes
from export.precision.gain import without_gain
from export.precision.retype import data_inputs, data_outputs, is_float, runs_lowered
from export.tensors import FLOAT, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64

CONTRACTING = CONTRACTIONS | {"Einsum"}
# They move or choose values without computing new ones, so that it is the same to round before or after them.
MOVES = frozenset({
    "Identity", "Snapshot", "StopGradient", "PreventGradient", "Reshape", "Squeeze", "ExpandDims", "Transpose", "Pad",
    "PadV2", "MirrorPad", "ConcatV2", "Split", "SplitV", "Slice", "StridedSlice", "Pack", "Unpack", "Tile",
    "GatherV2", "Gather", "GatherNd", "SpaceToBatchND", "BatchToSpaceND", "SpaceToBatch", "BatchToSpace",
    "DepthToSpace", "SpaceToDepth", "MaxPool", "MaxPool3D", "Max", "Min", "Maximum", "Minimum", "Relu", "Relu6",
    "ReverseV2", "BroadcastTo", "SelectV2", "Select", "Neg", "Abs", "ResizeNearestNeighbor"})
# Those of them whose output is not smaller than their input, so that converting before them is not more work.
_NOT_SMALLER = frozenset({
    "Identity", "Snapshot", "StopGradient", "PreventGradient", "Reshape", "Squeeze", "ExpandDims", "Transpose", "Pad",
    "PadV2", "MirrorPad", "ConcatV2", "Pack", "Tile", "SpaceToBatchND", "BatchToSpaceND", "SpaceToBatch",
    "BatchToSpace", "DepthToSpace", "SpaceToDepth", "Relu", "Relu6", "BroadcastTo", "Enter"})
# Their table is the input that is converted: a constant table is stored in bfloat16.
_LOOKUPS = frozenset({"GatherV2", "Gather"})
# Arithmetic whose result is rounded once to bfloat16; reductions add up in float32 inside their kernels.
_ARITHMETIC = frozenset({
    "BiasAdd", "BiasAddV1", "Add", "AddV2", "Sub", "Mul", "AddN", "LeakyRelu", "Elu", "Sigmoid", "Tanh", "Mean",
    "AvgPool", "AvgPool3D", "FusedBatchNormV2", "FusedBatchNormV3", "_MklLayerNorm"})
# Of a GELU: fast where TensorFlow merges it into the MatMul before it, otherwise slower than in float32.
_OF_GELU = frozenset({"Erf", "Erfc", "RealDiv", "Pow", "Square"})
_BIASES = frozenset({"BiasAdd", "BiasAddV1"})
# They turn a number into an index or a decision, where the third digit counts.
_DECIDES = frozenset({"Floor", "Ceil", "Round", "Rint", "FloorMod", "FloorDiv", "Mod", "Range", "LinSpace", "Less",
                      "LessEqual", "Greater", "GreaterEqual", "Equal", "NotEqual", "Bucketize", "ApproximateEqual",
                      "ArgMax", "ArgMin", "TopK", "TopKV2", "InTopKV2", "Sign", "CropAndResize", "NonMaxSuppression",
                      "NonMaxSuppressionV2", "NonMaxSuppressionV3", "NonMaxSuppressionV4", "NonMaxSuppressionV5",
                      "CombinedNonMaxSuppression"})
_INTEGERS = frozenset({INT32, UINT8, INT16, INT8, INT64, UINT16, UINT32, UINT64})


@dataclass
class Regions:
    """`nodes`: those that compute in bfloat16; `reasons`: why a contraction does not, by name."""

    nodes: set[str] = field(default_factory=set)
    reasons: dict[str, str] = field(default_factory=dict)


def contractions(graph: Graph) -> list[Node]:
    """Every contraction of the main graph in order."""
    return [item for item in graph.order() if item.op in CONTRACTING]


def regions(graph: Graph, keep: Mapping[str, str], least_work: float) -> Regions:
    """`keep`: contractions that stay float32, with the reason; `least_work`: see `without_gain`."""
    found = _Division(graph, least_work)
    reasons: dict[str, str] = {}
    for item in contractions(graph):
        reason = keep.get(item.name) or found.why_not(item)
        if reason:
            reasons[item.name] = reason
    names = {item.name for item in contractions(graph)}
    while lone := found.divide(names - reasons.keys()):
        reasons.update(lone)
    return Regions(found.nodes, reasons)


class _Division:
    def __init__(self, graph: Graph, least_work: float) -> None:
        self.graph, self.least_work = graph, least_work
        self.order = graph.order()
        self.shapes = graph.shapes
        self.decides = self._deciding()
        self.nodes: set[str] = set()

    def why_not(self, item: Node) -> str:
        """Why a contraction cannot compute in bfloat16; '' if it can."""
        if item.name in self.graph.fed:
            return "its value is fed from outside"
        if not is_float(item):
            return "its type is not float32"
        if not runs_lowered(item):
            return f"TensorFlow has no bfloat16 kernel of {item.op} for CPUs"
        wide = next((ref for ref in item.data if self._overflows(ref)), "")
        return f"'{producer(wide)}' has a value beyond what bfloat16 holds" if wide else ""

    def divide(self, chosen: set[str]) -> dict[str, str]:
        """Sets `nodes` for these contractions; returns those that gain too little for their borders."""
        after = self._followers(chosen)
        self.nodes = chosen | self._useful(after, chosen)
        self.nodes |= self._before()
        poor = without_gain(self.graph, self.nodes, chosen, self._moving, self.least_work)
        return dict.fromkeys(poor, "too little work for the conversions around it")

    def _deciding(self) -> set[str]:
        """Nodes from which an index or a decision is computed, back to the next contraction or its bias."""
        found: set[str] = set()
        for item in reversed(self.order):
            decides = item.op in _DECIDES or (item.op == "Cast" and attribute(item, "DstT") in _INTEGERS)
            if decides or (item.name in found and item.op not in CONTRACTING and item.op not in SHAPE_OPS):
                for ref in item.data:
                    source = self.graph.nodes[producer(ref)]
                    if not self._is_bias(source):
                        found.add(source.name)
        return found

    def _is_bias(self, item: Node) -> bool:
        return item.op in _BIASES and self.graph.nodes[producer(item.data[0])].op in CONTRACTING

    def _may_follow(self, item: Node) -> bool:
        if item.op not in MOVES and item.op not in _ARITHMETIC and not (
                item.op in _OF_GELU and self._after_dense(item)):
            return False
        if item.name in self.graph.fed or not is_float(item) or not runs_lowered(item):
            return False
        if item.op.startswith("FusedBatchNorm") and attribute(item, "is_training"):
            return False
        if item.name in self.graph.kept and len(output_dtypes(item) or ()) != 1:
            return False
        return not any(self._overflows(item.data[index]) for index in data_inputs(item))

    def _after_dense(self, item: Node) -> bool:
        """Whether it is part of a GELU of a MatMul with bias."""
        source = self.graph.nodes[producer(item.data[0])]
        if source.op in ("Mul", "RealDiv"):
            factors = [self.graph.nodes[producer(ref)] for ref in source.data]
            source = next((factor for factor in factors if factor.op != "Const"), source)
        if source.op == "Neg":
            source = self.graph.nodes[producer(source.data[0])]
        return self._is_bias(source) and self.graph.nodes[producer(source.data[0])].op == "MatMul"

    def _overflows(self, ref: str) -> bool:
        """Whether a constant has a finite value that would become infinite."""
        item = self.graph.nodes[producer(ref)]
        if item.op != "Const" or item.get("dtype") != FLOAT:
            return False
        values = item.value
        # 2**128 - 2**119 is the first number that is rounded to 2**128.
        wide = np.abs(values) >= np.float32(2.0**128 * (1 - 2.0**-9))
        return bool((wide & np.isfinite(values)).any())

    def _followers(self, chosen: set[str]) -> dict[str, bool]:
        """Nodes after contractions all of whose inputs are bfloat16, or are converted for a contraction in any case."""
        found: dict[str, bool] = dict.fromkeys(chosen, True)
        converted = {ref for name in chosen for ref in self._moving(self.graph.nodes[name])}
        for item in self.order:
            if item.name in found or not self._may_follow(item):
                continue
            moving = self._moving(item)
            from_region = [producer(ref) in found and self._is_moved(ref) for ref in moving]
            if item.name in self.decides and not self._is_bias(item) and not (item.op in MOVES and all(from_region)):
                continue
            if any(from_region) and all(inside or ref in converted for inside, ref in
                                        zip(from_region, moving, strict=True)):
                found[item.name] = all(from_region)
        return found

    def _moving(self, item: Node) -> list[str]:
        """Its inputs whose type changes, other than constants."""
        refs = [item.data[index] for index in data_inputs(item)]
        return [ref for ref in refs if not self._is_constant(ref)]

    def _is_constant(self, ref: str) -> bool:
        item = self.graph.nodes[producer(ref)]
        if item.op == "Enter" and attribute(item, "is_constant"):
            item = self.graph.nodes[producer(item.data[0])]
        return item.op == "Const" and item.name not in self.graph.fed

    def _is_moved(self, ref: str) -> bool:
        """Whether the tensor's type changes with its node's."""
        item = self.graph.nodes[producer(ref)]
        return ref in {tensor_name(item.name, number) for number in data_outputs(item)}

    def _useful(self, after: Mapping[str, bool], chosen: set[str]) -> set[str]:
        """The followers whose value a contraction reads in the end, biases, and those that move values of others."""
        found: set[str] = set()
        for item in reversed(self.order):
            if item.name in after and item.name not in chosen:
                readers = [self.graph.nodes[name] for name in self.graph.consumers.get(item.name, ())]
                if any((reader.name in chosen or reader.name in found) and self._reads(reader, item)
                       for reader in readers):
                    found.add(item.name)
        for item in self.order:
            if item.name in after and item.name not in chosen and item.name not in found:
                sources = [producer(ref) for ref in self._moving(item)]
                if all(name in chosen or name in found for name in sources) and (
                        item.op in MOVES or self._is_bias(item)):
                    found.add(item.name)
        return found

    def _reads(self, reader: Node, item: Node) -> bool:
        """Whether the reader's changing inputs include one of the item's outputs."""
        return any(producer(reader.data[index]) == item.name for index in data_inputs(reader))

    def _before(self) -> set[str]:
        """Nodes that only move values, and whose readers all want them in bfloat16."""
        found: set[str] = set()
        for item in reversed(self.order):
            if item.name in self.nodes or item.name in self.graph.kept:
                continue
            enters = item.op == "Enter" and attribute(item, "is_constant")
            table = item.op in _LOOKUPS and self._is_constant(item.data[0])
            if not (enters or table or (item.op in MOVES and item.op in _NOT_SMALLER)):
                continue
            if not (is_float(item) if enters else self._may_follow(item)):
                continue
            readers = [self.graph.nodes[name] for name in self.graph.consumers.get(item.name, ())]
            wanting = [reader for reader in readers if f"^{item.name}" not in reader.inputs and (
                reader.op in SHAPE_OPS or ((reader.name in self.nodes or reader.name in found)
                                        and self._reads(reader, item)))]
            if len(wanting) == len(readers) and any(reader.op not in SHAPE_OPS for reader in readers):
                found.add(item.name)
        return found
