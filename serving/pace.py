"""Which work is known to be quick, up to which input size: learned from measured times, until one contradicts them.

Quick work need not be handed to another thread, which costs more than the work itself. But in the calling thread it
cannot be interrupted, so only work qualifies whose time is bounded by the size of its input (see `Steps`).
"""
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from serving.loops import LOOPS, ends_soon

_TO_WARM_UP = 3
_SHARE = 20


@dataclass(slots=True)
class Pace:  # decision 37
    """Work of one kind, whose time grows with its input. Up to `quick_bytes` of input it is known to be quick."""

    quick_s: float
    slow_s: float
    quick_bytes: int = -1
    runs: int = 0
    not_before: float = 0.0

    def note(self, size: int, began: float, ended: float, here: bool) -> None:
        """Learns from one run on `size` bytes; `here`: it was done in the calling thread, as quick work.

        Times are perf_counter's, in seconds. The first runs also initialize what later runs use, so they are not
        counted. After a run in the calling thread that was slow, all work of its kind goes to the worker threads for
        twenty times as long as that run took: such mistakes block the caller for a twentieth of the time at most.
        """
        seconds = ended - began
        if here:
            if seconds > self.slow_s:
                self.quick_bytes, self.not_before = -1, ended + _SHARE * seconds
            return
        self.runs += 1
        if seconds < self.quick_s and self.runs > _TO_WARM_UP and ended >= self.not_before:
            self.quick_bytes = max(self.quick_bytes, size)

    def forget(self) -> None:
        """Forgets what is known to be quick, since something has changed."""
        self.quick_bytes, self.runs = -1, 0


class Step(Protocol):
    """An operation of a graph: the part of tf.Operation that is used here."""

    name: str
    type: str
    inputs: Any
    control_inputs: Any
    node_def: Any


class Steps:
    """Finds the graphs whose run time is bounded by the size of their inputs, and those that keep nothing.

    Not bounded: loops that are not known to end soon (see serving.loops), queues, calls out of the graph, operations
    whose result is as large as one of their input values says (Fill, Range, Tile), and operations that decode (images,
    examples, strings). An operation that is not listed below counts as unbounded.

    Stateless: every operation is bounded, or has no state by TensorFlow's own list. Loops and decoders are among them.
    Such a graph may be run once more on a part of a request; it does what the request itself will do.
    """

    def __init__(self, functions: Iterable[Any], is_stateless: Callable[[str], bool] = lambda operation: False) -> None:
        """`functions`: the FunctionDefs that the graph can call; `is_stateless`: TensorFlow's list of operations."""
        self._is_stateless = is_stateless
        self._functions = {each.signature.name: each for each in functions}
        self._looping = _spread(self._functions, lambda node, given: node.op not in LOOPS)
        self._unbounded = _spread(self._functions, self._ends)
        self._stateful = _spread(self._functions, lambda node, given: self._keeps_nothing(node.op))

    def _ends(self, node: Any, given: Callable[[int], Any]) -> bool:
        return node.op in _BOUNDED or node.op in _BRANCHES - LOOPS or (
            # Not a loop of loops, whose turns multiply.
            node.op in LOOPS and self._looping.isdisjoint(_functions(node.attr))
            and ends_soon(node, self._functions, given))

    def _keeps_nothing(self, operation: str) -> bool:
        # A TensorArray lives as long as one run.
        return operation in _BOUNDED or operation in _BRANCHES or (
            operation.startswith("TensorArray") or self._is_stateless(operation))

    def bounded(self, fetched: Iterable[Step], fed: Collection[str]) -> bool:
        """Whether every operation between the fed tensors ("x:0") and the fetched operations is bounded."""
        return _all_between(fetched, fed, lambda step: self._ends(step.node_def, _inputs_of(step)), self._unbounded)

    def stateless(self, fetched: Iterable[Step], fed: Collection[str]) -> bool:
        """Whether every operation between the fed tensors ("x:0") and the fetched operations keeps nothing."""
        return _all_between(fetched, fed, lambda step: self._keeps_nothing(step.type), self._stateful)


