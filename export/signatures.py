"""Makes a signature from tensors of a graph, by the keys that clients will use."""
from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import click

from export import saved_model
from export.graph import Graph, nearest, normal, port, producer
from export.graph_file import as_graph_def, whole
from export.ops import output_dtypes
from user_error import UserError

PREDICT = "tensorflow/serving/predict"
DEFAULT = "serving_default"


def signature(graph: Graph, inputs: Mapping[str, str], outputs: Mapping[str, str], method: str = PREDICT) -> Any:
    """A SignatureDef of tensors in the graph. Raises UserError for a tensor that the graph does not have."""
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
    made = SignatureDef(method_name=method)
    for side, named in ((made.inputs, inputs), (made.outputs, outputs)):
        for key, ref in named.items():
            name = producer(normal(ref))
            if name not in graph.nodes:
                raise UserError(f"the graph has no node '{name}'{nearest(name, graph.nodes)}; "
                                "--inputs and --outputs take KEY=TENSOR,...")
            item = graph.nodes[name]
            dtypes = output_dtypes(item, graph.library)
            if dtypes is None or port(normal(ref)) >= len(dtypes):
                raise UserError(f"node '{name}' ({item.op}) has no output {port(normal(ref))}")
            side[key].name = f"{name}:{port(normal(ref))}"
            side[key].dtype = dtypes[port(normal(ref))]
    _infer_shapes(graph, made)
    return made


def main_signature(keys: Collection[str]) -> str:
    """The one that counts most: what clients get who name none, or else the first."""
    return DEFAULT if DEFAULT in keys else next(iter(keys))


def _infer_shapes(graph: Graph, made: Any) -> None:
    from export.runtime import tf
    with tf.Graph().as_default() as imported:
        try:
            tf.import_graph_def(as_graph_def(whole(graph)), name="")
        except ValueError as error:
            raise UserError(f"TensorFlow cannot import the graph: {saved_model.reason(error)}") from error
        for info in (*made.inputs.values(), *made.outputs.values()):
            info.tensor_shape.CopyFrom(imported.get_tensor_by_name(info.name).shape.as_proto())


def pairs(option: str, text: str | None) -> dict[str, str]:
    """key=tensor,... as a mapping; the key of a tensor without one is its node's name."""
    found: dict[str, str] = {}
    for part in filter(None, (one.strip() for one in (text or "").split(","))):
        key, equals, ref = part.partition("=")
        found[key if equals else producer(normal(key))] = ref if equals else key
    if not found:
        raise click.UsageError(f"{option} names no tensor: give {option} key=node:0,...")
    return found
