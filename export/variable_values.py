"""The values of a loaded model's variables."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from export import saved_model, variables
from export.graph import Graph
from export.saved_model import SavedModel
from export.tensors import Array

_BATCH_BYTES = 16 << 20


def values(model: SavedModel, graph: Graph) -> dict[str, Array]:
    """The values of the graph's variables after loading the model, by identity."""
    with saved_model.session(model) as running:
        return dict(read(running, graph))


def read(running: Any, graph: Graph) -> Iterator[tuple[str, Array]]:
    """Every initialised variable's value, read in small batches so that few are in memory twice."""
    from export.runtime import tf
    v1 = tf.compat.v1
    reads: dict[str, tuple[Any, int]] = {}
    with running.graph.as_default():
        ready, found = [], {}
        for item in graph.nodes.values():
            name = variables.identity(item)
            if variables.is_variable(item) and name not in found:
                handle = running.graph.get_tensor_by_name(f"{item.name}:0")
                found[name] = handle, item
                ready.append(tf.raw_ops.VarIsInitializedOp(resource=handle) if item.op in variables.HANDLES
                             else v1.is_variable_initialized(handle))
        is_ready = dict(zip(found, running.run(ready), strict=True)) if ready else {}
        for name, (handle, item) in found.items():
            if is_ready[name]:
                read = tf.raw_ops.ReadVariableOp(resource=handle, dtype=int(item.get("dtype"))) if (
                    item.op in variables.HANDLES) else handle
                reads[name] = read, (read.shape.num_elements() or 0) * read.dtype.base_dtype.size
    batch: dict[str, Any] = {}
    size = 0
    for name, (read, length) in reads.items():
        batch[name] = read
        size += length
        if size > _BATCH_BYTES:
            yield from _arrays(running.run(batch))
            batch, size = {}, 0
    yield from _arrays(running.run(batch))


def _arrays(values: Mapping[str, Any]) -> Iterator[tuple[str, Array]]:
    """A Session gives a scalar string as bytes."""
    for name, value in values.items():
        yield name, np.asarray(value, object) if isinstance(value, bytes) else np.asarray(value)
