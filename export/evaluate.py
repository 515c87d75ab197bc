"""Computes one node's outputs with TensorFlow's kernels, on the CPU, outside any graph or session."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from export.graph import Node
from export.ops import op_def, output_dtypes, with_defaults


def evaluate(node: Node, inputs: Sequence[Any]) -> list[Any]:
    """The node's outputs as eager tensors; inputs are eager tensors or numpy arrays. Raises TensorFlow's errors."""
    from tensorflow.python.eager import context, execute

    from export.runtime import tf
    wanted = {item.name: item.type for item in op_def(node.op).attr}
    attrs: list[Any] = []
    for key, value in with_defaults(node).items():
        if key in wanted:
            attrs += [key, _eager(value, wanted[key])]
    with context.eager_mode(), tf.device("/CPU:0"):
        tensors = [value if tf.is_tensor(value) else tf.constant(value) for value in inputs]
        outputs = output_dtypes(node)
        assert outputs is not None
        name = node.op.encode()
        return list(execute.execute(name, len(outputs), tensors, tuple(attrs), context.context(), node.name))


def as_tensor(constant: Node) -> Any:
    """A Const's value as an eager tensor."""
    from tensorflow.python.eager import context

    from export.runtime import tf
    with context.eager_mode(), tf.device("/CPU:0"):
        return tf.constant(constant.value)


def _eager(value: Any, kind: str) -> Any:
    """An AttrValue in the form that the eager runtime accepts."""
    if kind == "tensor":
        return value.tensor
    if kind == "shape":
        return None if value.shape.unknown_rank else [dim.size for dim in value.shape.dim]
    if kind.startswith("list("):
        items = getattr(value.list, {"string": "s", "int": "i", "float": "f", "bool": "b", "type": "type",
                                     "shape": "shape", "tensor": "tensor"}[kind[5:-1]])
        if kind == "list(shape)":
            return [None if item.unknown_rank else [dim.size for dim in item.dim] for item in items]
        return list(items)
    return getattr(value, {"string": "s", "int": "i", "float": "f", "bool": "b", "type": "type"}[kind])
