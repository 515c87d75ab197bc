"""Small models as model.tflite, converted by TensorFlow's own converter, with the session that they are equal to."""
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from graph_session import build, seeded, session_run

from export.engines.tflite_file import with_signatures
from export.runtime import tf
from serving.protos import meta_graph_pb2
from serving.servable import PREDICT_METHOD

Signatures = Mapping[str, tuple[Mapping[str, str], Mapping[str, str]]]
ONE: Signatures = {"serving_default": ({"image": "x"}, {"scores": "y"})}


def layers() -> None:
    x = tf.compat.v1.placeholder(tf.float32, (None, 6, 6, 3), "x")
    made = tf.nn.relu(tf.nn.conv2d(x, seeded((3, 3, 3, 4)), 1, "SAME"))
    tf.nn.softmax(tf.matmul(tf.reshape(made, [-1, 144]), tf.constant(seeded((144, 5)))), name="y")


def converted(nodes: Callable[[], None], inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(build(nodes), name="")
        ends = [[graph.get_tensor_by_name(f"{name}:0") for name in names] for names in (inputs, outputs)]
        converter = tf.compat.v1.lite.TFLiteConverter(graph.as_graph_def(), *ends)
        return bytes(converter.convert())


def quantized(nodes: Callable[[], None] = layers, shape: tuple[int, ...] = (6, 6, 3)) -> bytes:
    """The model in int8, of the input x and the output y; the ranges are those of eight examples of the shape."""
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(build(nodes), name="")
        ends = [[graph.get_tensor_by_name(f"{name}:0")] for name in "xy"]
        converter = tf.compat.v1.lite.TFLiteConverter(graph.as_graph_def(), *ends)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([seeded((1, *shape), seed)] for seed in range(8))
    return bytes(converter.convert())


def rewritten(content: bytes, change: Callable[[Any], None]) -> bytes:
    """The file with a change to what it says (a ModelT of its schema), in a valid form."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    change(model)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def write(path: Path, nodes: Callable[[], None] = layers, signatures: Signatures = ONE) -> Path:
    """path/model.tflite; `signatures`: keys of inputs and outputs with the names of their nodes. Returns `path`."""
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(build(nodes), name="")
    names = [list(dict.fromkeys(name for sides in signatures.values() for name in sides[side].values()))
             for side in (0, 1)]
    messages = {}
    for key, (inputs, outputs) in signatures.items():
        message = messages[key] = meta_graph_pb2.SignatureDef(method_name=PREDICT_METHOD)
        for side, given in ((message.inputs, inputs), (message.outputs, outputs)):
            for alias, name in given.items():
                tensor = graph.get_tensor_by_name(f"{name}:0")
                side[alias].name, side[alias].dtype = f"{name}:0", tensor.dtype.as_datatype_enum
                side[alias].tensor_shape.unknown_rank = tensor.shape.rank is None
                for size in [] if tensor.shape.rank is None else tensor.shape.as_list():
                    side[alias].tensor_shape.dim.add(size=-1 if size is None else size)
    content = converted(nodes, *names)
    path.mkdir(parents=True, exist_ok=True)
    (path / "model.tflite").write_bytes(with_signatures(content, messages))
    return path


def answers(x: Any, nodes: Callable[[], None] = layers) -> Any:
    """What TensorFlow answers to `x`."""
    return session_run(build(nodes), ["y"], {"x": np.asarray(x)})["y"]
