"""Common kinds of SavedModel, each small: BUILDERS[kind](directory) writes one.

Weights are random, never at their initial zeros or ones, so that a wrong transformation changes the outputs.
"""
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

v1 = tf.compat.v1
PREDICT, CLASSIFY, REGRESS = (f"tensorflow/serving/{method}" for method in ("predict", "classify", "regress"))
WORDS = ("the", "cat", "sat", "on", "a", "mat", "and", "purred", "all", "day")

Builder = Callable[[Path], None]
BUILDERS: dict[str, Builder] = {}


def builder(make: Builder) -> Builder:
    BUILDERS[make.__name__] = make
    return make


def random(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def signature(inputs: Mapping[str, Any], outputs: Mapping[str, Any], method: str = PREDICT) -> Any:
    info = v1.saved_model.build_tensor_info
    return v1.saved_model.build_signature_def(
        {key: info(tensor) for key, tensor in inputs.items()},
        {key: info(tensor) for key, tensor in outputs.items()}, method)


def save_v1(path: Path, session: Any, signatures: Mapping[str, Any], tags: tuple[str, ...] = ("serve",),
            main_op: Any = None, legacy_init_op: Any = None, assets: Any = None) -> None:
    save = v1.saved_model.Builder(str(path))
    save.add_meta_graph_and_variables(session, list(tags), signatures, assets_collection=assets, main_op=main_op,
                                      legacy_init_op=legacy_init_op)
    save.save()


@contextmanager
def tf1_control_flow() -> Iterator[None]:
    """Within this context, Switch and Merge are built in place of If and While, as in TensorFlow 1."""
    v1.disable_control_flow_v2()
    try:
        yield
    finally:
        v1.enable_control_flow_v2()


@builder
def tf1(path: Path) -> None:
    """Reference variables, dropout controlled by a PlaceholderWithDefault, and a training branch that is not served."""
    with tf1_control_flow(), v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 4], "x")
        keep = v1.placeholder_with_default(1.0, [], "keep_prob")
        training = v1.placeholder_with_default(False, [], "is_training")
        w = v1.get_variable("w", initializer=random(4, 6), use_resource=False)
        b = v1.get_variable("b", initializer=random(6, seed=1), use_resource=False)
        mean = v1.get_variable("mean", initializer=random(6, seed=2), use_resource=False, trainable=False)
        hidden = tf.nn.relu(x @ w + b)

        def update() -> Any:
            with tf.control_dependencies([v1.assign(mean, 0.9 * mean + 0.1 * tf.reduce_mean(hidden, 0))]):
                return tf.identity(tf.reduce_mean(hidden, 0))
        center = v1.cond(training, update, lambda: tf.identity(mean))
        dropped = v1.cond(training, lambda: v1.nn.dropout(hidden, keep), lambda: hidden)
        y = tf.nn.softmax((dropped - center) @ random(6, 3, seed=3), name="y")
        session.run(v1.global_variables_initializer())
        save_v1(path, session, {"serving_default": signature({"x": x}, {"y": y})})


@builder
def tf1_resource(path: Path) -> None:
    """Resource variables, a partitioned variable, a float64 branch and an input that is a queue's output."""
    with v1.Graph().as_default(), v1.Session() as session:
        dataset = v1.data.make_one_shot_iterator(tf.data.Dataset.from_tensors((random(2, 4), [1, 2])))
        x, ids = dataset.get_next()
        x.set_shape([None, 4])
        w = v1.get_variable("w", initializer=random(4, 6), use_resource=True)
        table = v1.get_variable("table", [8, 6], use_resource=True, partitioner=v1.fixed_size_partitioner(2),
                                initializer=v1.random_normal_initializer(seed=3))
        y = tf.cast(x @ w, tf.float64) + tf.cast(v1.nn.embedding_lookup(table, ids), tf.float64)
        session.run(v1.global_variables_initializer())
        save_v1(path, session, {"serving_default": signature({"x": x, "ids": ids}, {"y": y})})


@builder
def keras3(path: Path) -> None:
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 3, activation="relu")(image)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(5, activation="softmax")(x))
    randomize(model)
    model.export(str(path), verbose=False)


