"""Lookup tables that are filled from the checkpoint: their contents become constants that the initialiser inserts.

A static table's initialiser is part of the graph and is kept unchanged. A mutable table (Keras' StringLookup after
adapt(), tf.lookup.experimental.*) is restored from the checkpoint, which a frozen model does not have.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from export.graph import Graph, make_const, make_node, port, producer
from export.tensors import Array, DType

MUTABLE = frozenset({
    "MutableHashTable", "MutableHashTableV2", "MutableHashTableOfTensors", "MutableHashTableOfTensorsV2",
    "MutableDenseHashTable", "MutableDenseHashTableV2"})


@dataclass(frozen=True)
class Contents:
    keys: Array
    values: Array


def read(running: Any, graph: Graph) -> dict[str, Contents]:
    """The contents of the graph's mutable tables by node name, read in a Session that has loaded the model."""
    from export.runtime import tf
    found = {}
    with running.graph.as_default():
        for item in graph.nodes.values():
            if item.op not in MUTABLE:
                continue
            handle = running.graph.get_tensor_by_name(f"{item.name}:0")
            export = tf.raw_ops.LookupTableExportV2 if item.op.endswith("V2") else tf.raw_ops.LookupTableExport
            keys, values = running.run(tuple(export(
                table_handle=handle, Tkeys=int(item.get("key_dtype")), Tvalues=int(item.get("value_dtype")))))
            if "Dense" in item.op:
                values = values.reshape(-1, *(item.get("value_shape") or ()))
                keys, values = _filled(keys, values, [running.run(f"{producer(ref)}:{port(ref)}") for ref in item.data])
            if len(keys):
                found[item.name] = Contents(keys, values)
    return found


def _filled(keys: Array, values: Array, markers: list[Array]) -> tuple[Array, Array]:
    """The filled buckets of a dense table, which exports all: without those that hold the empty or the deleted key."""
    keys = keys.reshape(-1, *np.shape(markers[0]))
    inner = tuple(range(1, keys.ndim))
    used = np.all([np.any(np.asarray(keys != marker), axis=inner) for marker in markers], axis=0)
    return keys[used], values[used]


def with_contents(graph: Graph, init_op: str | None, filled: Mapping[str, Contents],
                  name: str) -> tuple[Graph, str | None]:
    """The graph whose initialiser also fills the tables; `name` is the name of a new initialiser, if one is needed."""
    if not filled:
        return graph, init_op
    root = graph.nodes[init_op] if init_op else make_node(name, "NoOp")
    # After the insertions of the model's own initialiser, since the checkpoint's contents replace those.
    before = root.controls if root.op == "NoOp" else (f"^{root.name}",)
    added, inserts = [], []
    for table, contents in filled.items():
        item = graph.nodes[table]
        op = "LookupTableInsertV2" if item.op.endswith("V2") else "LookupTableInsert"
        key, value = DType(item.get("key_dtype")), DType(item.get("value_dtype"))
        keys = make_const(f"{table}/restored_keys", contents.keys, dtype=key)
        values = make_const(f"{table}/restored_values", contents.values, dtype=value)
        insert = make_node(f"{table}/restore", op, (table, keys.name, values.name, *before), Tin=key, Tout=value)
        added += [keys, values, insert]
        inserts.append(f"^{insert.name}")
    if root.op == "NoOp":
        root = replace(root, inputs=(*root.controls, *inserts))
    else:
        root = make_node(name, "NoOp", (f"^{root.name}", *inserts))
    nodes = {**graph.nodes, **{item.name: item for item in added}, root.name: root}
    return replace(graph, nodes=nodes), root.name
