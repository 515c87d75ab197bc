"""Which types TensorFlow's CPU kernels take, from the registry of the TensorFlow that is installed."""
from __future__ import annotations

from collections.abc import Mapping
from functools import cache


def has_cpu_kernel(op: str, types: Mapping[str, int]) -> bool:
    """Whether a stock session on a CPU has a kernel of `op` for these types (attribute -> DataType number).

    Kernels with a label are left out: a node runs one only if its attribute `_kernel` names the label.
    """
    return any(all(types[attr] in allowed for attr, allowed in kernel.items() if attr in types)
               for kernel in _cpu_kernels(op))


@cache
def _cpu_kernels(op: str) -> tuple[dict[str, frozenset[int]], ...]:
    """For each kernel the types that its constrained attributes allow."""
    from export.runtime import tf
    assert tf  # imported first, since that registers the kernels
    from tensorflow.python.framework import kernels
    return tuple(
        {one.name: frozenset(one.allowed_values.list.type) for one in kernel.constraint if one.allowed_values.list.type}
        for kernel in kernels.get_registered_kernels_for_op(op).kernel
        if kernel.device_type == "CPU" and not kernel.label)