def randomize(model: keras.Model, seed: int = 0) -> None:
    generator = np.random.default_rng(seed)
    model.set_weights([generator.uniform(0.1, 1.0, weight.shape).astype(weight.dtype)
                       if weight.dtype.kind == "f" else weight for weight in model.get_weights()])


@builder
def tf_module(path: Path) -> None:
    """Nested functions, a loop and a branch, all of which read the same variable."""
    class Module(tf.Module):
        def __init__(self) -> None:
            self.w = tf.Variable(random(4, 4) / 2)
            self.b = tf.Variable(random(4, seed=1))

        @tf.function
        def layer(self, x: Any) -> Any:
            return tf.tanh(x @ self.w + self.b)

        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x"),
                                      tf.TensorSpec([], tf.int32, name="steps")])
        def serve(self, x: Any, steps: Any) -> Any:
            for _ in tf.range(steps):
                x = self.layer(x) + tf.reduce_sum(self.w)
            y = self.layer(x) if tf.reduce_sum(x) > 0.0 else self.layer(-x) * 2.0
            return {"y": y}
    module = Module()
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})


@builder
def v1_control_flow(path: Path) -> None:
    """v1 while loop and cond over reference and resource variables, with a TensorArray."""
    with tf1_control_flow(), v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 4], "x")
        w = v1.get_variable("w", initializer=random(4, 4) / 2, use_resource=False)
        r = v1.get_variable("r", initializer=random(4, seed=1), use_resource=True)
        array = tf.TensorArray(tf.float32, 5)
        _, last, array = v1.while_loop(
            lambda i, *_: i < 5,
            lambda i, h, a: (i + 1, tf.tanh(h @ w + r), a.write(i, tf.reduce_sum(h, 1))), (0, x, array))
        total = v1.cond(tf.reduce_sum(last) > 0, lambda: last @ w, lambda: last + r)
        session.run(v1.global_variables_initializer())
        save_v1(path, session, {"serving_default": signature(
            {"x": x}, {"total": total, "sums": tf.transpose(array.stack(), name="sums")})})


@builder
def table(path: Path) -> None:
    """A table that the legacy init op fills from a vocabulary file among the assets, and an unused table."""
    with v1.Graph().as_default(), v1.Session() as session:
        vocabulary = path.parent / "vocabulary.txt"
        vocabulary.parent.mkdir(parents=True, exist_ok=True)
        vocabulary.write_text("\n".join(WORDS) + "\n")
        words = v1.placeholder(tf.string, [None], "words")
        lookup = tf.lookup.StaticVocabularyTable(tf.lookup.TextFileInitializer(
            str(vocabulary), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER), num_oov_buckets=2)
        tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["unused"], [1]), 0)
        embedding = v1.get_variable("embedding", initializer=random(len(WORDS) + 2, 3), use_resource=False)
        ids = lookup.lookup(words)
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        save_v1(path, session, {"serving_default": signature(
            {"words": words}, {"ids": ids, "vectors": tf.gather(embedding, ids)})},
            legacy_init_op=v1.tables_initializer(), assets=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS))
        vocabulary.unlink()


@builder
def text_vectorization(path: Path) -> None:
    """Keras' TextVectorization after adapt(): the table's contents are in the checkpoint or in the graph."""
    text = keras.Input((), dtype="string", name="text")
    layer = keras.layers.TextVectorization(max_tokens=12, output_sequence_length=6)
    layer.adapt(tf.constant(["the cat sat on a mat", "and purred all day"]))
    x = keras.layers.Embedding(12, 4)(layer(text))
    model = keras.Model(text, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    model.export(str(path), verbose=False)


@builder
def mutable_table(path: Path) -> None:
    class Module(tf.Module):
        def __init__(self) -> None:
            self.table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
            self.table.insert(tf.constant(WORDS), tf.range(len(WORDS), dtype=tf.int64))
            self.dense = tf.lookup.experimental.DenseHashTable(
                tf.int64, tf.float32, 0.5, empty_key=-7, deleted_key=-8)
            self.dense.insert(tf.constant([3, 5], tf.int64), tf.constant([1.5, 2.5]))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="words")])
        def serve(self, words: Any) -> Any:
            ids = self.table.lookup(words)
            return {"ids": ids, "scores": self.dense.lookup(ids)}
    module = Module()
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})


