"""A node's tensor types and effects, from TensorFlow's op registry and the graph's function library."""
from __future__ import annotations

from functools import cache
from typing import Any

from export import effects
from export.node import GraphError, Node, make_attr, plain
from export.tensors import RESOURCE, VARIANT, DType

CONTROL_FLOW = frozenset(
    f"{prefix}{op}" for prefix in ("", "Ref") for op in ("Switch", "Merge", "Enter", "Exit", "NextIteration")
) | {"LoopCond", "ControlTrigger", "_SwitchN", "SwitchN", "_ParallelConcatStart"}
# Their value comes from outside the graph, whether or not they are listed as inputs.
PLACEHOLDERS = frozenset({"Placeholder", "PlaceholderV2", "PlaceholderWithDefault", "_Arg", "_Recv", "_HostRecv"})
# They read only the shape of a tensor.
SHAPE_OPS = frozenset({"Shape", "Size", "Rank"})
# They pass a tensor on unchanged.
IDENTITIES = frozenset({"Identity", "Snapshot", "StopGradient", "PreventGradient"})
# Stateless in the registry, but their outputs do not depend only on their inputs, or their effect matters.
_EFFECTS = frozenset({"Assert", "Print", "PrintV2", "CheckNumerics", "CheckNumericsV2", "NoOp"})


@cache
def op_def(op: str) -> Any:
    """The OpDef of a registered op; None for an op that this TensorFlow does not know."""
    from export.runtime import tf
    assert tf  # imported first, since that registers the ops
    from tensorflow.python.framework import op_def_registry
    return op_def_registry.get(op)


@cache
def defaults(op: str) -> dict[str, Any]:
    """The default values in an op's definition: attribute -> AttrValue."""
    definition = op_def(op)
    return {item.name: item.default_value for item in definition.attr if item.HasField("default_value")}


def is_stateful(node: Node) -> bool:
    """Whether the op may do more than compute; unknown ops and functions count as stateful."""
    definition = op_def(node.op)
    if definition is None or definition.is_stateful:
        return True
    return any(value.WhichOneof("value") == "func" for value in node.attrs.values()) and node.op != "PartitionedCall"


def is_pure(node: Node) -> bool:
    """Whether its outputs depend only on its inputs, and computing it once, twice or never makes no difference."""
    if node.op in CONTROL_FLOW or node.op in PLACEHOLDERS or node.op in _EFFECTS or node.op in effects.NAMES or (
            is_stateful(node)):
        return False
    return not any(dtype in (RESOURCE, VARIANT) for dtype in output_dtypes(node) or ())


def output_dtypes(node: Node, library: Any = None) -> list[DType] | None:
    """The types of a node's outputs in order; None for an op that neither registry nor library knows, and for a node
    without an attribute that its op needs."""
    return _dtypes(node, library, "output_arg")


def input_dtypes(node: Node, library: Any = None) -> list[DType] | None:
    return _dtypes(node, library, "input_arg")


def _dtypes(node: Node, library: Any, side: str) -> list[DType] | None:
    definition = op_def(node.op) or _signature(node.op, library)
    if definition is None:
        return None
    found: list[DType] = []
    try:
        for arg in getattr(definition, side):
            found.extend(arg_dtypes(node, arg))
    except GraphError:
        return None
    return found


def arg_dtypes(node: Node, arg: Any) -> list[DType]:
    """The types of the tensors of one argument in an op's definition (a list argument has several)."""
    if arg.type_list_attr:
        return list(_needed(node, arg.type_list_attr))
    dtype = DType(arg.type) if arg.type else _needed(node, arg.type_attr)
    return [dtype] * (_needed(node, arg.number_attr) if arg.number_attr else 1)


def attribute(node: Node, name: str) -> Any:
    """An attribute's plain value, or else its default in the op's definition, or else None."""
    value = node.attrs.get(name)
    if value is None and op_def(node.op) is not None:
        value = defaults(node.op).get(name)
    return None if value is None else plain(value)


def _needed(node: Node, name: str) -> Any:
    value = attribute(node, name)
    if value is None:
        raise GraphError(f"node '{node.name}' ({node.op}) has no attribute '{name}', which its op needs")
    return value


def _signature(op: str, library: Any) -> Any:
    if library is None:
        return None
    return next((item.signature for item in library.function if item.signature.name == op), None)


def with_defaults(node: Node) -> dict[str, Any]:
    """The node's attributes, with missing ones filled in from the defaults in its op's definition."""
    return {**defaults(node.op), **{key: make_attr(value) for key, value in node.attrs.items()}}