def _inputs_of(step: Step) -> Callable[[int], Any]:
    return lambda number: step.inputs[number].op.node_def if number < len(step.inputs) else None


def _spread(functions: Mapping[str, Any], allowed: Callable[[Any, Callable[[int], Any]], bool]) -> set[str]:
    """The functions that hold a node that is not allowed, also in a function that they call.

    allowed(NodeDef, given): given(i) is the NodeDef of the node's i-th input, None for an argument of the function.
    """
    found = set()
    for name, each in functions.items():
        nodes = {node.name: node for node in each.node_def}
        if not all(allowed(node, partial(_input_of, node, nodes)) for node in each.node_def):
            found.add(name)
    called = {name: {inner for node in each.node_def for inner in _functions(node.attr)}
              for name, each in functions.items()}
    while more := {name for name, inner in called.items() if inner & found} - found:
        found |= more
    return found


def _input_of(node: Any, nodes: Mapping[str, Any], number: int) -> Any:
    return nodes.get(node.input[number].partition(":")[0]) if number < len(node.input) else None


def _functions(attributes: Mapping[str, Any]) -> Iterator[str]:
    """The functions that a node names: what it calls, the body and condition of a loop, branches."""
    for value in attributes.values():
        if value.WhichOneof("value") == "func":
            yield value.func.name
        for function in value.list.func:
            yield function.name


def _all_between(fetched: Iterable[Step], fed: Collection[str], allowed: Callable[[Step], bool],
                 refused: Set[str]) -> bool:
    seen: set[str] = set()
    pending = list(fetched)
    while pending:
        step = pending.pop()
        if step.name in seen:
            continue
        seen.add(step.name)
        if not allowed(step) or (refused and not refused.isdisjoint(_functions(step.node_def.attr))):
            return False
        pending += [tensor.op for tensor in step.inputs if tensor.name not in fed]
        pending += step.control_inputs
    return True


_CALLS = frozenset(("PartitionedCall", "StatefulPartitionedCall"))
# They have as much state as the functions that they call, which are examined too.
_BRANCHES = frozenset(("If", "StatelessIf", "Case", "StatelessCase")) | LOOPS
_NAMES = """
    Placeholder PlaceholderWithDefault Const Identity IdentityN NoOp Snapshot StopGradient PreventGradient
    VarHandleOp ReadVariableOp VariableV2 HashTableV2 LookupTableFindV2 LookupTableSizeV2 EnsureShape Assert
    Add AddV2 AddN Sub Mul MulNoNan Div DivNoNan RealDiv FloorDiv TruncateDiv Mod FloorMod TruncateMod Pow Maximum
    Minimum SquaredDifference BiasAdd Abs Neg Sign Reciprocal Inv Square Sqrt Rsqrt Exp Expm1 Log Log1p Erf Erfc
    Floor Ceil Round Rint Sin Cos Tan Asin Acos Atan Atan2 Sinh Cosh Tanh Sigmoid Softplus Softsign Relu Relu6
    LeakyRelu Elu Selu Softmax LogSoftmax ClipByValue Xdivy Xlogy Lgamma Digamma
    Equal NotEqual Less LessEqual Greater GreaterEqual LogicalAnd LogicalOr LogicalNot Select SelectV2 IsNan IsInf
    IsFinite ApproximateEqual BitwiseAnd BitwiseOr BitwiseXor LeftShift RightShift Invert Cast Bitcast
    Sum Mean Prod Max Min All Any ArgMax ArgMin Cumsum Cumprod TopKV2 InTopKV2 L2Loss
    MatMul BatchMatMul BatchMatMulV2 BatchMatMulV3 Einsum Conv2D DepthwiseConv2dNative Conv3D MaxPool MaxPoolV2 AvgPool
    MaxPool3D AvgPool3D LRN FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 _FusedMatMul _FusedConv2D
    Reshape Squeeze ExpandDims Transpose Concat ConcatV2 Pack Unpack Split SplitV Slice StridedSlice Gather GatherV2
    GatherNd ResourceGather ReverseV2 Shape ShapeN Size Rank ZerosLike OnesLike Where BroadcastGradientArgs
    """
_BOUNDED = _CALLS | frozenset(_NAMES.split())
