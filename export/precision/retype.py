"""Nodes whose float32 tensors become bfloat16: which of their inputs and outputs that concerns, and the new node."""
from __future__ import annotations

from export.graph import Node
from export.ops import arg_dtypes, attribute, op_def
from export.precision.kernels import has_cpu_kernel
from export.tensors import BFLOAT16, FLOAT, DType

# The attributes with the type of the data, where it is not T.
_TYPES = {"BatchMatMulV3": ("Ta", "Tb", "Tout"), "GatherV2": ("Tparams",), "Gather": ("Tparams",),
          "GatherNd": ("Tparams",)}


def type_attrs(item: Node) -> tuple[str, ...]:
    return _TYPES.get(item.op, ("T",))


def is_float(item: Node) -> bool:
    """Whether its data is float32."""
    return all(attribute(item, attr) == FLOAT for attr in type_attrs(item))


def lowered(item: Node) -> Node:
    """The same operation on bfloat16."""
    return item.with_attrs(without=("_output_shapes",), **dict.fromkeys(type_attrs(item), BFLOAT16))


def runs_lowered(item: Node) -> bool:
    """Whether TensorFlow has a CPU kernel for it in bfloat16, with its other types as they are."""
    types = {attr.name: attribute(item, attr.name) for attr in op_def(item.op).attr if attr.type == "type"}
    return has_cpu_kernel(item.op, {**types, **dict.fromkeys(type_attrs(item), BFLOAT16)})


def data_inputs(item: Node) -> tuple[int, ...]:
    """The indices of the inputs whose type changes."""
    return _changing(item, "input_arg")


def data_outputs(item: Node) -> tuple[int, ...]:
    """The numbers of the outputs whose type changes."""
    return _changing(item, "output_arg")


def _changing(item: Node, side: str) -> tuple[int, ...]:
    found: list[int] = []
    at = 0
    for arg in getattr(op_def(item.op), side):
        dtypes: list[DType] = arg_dtypes(item, arg)
        if arg.type_attr in type_attrs(item):
            found.extend(range(at, at + len(dtypes)))
        at += len(dtypes)
    return tuple(found)