@builder
def recurrent(path: Path) -> None:
    sequence = keras.Input((7, 3), name="sequence")
    x = keras.layers.LSTM(5, return_sequences=True)(sequence)
    x = keras.layers.Bidirectional(keras.layers.GRU(4))(x)
    model = keras.Model(sequence, keras.layers.Dense(3)(x))
    model.export(str(path), verbose=False)


@builder
def tf_example(path: Path) -> None:
    """classify and regress over serialized tf.Examples, labels as strings."""
    with v1.Graph().as_default(), v1.Session() as session:
        serialized = v1.placeholder(tf.string, [None], "examples")
        parsed = v1.parse_example(serialized, {
            "age": tf.io.FixedLenFeature([1], tf.float32), "size": tf.io.FixedLenFeature([2], tf.float32, [0.5, 0.5]),
            "kind": tf.io.FixedLenFeature([1], tf.int64, [0]), "tags": tf.io.VarLenFeature(tf.string)})
        w = v1.get_variable("w", initializer=random(4, 3), use_resource=True)
        count = tf.cast(tf.sparse.to_dense(tf.sparse.map_values(tf.strings.length, parsed["tags"])), tf.float32)
        x = tf.concat([parsed["age"], parsed["size"], tf.cast(parsed["kind"], tf.float32)], 1)
        scores = tf.nn.softmax(x @ w + tf.reduce_sum(count, 1, keepdims=True) * [0.1, 0.2, 0.3])
        classes = tf.tile(tf.constant([["red", "green", "blue"]]), [tf.shape(x)[0], 1])
        session.run(v1.global_variables_initializer())
        save_v1(path, session, {
            "serving_default": signature({"inputs": serialized}, {"classes": classes, "scores": scores}, CLASSIFY),
            "regress": signature({"inputs": serialized}, {"outputs": tf.reduce_sum(x @ w, 1)}, REGRESS),
            "predict": signature({"x": x}, {"score": tf.nn.sigmoid(x @ w)})})


@builder
def multi_signature(path: Path) -> None:
    """Two functions that share a weight; one has an unused input without a default."""
    class Module(tf.Module):
        def __init__(self) -> None:
            self.w = tf.Variable(random(16, 16))

        @tf.function(input_signature=[tf.TensorSpec([None, 16], tf.float32, name="x")])
        def encode(self, x: Any) -> Any:
            return {"code": x @ self.w}

        @tf.function(input_signature=[tf.TensorSpec([None, 16], tf.float32, name="code"),
                                      tf.TensorSpec([None], tf.int32, name="ignored")])
        def decode(self, code: Any, ignored: Any) -> Any:
            return {"x": code @ tf.transpose(self.w), "norm": tf.norm(code, axis=1)}
    module = Module()
    tf.saved_model.save(module, str(path), signatures={
        "serving_default": module.encode, "encode": module.encode, "decode": module.decode})


@builder
def four_outputs(path: Path) -> None:
    """Four outputs of the same shape, whose keys are not in the order of their tensors."""
    class Module(tf.Module):
        def __init__(self) -> None:
            self.w = tf.Variable(random(3, 3))

        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
        def serve(self, x: Any) -> Any:
            y = x @ self.w
            return {"d": y, "b": y * 2.0, "a": y - 1.0, "c": x}
    module = Module()
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})


@builder
def strings(path: Path) -> None:
    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text"),
                                      tf.TensorSpec([None], tf.bool, name="upper")])
        def serve(self, text: Any, upper: Any) -> Any:
            return {"text": tf.where(upper, tf.strings.upper(text), text), "length": tf.strings.length(text)}
    module = Module()
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})


@builder
def int64(path: Path) -> None:
    class Module(tf.Module):
        def __init__(self) -> None:
            self.table = tf.Variable(tf.constant(np.arange(50, dtype=np.int64) * 7))

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int64, name="ids")])
        def serve(self, ids: Any) -> Any:
            return {"values": tf.gather(self.table, ids), "count": tf.shape(ids, out_type=tf.int64)}
    module = Module()
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})


