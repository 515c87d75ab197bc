"""Variables that stay variables: their checkpoint, the nodes that restore it, and the SaverDef that names the nodes."""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from export.graph import Graph, Node, make_const, make_node, tensor_name
from export.tensors import STRING, Array, DType
from export.variables import HANDLES, identity, is_variable

SCOPE = "save"
_NO_SLICES = ""
# Smaller constants stay constants.
_SMALL = 1024
# How many bytes are copied at a time when the checkpoint is written.
_SHARD_BYTES = 256 << 20


def with_saver(graph: Graph, values: Mapping[str, Array], meta_graph: Any) -> Graph:
    """The graph with nodes that restore and save `values` (by identity); `meta_graph` gets SaverDef and collection."""
    from tensorflow.core.framework.variable_pb2 import VariableDef
    scope = SCOPE
    while any(name.startswith(f"{scope}/") for name in graph.nodes):
        scope += "_"
    variables = {identity(item): item for item in graph.nodes.values() if is_variable(item)}
    names = [name for name in values if name in variables]
    dtypes = [DType(variables[name].get("dtype")) for name in names]
    filename = make_const(f"{scope}/Const", np.asarray(b"model", object))
    keys = make_const(f"{scope}/tensor_names", _strings(names))
    slices = make_const(f"{scope}/shape_and_slices", _strings([_NO_SLICES] * len(names)))
    restore = make_node(f"{scope}/RestoreV2", "RestoreV2", (filename.name, keys.name, slices.name), dtypes=dtypes)
    added = [filename, keys, slices, restore]
    assigns, reads = [], []
    for index, (name, dtype) in enumerate(zip(names, dtypes, strict=True)):
        item = variables[name]
        assigns.append(_assign(f"{scope}/Assign_{index}", item, tensor_name(restore.name, index), dtype))
        reads.append(_read(f"{scope}/Read_{index}", item, dtype))
        meta_graph.collection_def["variables"].bytes_list.value.append(VariableDef(
            variable_name=f"{item.name}:0", initializer_name=assigns[-1].name,
            initial_value_name=f"{restore.name}:{index}", snapshot_name=f"{reads[-1].name}:0",
            is_resource=item.op in HANDLES).SerializeToString())
    done = make_node(f"{scope}/restore_all", "NoOp", (f"^{item.name}" for item in assigns))
    save = make_node(f"{scope}/SaveV2", "SaveV2",
                (filename.name, keys.name, slices.name, *(item.name for item in reads)), dtypes=dtypes)
    saved = make_node(f"{scope}/control_dependency", "Identity", (filename.name, f"^{save.name}"), T=STRING)
    meta_graph.saver_def.filename_tensor_name = f"{filename.name}:0"
    meta_graph.saver_def.save_tensor_name = f"{saved.name}:0"
    meta_graph.saver_def.restore_op_name = done.name
    meta_graph.saver_def.max_to_keep = 5
    meta_graph.saver_def.version = meta_graph.saver_def.V2
    nodes = [*graph.nodes.values(), *added, *assigns, *reads, done, save, saved]
    return graph.with_nodes(nodes)


def outside(graph: Graph, limit: int) -> tuple[Graph, dict[str, Array]]:
    """If the constants take more than `limit` bytes: the graph with its weights as variables, and their values.

    All weights become variables, since TensorFlow copies a graph's constants several times while it optimizes the
    graph. A constant in a v1 loop or in a function's body stays one: a variable would be read there again and again.
    """
    sizes = {item.name: item.attrs["value"].tensor for item in graph.nodes.values() if item.op == "Const"}
    if sum(map(_bytes, sizes.values())) <= limit:
        return graph, {}
    nodes, values = dict(graph.nodes), {}
    for name, proto in sizes.items():
        item = graph.nodes[name]
        if _bytes(proto) < _SMALL or item.inputs or name in graph.kept or item.get("dtype") == STRING:
            continue
        dtype = DType(item.get("dtype"))
        handle = make_node(f"{name}/variable", "VarHandleOp", dtype=dtype, shape=item.shape,
                           shared_name=f"{name}/variable")
        nodes[handle.name] = handle
        nodes[name] = make_node(name, "ReadVariableOp", (handle.name,), item.device, dtype=dtype)
        values[handle.name] = item.value
    return graph.with_nodes(nodes.values()), values


def save(prefix: Path, values: Mapping[str, Array]) -> None:
    """Writes a checkpoint of `values`, named by their identities, one shard at a time."""
    from export.runtime import tf, writing
    prefix.parent.mkdir(parents=True, exist_ok=True)
    shards: list[list[str]] = [[]]
    size = 0
    for name, value in values.items():
        if size and size + value.nbytes > _SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += value.nbytes
    parts = [str(prefix)] if len(shards) == 1 else [f"{prefix}_part/{index}" for index in range(len(shards))]
    with tf.device("CPU"), writing(prefix):
        for part, names in zip(parts, shards, strict=True):
            tf.raw_ops.SaveV2(prefix=part, tensor_names=names, shape_and_slices=[_NO_SLICES] * len(names),
                              tensors=[tf.convert_to_tensor(values[name]) for name in names])
        if len(parts) > 1:
            tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(prefix))


def _bytes(proto: Any) -> int:
    return len(proto.tensor_content) or int(proto.ByteSize())


def _assign(name: str, variable: Node, value: str, dtype: DType) -> Node:
    if variable.op in HANDLES:
        return make_node(name, "AssignVariableOp", (variable.name, value), dtype=dtype)
    return make_node(name, "Assign", (variable.name, value), T=dtype, validate_shape=False)


def _read(name: str, variable: Node, dtype: DType) -> Node:
    if variable.op in HANDLES:
        return make_node(name, "ReadVariableOp", (variable.name,), dtype=dtype)
    return make_node(name, "Identity", (variable.name,), T=dtype)


def _strings(values: list[str]) -> Array:
    return np.asarray([value.encode() for value in values], object)
