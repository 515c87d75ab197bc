"""Random models: a seed determines the kind of export, signatures, layers, dtypes and shapes.

    python tests/support/any_model.py FIRST COUNT     # one JSON line per seed: published, or refused and why

The tests run this worker in a separate process, so that they notice and count a crash.
"""
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FAMILIES = ("image", "image", "pixels", "vector", "vector", "sequence", "ids", "text", "example", "csv", "raw", "pair")
WORDS = ("red", "green", "blue", "cyan", "pink", "grey", "white", "black")
HARMS = ("", "", "", "", "", "", "", "", "writes", "python", "random", "unlisted")


class Drawn:
    """The random choices of one seed. `facts` describes them for the result file."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng([seed, 2021])
        self.facts: dict[str, Any] = {"style": self.pick("module", "module", "session", "keras"), "signatures": {}}

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.random.integers(len(choices)))]

    def size(self, most: int) -> int:
        return int(self.random.integers(1, most + 1))

    def chance(self, share: float) -> bool:
        return bool(self.random.random() < share)

    def weights(self, *shape: int, dtype: Any = np.float32) -> Any:
        return (self.random.normal(size=shape) / np.sqrt(max(1, np.prod(shape[:-1])))).astype(dtype)


def build(seed: int, path: Path) -> dict[str, Any]:
    """Writes the SavedModel of a seed; returns the facts that were drawn."""
    import tensorflow as tf
    drawn = Drawn(seed)
    keys = ["serving_default", *(f"other_{index}" for index in range(drawn.pick(0, 0, 0, 1, 2)))]
    {"module": _module, "session": _session, "keras": _keras}[drawn.facts["style"]](tf, drawn, path, keys)
    return drawn.facts


def _module(tf: Any, drawn: Drawn, path: Path, keys: list[str]) -> None:
    module, signatures = tf.Module(), {}
    module.variables_made = []

    def variable(value: Any) -> Any:
        made = tf.Variable(value)
        module.variables_made.append(made)
        return made
    for key in keys:
        specs, serve = _signature(tf, drawn, key, variable, module)
        function = tf.function(serve, input_signature=[tf.TensorSpec(shape, dtype, name)
                                                       for name, (shape, dtype) in specs.items()])
        signatures[key] = function
        setattr(module, f"function_{key}", function)
    tf.saved_model.save(module, str(path), signatures=signatures)


def _session(tf: Any, drawn: Drawn, path: Path, keys: list[str]) -> None:
    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        count = iter(range(10_000))

        def variable(value: Any) -> Any:
            return v1.get_variable(f"v{next(count)}", initializer=value, use_resource=drawn.chance(0.5))
        signatures = {}
        for key in keys:
            specs, serve = _signature(tf, drawn, key, variable, None)
            vague = drawn.chance(0.15)
            inputs = {name: v1.placeholder(dtype, None if vague else shape, f"{key}_{name}")
                      for name, (shape, dtype) in specs.items()}
            drawn.facts["signatures"][key]["unknown_rank"] = vague
            outputs = serve(*inputs.values())
            info = v1.saved_model.build_tensor_info
            signatures[key] = v1.saved_model.build_signature_def(
                {name: info(tensor) for name, tensor in inputs.items()},
                {name: info(tensor) for name, tensor in outputs.items()}, "tensorflow/serving/predict")
        session.run((v1.global_variables_initializer(), v1.tables_initializer()))
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures, main_op=v1.tables_initializer())
        builder.save()


def _keras(tf: Any, drawn: Drawn, path: Path, keys: list[str]) -> None:
    import keras
    keras.utils.set_random_seed(int(drawn.random.integers(1 << 30)))
    family = drawn.pick("image", "vector", "sequence", "ids")
    shape = {"image": (drawn.pick(8, 12), drawn.pick(8, 12), drawn.pick(1, 3)), "vector": (drawn.size(9),),
             "sequence": (drawn.pick(5, None), drawn.size(6)), "ids": (drawn.pick(6, None),)}[family]
    x = start = keras.Input(shape, dtype="int32" if family == "ids" else "float32", name="x")
    layers = []
    if family == "ids":
        x, layers = keras.layers.Embedding(drawn.size(30) + 2, 5)(x), ["Embedding"]
    for _ in range(drawn.size(4)):
        if len(x.shape) == 4:
            layer = drawn.pick(keras.layers.Conv2D(drawn.size(6), 3, padding="same"),
                               keras.layers.SeparableConv2D(4, 3, padding="same"), keras.layers.BatchNormalization(),
                               keras.layers.DepthwiseConv2D(3, padding="same"), keras.layers.Dropout(0.3),
                               keras.layers.Activation("relu"), keras.layers.MaxPooling2D(2, padding="same"))
        elif len(x.shape) == 3:
            layer = drawn.pick(keras.layers.LSTM(4, return_sequences=True), keras.layers.GRU(3, return_sequences=True),
                               keras.layers.Conv1D(4, 3, padding="same"), keras.layers.LayerNormalization(),
                               keras.layers.Dense(5))
        else:
            layer = drawn.pick(keras.layers.Dense(6, "relu"), keras.layers.BatchNormalization(),
                               keras.layers.Dense(3, "tanh"))
        x = layer(x)
        layers.append(type(layer).__name__)
    if len(x.shape) == 4:
        x = keras.layers.GlobalAveragePooling2D()(x)
    elif len(x.shape) == 3:
        x = keras.layers.GlobalMaxPooling1D()(x)
    model = keras.Model(start, keras.layers.Dense(drawn.size(4) + 1, drawn.pick("softmax", "sigmoid", None))(x))
    for weight in model.weights:  # no batch norm at its initial state
        value = np.asarray(weight)
        weight.assign(value + np.abs(drawn.random.normal(size=value.shape).astype(value.dtype)) * 0.1)
    drawn.facts["signatures"] = {"serving_default": {"family": family, "layers": layers}}
    model.export(str(path), verbose=False)


def _signature(tf: Any, drawn: Drawn, key: str, variable: Callable[[Any], Any],
               module: Any) -> tuple[dict[str, Any], Callable[..., dict[str, Any]]]:
    """The inputs of a signature, and its function. Everything random is drawn before the function is traced."""
    family, harm = drawn.pick(*FAMILIES), drawn.pick(*HARMS)
    if module is not None and harm == "unlisted":
        harm = ""
    width, batch = drawn.size(6) + 1, drawn.pick(None, None, None, None, 2)
    dtype = drawn.pick(tf.float32, tf.float32, tf.float32, tf.float64, tf.float16) if family == "vector" else tf.float32
    inputs, first = _first(tf, drawn, family, batch, width, dtype, variable, module)
    steps = [_step(tf, drawn, variable) for _ in range(drawn.size(4))]
    last = drawn.pick("softmax", "argmax", "top_k", "sigmoid", "raw", "two")
    facts = {"family": family, "dtype": dtype.name, "batch": batch, "harm": harm, "last": last, "layers": []}
    drawn.facts["signatures"][key] = facts
    side = drawn.chance(0.2)
    if side:
        inputs["threshold"] = ((), tf.float32)

    def serve(*given: Any) -> dict[str, Any]:
        x = first(*given[:len(given) - side])
        for name, make in steps:
            facts["layers"].append(name)
            x = make(x)
        outputs = _last(tf, last, x)
        if side:
            outputs["above"] = tf.reduce_sum(tf.cast(x, tf.float32)) > given[-1]
        name = next(iter(outputs))
        if harm == "random":
            outputs[name] = tf.cast(outputs[name], tf.float32) + tf.random.uniform([])
        elif harm == "python":
            outputs["py"] = tf.numpy_function(lambda x: x, [tf.cast(outputs[name], tf.float32)], tf.float32)
        elif harm == "writes":
            with tf.control_dependencies([tf.io.write_file(tf.strings.as_string(tf.size(x)), "written")]):
                outputs[name] = tf.identity(outputs[name])
        elif harm == "unlisted":
            outputs[name] = tf.cast(outputs[name], tf.float32) * tf.compat.v1.placeholder(
                tf.float32, [], f"{key}_keep_prob")
        return outputs
    return inputs, serve


def _first(tf: Any, drawn: Drawn, family: str, batch: int | None, width: int, dtype: Any,
           variable: Callable[[Any], Any], module: Any) -> tuple[dict[str, Any], Callable[..., Any]]:
    """The inputs, and a function from them to features [batch, n] of float32 (or the drawn dtype)."""
    if family in ("image", "pixels"):
        depth, size = drawn.pick(1, 3), drawn.pick(8, 11, None)
        filters = variable(drawn.weights(3, 3, depth, 4))
        scale, offset, mean = (variable(drawn.weights(4) + 1.5) for _ in range(3))
        kind = tf.uint8 if family == "pixels" else tf.float32

        def image(x: Any) -> Any:
            y = tf.nn.conv2d(tf.cast(x, tf.float32) / (255.0 if family == "pixels" else 1.0), filters, 1, "SAME")
            y = tf.nn.batch_normalization(y, mean, scale * scale, offset, scale, 1e-3)
            return tf.reduce_mean(tf.nn.relu(y), [1, 2])
        return {"image": ((batch, size, size, depth), kind)}, image
    if family == "vector":
        matrix = variable(drawn.weights(width, 4, dtype=dtype.as_numpy_dtype))
        return {"x": ((batch, width), dtype)}, lambda x: tf.cast(tf.matmul(x, matrix), tf.float32)
    if family == "sequence":
        kernel = variable(drawn.weights(width + 3, 3))

        def sequence(x: Any) -> Any:
            state, steps = tf.zeros([tf.shape(x)[0], 3]), tf.shape(x)[1]
            def body(at: Any, s: Any) -> Any:
                return at + 1, tf.tanh(tf.matmul(tf.concat([x[:, at], s], 1), kernel))
            return tf.while_loop(lambda at, s: at < steps, body, [tf.constant(0), state],
                                 shape_invariants=[tf.TensorShape([]), tf.TensorShape([None, 3])])[1]
        return {"x": ((batch, drawn.pick(4, None), width), tf.float32)}, sequence
    if family == "ids":
        table, kind = variable(drawn.weights(drawn.size(40), 4)), drawn.pick(tf.int32, tf.int64, tf.float32)
        return {"ids": ((batch, drawn.pick(3, None)), kind)}, lambda ids: tf.reduce_mean(
            tf.gather(table, tf.cast(ids, tf.int64)), 1)
    if family == "pair":
        matrix, other = variable(drawn.weights(width, 4)), variable(drawn.weights(2, 4))
        return {"a": ((batch, width), tf.float32), "b": ((batch, 2), tf.float32)}, lambda a, b: tf.matmul(
            a, matrix) + tf.matmul(b, other)
    return _from_text(tf, drawn, family, batch, width, variable, module)


def _from_text(tf: Any, drawn: Drawn, family: str, batch: int | None, width: int, variable: Callable[[Any], Any],
               module: Any) -> tuple[dict[str, Any], Callable[..., Any]]:
    table, matrix = variable(drawn.weights(len(WORDS) + 1, 4)), variable(drawn.weights(width, 4))
    words = None
    if family in ("text", "example"):
        words = tf.lookup.StaticVocabularyTable(tf.lookup.KeyValueTensorInitializer(
            list(WORDS), np.arange(len(WORDS))), 1)
        if module is not None:
            module.tables = [*getattr(module, "tables", []), words]
        else:
            tf.compat.v1.add_to_collection(tf.compat.v1.GraphKeys.TABLE_INITIALIZERS, words.initializer) \
                if hasattr(words, "initializer") else None
    if family == "text":
        return {"text": ((batch,), tf.string)}, lambda text: tf.gather(table, words.lookup(text))
    if family == "example":
        def example(serialized: Any) -> Any:
            parsed = tf.io.parse_example(serialized, {
                "word": tf.io.FixedLenFeature([], tf.string), "x": tf.io.FixedLenFeature([width], tf.float32)})
            return tf.gather(table, words.lookup(parsed["word"])) + tf.matmul(parsed["x"], matrix)
        return {"examples": ((batch,), tf.string)}, example
    if family == "csv":
        def csv(lines: Any) -> Any:
            columns = tf.io.decode_csv(lines, [[0.0]] * width + [[0]])
            return tf.matmul(tf.stack(columns[:-1], 1), matrix) + tf.gather(table, columns[-1])
        return {"lines": ((batch,), tf.string)}, csv

    def raw(data: Any) -> Any:
        return tf.matmul(tf.reshape(tf.io.decode_raw(data, tf.float32), [-1, width]), matrix)
    return {"data": ((batch,), tf.string)}, raw


def _step(tf: Any, drawn: Drawn, variable: Callable[[Any], Any]) -> tuple[str, Callable[[Any], Any]]:
    """A layer on features [batch, n] of any n."""
    kind = drawn.pick("relu", "scale", "norm", "cond", "concat", "dense", "dropout", "cast", "function")
    a, b = drawn.weights(1)[0] + 1.5, drawn.weights(1)[0]
    made = variable(np.float32(a))
    layers: dict[str, Callable[[Any], Any]] = {
        "relu": tf.nn.relu, "scale": lambda x: x * made + b,
        "norm": lambda x: (x - tf.reduce_mean(x, 1, keepdims=True)) * made,
        "cond": lambda x: tf.cond(tf.reduce_sum(x) > b, lambda: x * made, lambda: x - made),
        "concat": lambda x: tf.concat([x, tf.square(x)], 1),
        "dense": lambda x: tf.matmul(x, tf.sin(tf.cast(tf.range(tf.shape(x)[1]), tf.float32)[:, None] * [
            1.0, 2.0, 3.0] + [0.5, 1.0, 1.5]) * made) + b,
        "dropout": lambda x: tf.nn.dropout(x, rate=0.0), "cast": lambda x: tf.cast(tf.cast(x, tf.float64), tf.float32),
        "function": tf.function(lambda x: tf.nn.elu(x) * made, autograph=False)}
    return kind, layers[kind]


def _last(tf: Any, kind: str, x: Any) -> dict[str, Any]:
    if kind == "argmax":
        return {"class": tf.argmax(x, 1), "scores": x}
    if kind == "top_k":
        values, places = tf.math.top_k(x, 2)
        return {"values": values, "places": places}
    if kind == "two":
        return {"a": tf.sigmoid(x), "b": tf.reduce_sum(x, 1)}
    return {"y": {"softmax": tf.nn.softmax, "sigmoid": tf.sigmoid, "raw": tf.identity}[kind](x)}


def optimize(seed: int, folder: Path) -> dict[str, Any]:
    """Optimizes the model of a seed; returns {"seed", "drawn"} and either "published" or "refused", the error line."""
    from export.optimization import command
    from user_error import UserError
    facts = build(seed, folder / "source" / "1")
    try:
        command.main([str(folder / "source"), "--to", str(folder / "made"), "--batch", "1,3", "--json", str(
            folder / "report.json")], standalone_mode=False)
    except UserError as error:
        assert not (folder / "made").exists(), "refused, but published all the same"
        return {"seed": seed, "drawn": facts, "refused": str(error).replace(str(folder), "")}
    report = json.loads((folder / "report.json").read_text())
    compared = report["equality"]
    assert all(result["equal"] for result in compared.values())
    return {"seed": seed, "drawn": facts, "published": True}


def main(first: int, count: int) -> None:
    import contextlib
    import io
    import os
    import warnings
    warnings.simplefilter("ignore")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for seed in range(first, first + count):
        with tempfile.TemporaryDirectory(prefix="any-model-") as folder:
            os.chdir(folder)
            with contextlib.redirect_stdout(io.StringIO()):
                try:
                    done = optimize(seed, Path(folder))
                except Exception as error:  # noqa: BLE001 - any other error is a bug, which the test counts
                    done = {"seed": seed, "bug": f"{type(error).__name__}: {error}"[:2000]}
            strangers = sorted(set(os.listdir(folder)) - {"source", "made", "report.json"})
            os.chdir("/")
        print(json.dumps({**done, "strangers": strangers}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