@builder
def embedding_in_loop(path: Path) -> None:
    """A greedy decoder: each step of the loop looks up the embedding of the previous step's token."""
    class Module(tf.Module):
        def __init__(self) -> None:
            self.embedding = tf.Variable(random(11, 6))
            self.w = tf.Variable(random(6, 6, seed=1))
            self.out = tf.Variable(random(6, 11, seed=2))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="start")])
        def serve(self, start: Any) -> Any:
            state = tf.zeros([tf.shape(start)[0], 6])
            token, tokens = start, tf.TensorArray(tf.int32, 8)
            for step in tf.range(8):
                state = tf.tanh(tf.gather(self.embedding, token) + state @ self.w)
                token = tf.argmax(state @ self.out, 1, tf.int32)
                tokens = tokens.write(step, token)
            return {"tokens": tf.transpose(tokens.stack()), "state": state}
    module = Module()
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})


@builder
def counter(path: Path) -> None:
    """A variable that a request changes, beside a variable that it only reads."""
    class Module(tf.Module):
        def __init__(self) -> None:
            self.calls = tf.Variable(10, dtype=tf.int64, name="calls")
            self.w = tf.Variable(random(3, 2), name="weights")

        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
        def serve(self, x: Any) -> Any:
            self.calls.assign_add(1)
            return {"calls": tf.identity(self.calls), "y": x @ self.w}
    module = Module()
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})


@builder
def tf1_counter(path: Path) -> None:
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 3], "x")
        calls = v1.get_variable("calls", initializer=np.int64(10), use_resource=False, trainable=False)
        w = v1.get_variable("w", initializer=random(3, 2), use_resource=False)
        with tf.control_dependencies([v1.assign_add(calls, np.int64(1))]):
            counted = tf.identity(calls.read_value())
        session.run(v1.global_variables_initializer())
        save_v1(path, session, {"serving_default": signature({"x": x}, {"calls": counted, "y": x @ w})})


@builder
def half_plus_two(path: Path) -> None:
    """TensorFlow Serving's example model: its signatures feed different tensors of one graph."""
    with v1.Graph().as_default(), v1.Session() as session:
        a = v1.get_variable("a", initializer=0.5, use_resource=False)
        b = v1.get_variable("b", initializer=2.0, use_resource=False)
        c = v1.get_variable("c", initializer=3.0, use_resource=False)
        serialized = v1.placeholder(tf.string, None, "tf_example")
        parsed = v1.parse_example(serialized, {"x": tf.io.FixedLenFeature([1], tf.float32),
                                               "x2": tf.io.FixedLenFeature([1], tf.float32, [0.0])})
        x, x2 = tf.identity(parsed["x"], "x"), tf.identity(parsed["x2"], "x2")
        y, y2, y3 = tf.add(a * x, b, "y"), tf.add(a * x, c, "y2"), tf.add(a * x2, c, "y3")
        session.run(v1.global_variables_initializer())
        save_v1(path, session, {
            "serving_default": signature({"x": x}, {"y": y}),
            "regress_x_to_y": signature({"inputs": serialized}, {"outputs": y}, REGRESS),
            "regress_x_to_y2": signature({"inputs": serialized}, {"outputs": y2}, REGRESS),
            "regress_x2_to_y3": signature({"inputs": x2}, {"outputs": y3}, REGRESS),
            "classify_x_to_y": signature({"inputs": serialized}, {"scores": y}, CLASSIFY),
            "classify_x2_to_y3": signature({"inputs": x2}, {"scores": y3}, CLASSIFY)}, main_op=tf.group())


@builder
def defaults(path: Path) -> None:
    """An input that a client may leave out."""
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2], "x")
        scale = v1.placeholder_with_default(3.0, [], "scale")
        w = v1.get_variable("w", initializer=random(2, 2), use_resource=True)
        session.run(v1.global_variables_initializer())
        save_v1(path, session, {"serving_default": signature({"x": x, "scale": scale}, {"y": x @ w * scale})})
