"""Models built like TensorFlow Serving's own test models, without using their files."""
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

tf1 = tf.compat.v1


def _save(path: Path, inputs: dict[str, Any], outputs: dict[str, Any], init: Any = None,
          more: dict[str, Any] | None = None) -> Path:
    def signature(inputs: dict[str, Any], outputs: dict[str, Any]) -> Any:
        infos = ({key: tf1.saved_model.build_tensor_info(tensor) for key, tensor in side.items()}
                 for side in (inputs, outputs))
        return tf1.saved_model.build_signature_def(*infos, "tensorflow/serving/predict")
    with tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        builder = tf1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session, ["serve"], {"serving_default": signature(inputs, outputs), **{
                key: signature(*sides) for key, sides in (more or {}).items()}}, main_op=init)
        builder.save()
    return path


def parsed_and_fed(path: Path) -> Path:
    """Like half_plus_three: serving_default feeds a parsed feature, all shapes are empty, producer version 21."""
    with tf1.Graph().as_default():
        examples = tf1.placeholder(tf.string, name="tf_example")
        parsed = tf.raw_ops.ParseExample(serialized=examples, names=[], sparse_keys=[], dense_keys=["x"],
                                         dense_defaults=[tf.constant([0.0])], sparse_types=[], dense_shapes=[[1]])
        x = tf.identity(parsed.dense_values[0], "x")
        y = tf.add(tf1.get_variable("a", initializer=0.5) * x, tf1.get_variable("b", initializer=3.0), "y")
        _save(path, {"x": x}, {"y": y}, more={"regress": ({"inputs": examples}, {"outputs": y})})
    file = path / "saved_model.pb"
    model = SavedModel.FromString(file.read_bytes())
    [meta_graph] = model.meta_graphs
    meta_graph.graph_def.versions.producer = 21
    for node in meta_graph.graph_def.node:
        node.attr.pop("_output_shapes", None)
        if node.op == "Placeholder":
            node.attr["shape"].shape.Clear()
    for definition in meta_graph.signature_def.values():
        for info in (*definition.inputs.values(), *definition.outputs.values()):
            info.tensor_shape.Clear()
    file.write_bytes(model.SerializeToString())
    return path


def set_at_load(path: Path) -> Path:
    """Like half_plus_two_gpu: the main op runs the variables' initialisers when the model is loaded."""
    with tf1.Graph().as_default():
        x = tf1.placeholder(tf.float32, [None, 1], "x")
        a, b = (tf1.get_variable(name, initializer=value, use_resource=name == "b")
                for name, value in (("a", 0.5), ("b", 2.0)))
        return _save(path, {"x": x}, {"y": tf.add(a * x, b)},
                     init=tf.group(a.initializer, b.initializer))


def counter(path: Path, step: float = 1.0) -> Path:
    """Like the model `counter`: each request changes a variable."""
    with tf1.Graph().as_default():
        x = tf1.placeholder(tf.float32, [None], "x")
        count = tf1.get_variable("requests", initializer=0.0, use_resource=False)
        return _save(path, {"x": x}, {"y": x + tf1.assign_add(count, step)})


def counters(path: Path, resource: bool = False, step: float = 1.0) -> Path:
    """saved_model_counter's form: signatures that read a variable, add to it and set it; only one has an input.

    `resource`: with TensorFlow 2's variables, of which the outputs that assign name an operation without a tensor.
    """
    with tf1.Graph().as_default():
        counter = tf1.get_variable("counter", initializer=0.0, use_resource=resource)
        delta = tf1.placeholder(tf.float32, name="delta")
        read = tf.identity(counter, "read")
        return _save(path, {}, {"output": read}, more={
            "incr_counter": ({}, {"output": tf1.assign_add(counter, step)}),
            "incr_counter_by": ({"delta": delta}, {"output": tf1.assign_add(counter, delta * step)}),
            "reset_counter": ({}, {"output": tf1.assign(counter, 0.0)})})


def one_batch_size(path: Path) -> Path:
    """Like half_plus_two_mkl: the output is broadcast with a fixed image, which works only for a batch of 1."""
    with tf1.Graph().as_default():
        examples = tf1.placeholder(tf.string, name="tf_example")
        x = tf1.io.parse_example(examples, {"x": tf1.FixedLenFeature([1], tf.float32)})["x"]
        image = tf.zeros([1, 10, 10, 1]) + 1.0
        return _save(path, {"inputs": examples}, {"y": image + x * tf.ones([10])})


def constant_by_graph(path: Path) -> Path:
    """The output depends on the number of examples, but not on their values."""
    with tf1.Graph().as_default():
        x = tf1.placeholder(tf.float32, [None, 3], "x")
        anchors = tf1.get_variable("anchors", initializer=np.arange(6, dtype=np.float32).reshape(2, 3))
        return _save(path, {"x": x}, {"y": tf.ones_like(x)[:, :1] * tf.reduce_sum(anchors)})


def initial_weights(path: Path) -> Path:
    """The output does not depend on the input, because all weights are zero."""
    with tf1.Graph().as_default():
        x = tf1.placeholder(tf.float32, [None, 3], "x")
        return _save(path, {"x": x}, {"y": tf.matmul(x, tf1.get_variable("w", initializer=tf.zeros([3, 2])))})


FORMS: dict[str, Callable[[Path], Path]] = {
    function.__name__: function for function in (
        parsed_and_fed, set_at_load, counter, one_batch_size, constant_by_graph, initial_weights)}
