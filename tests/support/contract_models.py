"""The models that the recorded cases use, each of a few kilobytes. `build(directory)` writes all of them.

Signature keys, tensor names and op names are part of the recorded answers (metadata and error texts quote them).
Layout: directory/NAME/VERSION/saved_model.pb.
"""
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

v1 = tf.compat.v1

Signatures = dict[str, Any]
DTYPES = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool",
          "string", "half", "bfloat16", "complex64", "complex128")
MODELS: dict[str, Callable[[], Signatures]] = {}
SLOW_TURNS = 50_000
VOCABULARY = ("zero", "one", "two", "three", "fünf")


def model(make: Callable[[], Signatures]) -> Callable[[], Signatures]:
    MODELS[make.__name__] = make
    return make


def feed(name: str, dtype: Any = tf.float32, shape: Any = (None,)) -> Any:
    return v1.placeholder(dtype, shape, name)


def predict(inputs: Mapping[str, Any], outputs: Mapping[str, Any], method: str = "tensorflow/serving/predict") -> Any:
    info = v1.saved_model.build_tensor_info
    return v1.saved_model.build_signature_def({key: info(tensor) for key, tensor in inputs.items()},
                                              {key: info(tensor) for key, tensor in outputs.items()}, method)


def classify(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
    return predict(inputs, outputs, "tensorflow/serving/classify")


def regress(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
    return predict(inputs, outputs, "tensorflow/serving/regress")


def half_plus(offset: int) -> Signatures:
    """y = x / 2 + offset, as a TF1 model with variables and a tf.Example parser."""
    def variable(name: str, value: float) -> Any:
        return v1.get_variable(name, initializer=value, use_resource=False)

    slope, low, high = variable("a", 0.5), variable("b", float(offset)), variable("c", offset + 1.0)
    examples = feed("tf_example", tf.string, None)
    features = v1.parse_example(examples, {
        "x": tf.io.FixedLenFeature([1], tf.float32), "x2": tf.io.FixedLenFeature([1], tf.float32, [0.0])})
    x = tf.identity(features["x"], "x")
    y, y2 = tf.add(slope * x, low, "y"), tf.add(slope * x, high, "y2")
    x2 = tf.identity(features["x2"], "x2")
    y3 = tf.add(slope * x2, high, "y3")
    return {
        "serving_default": predict({"x": x}, {"y": y}),
        "regress_x_to_y": regress({"inputs": examples}, {"outputs": y}),
        "regress_x_to_y2": regress({"inputs": examples}, {"outputs": y2}),
        "regress_x2_to_y3": regress({"inputs": x2}, {"outputs": y3}),
        "classify_x_to_y": classify({"inputs": examples}, {"scores": y}),
        "classify_x2_to_y3": classify({"inputs": x2}, {"scores": y3}),
    }


@model
def echo() -> Signatures:
    """Returns its input, for every type."""
    made = {}
    for dtype in DTYPES:
        x = feed(f"in_{dtype}", tf.as_dtype(dtype))
        made[dtype] = predict({"x": x}, {"y": tf.identity(x, f"out_{dtype}")})
    wide, cube = feed("in_wide", shape=(None, 3)), feed("in_cube", tf.int32, (None, 2, 2))
    return made | {
        "serving_default": made["float32"],
        "wide": predict({"x": wide}, {"y": tf.identity(wide, "out_wide")}),
        "cube": predict({"x": cube}, {"y": tf.identity(cube, "out_cube")}),
    }


@model
def cast() -> Signatures:
    """Floats in, every type out."""
    x = feed("x")
    made = {}
    for dtype in DTYPES:
        y = tf.as_string(x, name="to_string") if dtype == "string" else tf.cast(x, dtype, f"to_{dtype}")
        made[dtype] = predict({"x": x}, {"y": y})
    return made | {"serving_default": made["int32"]}


@model
def multi() -> Signatures:
    """Two inputs, three outputs."""
    a, b = feed("a", shape=(None, 2)), feed("b", tf.int64)
    total = tf.add(tf.reduce_sum(a, 1), tf.cast(b, tf.float32), "total")
    twice, pair = tf.multiply(b, 2, "twice"), tf.reverse(a, [1], "pair")
    return {
        "serving_default": predict({"a": a, "b": b}, {"total": total, "twice": twice, "pair": pair}),
        "one_output": predict({"a": a, "b": b}, {"total": total}),
        "one_input": predict({"b": b}, {"twice": twice}),
        "two_outputs": predict({"b": b}, {"again": tf.identity(b, "again"), "twice": twice}),
    }


@model
def strings() -> Signatures:
    s, scalar = feed("s", tf.string), feed("one", tf.string, ())
    upper, same = tf.strings.upper(s, name="upper"), tf.identity(s, "same")
    length, matrix = tf.strings.length(s, name="length"), tf.stack([s, upper], 1, "matrix")
    given = {"s": s}
    return {
        "serving_default": predict(given, {"text": same}),
        "bytes": predict({"s_bytes": s}, {"text_bytes": same}),
        "length": predict(given, {"length": length}),
        "upper": predict(given, {"upper": upper}),
        "both": predict(given, {"same_bytes": same, "upper": upper}),
        "matrix": predict(given, {"matrix": matrix}),
        "matrix_bytes": predict(given, {"matrix_bytes": matrix}),
        "bytes_are_ints": predict(given, {"length_bytes": length}),
        "scalar": predict({"s": scalar}, {"text": tf.identity(scalar, "scalar_same")}),
    }


@model
def shapes() -> Signatures:
    """Inputs and outputs of unusual shape."""
    free, zero, four = feed("free", shape=None), feed("zero", shape=()), feed("four", shape=(4,))
    x, m = feed("x"), feed("m", shape=(None, None))
    longer, same = tf.concat([x, [0.0]], 0, "longer"), tf.identity(x, "same")
    total = tf.reduce_sum(x, name="sum_of_x")
    return {
        "unknown_rank": predict({"x": free}, {"y": tf.add(free, 1.0, "free_plus")}),
        "rank_of": predict({"x": free}, {"shape": tf.shape(free, name="free_shape")}),
        "rank0": predict({"x": zero}, {"y": tf.multiply(zero, 2.0, "zero_twice")}),
        "rank0_batch": predict({"x": zero}, {"y": tf.fill([2], zero, "zero_filled")}),
        "batch4": predict({"x": four}, {"y": tf.multiply(four, 2.0, "four_twice")}),
        "longer": predict({"x": x}, {"same": same, "longer": longer}),
        "scalar": predict({"x": x}, {"total": total}),
        "scalar_and_batch": predict({"x": x}, {"same": same, "total": total}),
        "matrix": predict({"m": m}, {"y": tf.reduce_sum(m, 1, name="rows")}),
        "empty": predict({"x": x}, {"y": tf.slice(x, [0], [0], "none")}),
        "empty_wide": predict({"x": x}, {"y": tf.zeros([tf.shape(x)[0], 0], name="no_columns")}),
        "batch_size": predict({"x": x}, {"n": tf.fill(tf.shape(x), tf.shape(x)[0], "batch_size")}),
        "serving_default": predict({"x": x}, {"y": same}),
    }


@model
def bits() -> Signatures:
    """Bit patterns in, floating-point numbers out, so that a request can choose any of them."""
    i, j = feed("i", tf.int32), feed("j", tf.int64)
    wide = tf.bitcast(j, tf.float64, "d2")
    return {
        "serving_default": predict({"i": i}, {"f": tf.bitcast(i, tf.float32, "f")}),
        "double": predict({"j": j}, {"d": tf.bitcast(j, tf.float64, "d")}),
        "both": predict({"j": j}, {"d": wide, "f": tf.cast(tf.bitcast(j, tf.float64), tf.float32, "f2")}),
    }


@model
def fails() -> Signatures:
    """Signatures that fail at run time."""
    x, i, s, free = feed("x"), feed("i", tf.int32), feed("s", tf.string), feed("free", shape=None)
    below_ten = tf.raw_ops.Assert(condition=tf.reduce_all(x < 10.0), summarize=3, name="below_ten",
                                  data=[tf.constant("x must be below ten:"), x])
    with tf.control_dependencies([below_ten]):
        checked = tf.identity(x, "checked")
    return {
        "serving_default": predict({"x": x}, {"y": checked}),
        "gather": predict({"i": i}, {"y": tf.gather([10, 20, 30], i, name="pick")}),
        "divide": predict({"i": i}, {"y": tf.math.floordiv(100, i, "quotient")}),
        "number": predict({"s": s}, {"y": tf.strings.to_number(s, name="number")}),
        "reshape": predict({"x": x}, {"y": tf.reshape(x, [-1, 2], "pairs")}),
        "finite": predict({"x": x}, {"y": tf.debugging.check_numerics(x, "not a finite number", "finite")}),
        "matmul": predict({"x": free}, {"y": tf.matmul(free, tf.ones([2, 2]), name="product")}),
        "json": predict({"s": s}, {"y": tf.io.decode_json_example(s, "decoded")}),
        "base64": predict({"s": s}, {"y": tf.io.decode_base64(s, "unpacked")}),
    }


@model
def slow() -> Signatures:
    """A loop of some 300 ms, or (signature `turns`) of the requested number of iterations."""
    x, turns = feed("x"), feed("turns", tf.int32)

    def loop(count: Any, start: Any, name: str) -> Any:
        return v1.while_loop(lambda n, _: n < count, lambda n, total: (n + 1, total * 0.5 + 1.0), (0, start),
                             parallel_iterations=1, name=name)[1]

    return {
        "serving_default": predict({"x": x}, {
            "y": tf.identity(x + 0.0 * loop(SLOW_TURNS, tf.reduce_sum(x), "fixed"), "y")}),
        "turns": predict({"turns": turns}, {
            "done": tf.identity(turns + tf.cast(0.0 * loop(tf.reduce_max(turns), 0.0, "asked"), tf.int32), "done")}),
    }


@model
def example() -> Signatures:
    """tf.Examples in; valid and invalid outputs for Classify and Regress."""
    serialized = feed("examples", tf.string)
    features = v1.parse_example(serialized, {
        "x": tf.io.FixedLenFeature([2], tf.float32), "n": tf.io.FixedLenFeature([], tf.int64, 0),
        "s": tf.io.FixedLenFeature([], tf.string, "none"), "v": tf.io.VarLenFeature(tf.float32)})
    x, n, s = features["x"], features["n"], features["s"]
    total = tf.add(tf.reduce_sum(x, 1), tf.cast(n, tf.float32), "total")
    classes, scores = tf.stack([s, tf.as_string(n)], 1, "classes"), tf.identity(x, "scores")
    given = {"inputs": serialized}
    return {
        "serving_default": classify(given, {"classes": classes, "scores": scores}),
        "classes_only": classify(given, {"classes": classes}),
        "scores_only": classify(given, {"scores": scores}),
        "scores_rank1": classify(given, {"scores": total}),
        "scores_double": classify(given, {"scores": tf.cast(x, tf.float64, "double_scores")}),
        "classes_int": classify(given, {"classes": tf.cast(x, tf.int32, "int_classes")}),
        "classes_rank1": classify(given, {"classes": tf.identity(s, "flat_classes")}),
        "unequal_classes": classify(
            given, {"classes": tf.concat([classes, classes], 1, "wide_classes"), "scores": scores}),
        "more_scores": classify(given, {"scores": tf.concat([scores, scores], 0, "more_scores")}),
        "no_scores": classify(given, {"other": total}),
        "three_outputs": classify(given, {"classes": classes, "scores": scores, "other": total}),
        "predict_method": predict(given, {"classes": classes, "scores": scores}),
        "no_classes": classify(given, {"scores": tf.slice(scores, [0, 0], [-1, 0], "no_scores")}),
        "regress": regress(given, {"outputs": total}),
        "regress_column": regress(given, {"outputs": tf.expand_dims(total, 1, name="column")}),
        "regress_wide": regress(given, {"outputs": scores}),
        "regress_double": regress(given, {"outputs": tf.cast(total, tf.float64, "double_total")}),
        "regress_more": regress(given, {"outputs": tf.concat([total, total], 0, "more_totals")}),
        "regress_misnamed": regress(given, {"output": total}),
        "regress_input_misnamed": regress({"input": serialized}, {"outputs": total}),
        "regress_varlen": regress(given, {"outputs": tf.identity(tf.sparse.reduce_sum(features["v"], 1), "count")}),
        "predict": predict({"examples": serialized}, {"total": total, "scores": scores}),
    }


@model
def two_signatures() -> Signatures:
    """No serving_default."""
    x = feed("x")
    return {"alpha": predict({"x": x}, {"y": tf.add(x, 1.0, "plus_one")}),
            "beta": predict({"x": x}, {"y": tf.multiply(x, 3.0, "times_three")})}


@model
def odd() -> Signatures:
    """Signatures that are allowed, but unusual."""
    x, s, other = feed("x"), feed("s", tf.string), feed("with_default")
    y = tf.add(x, 1.0, "y")
    defaults = predict({"x": x, "z": other}, {"y": tf.add(x, other, "x_plus_z")})
    defaults.defaults["z"].CopyFrom(tf.make_tensor_proto([100.0]))
    return {
        "no_inputs": predict({}, {"y": tf.constant([1.0, 2.0], name="fixed")}),
        "b64": predict({"b64": x}, {"y": y}),
        "b64_string": predict({"b64": s}, {"y": tf.identity(s, "b64_same")}),
        "spaces and / é": predict({"an input": x}, {'an output "é"': y}),
        "twins": predict({"x": x, "same_x": x}, {"y": y}),
        "pass_through": predict({"x": x}, {"x": x}),
        "defaults": defaults,
        "no_method": predict({"x": x}, {"y": y}, ""),
        "odd_method": predict({"x": x}, {"y": y}, "made/up"),
        "many": predict({"x": x}, {f"o{k}": tf.add(x, float(k), f"plus_{k}") for k in range(12)}),
        "instances": predict({"instances": x}, {"predictions": y}),
        "serving_default": predict({"x": x}, {"y": y}),
    }


def table(vocabulary: Path) -> Signatures:
    """Words to numbers and back: tables that an initialiser fills from an asset file."""
    path = tf.constant(str(vocabulary), name="vocabulary_path")
    line, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER

    def lookup(key: Any, key_index: Any, value: Any, value_index: Any, default: Any) -> Any:
        return tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(path, key, key_index, value, value_index), default)

    numbers = lookup(tf.string, line, tf.int64, number, -1)
    words = lookup(tf.int64, number, tf.string, line, "?")
    word, index = feed("word", tf.string), feed("index", tf.int64)
    return {"serving_default": predict({"word": word}, {"id": tf.identity(numbers.lookup(word), "id")}),
            "name": predict({"id": index}, {"word": tf.identity(words.lookup(index), "name_of")})}


class HalfPlusTwo(tf.Module):
    """A TF2 model: resource variables and a tf.function."""

    def __init__(self) -> None:
        super().__init__()
        self.slope, self.offset = tf.Variable(0.5), tf.Variable(2.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def serve(self, x: Any) -> dict[str, Any]:
        return {"y": self.slope * x + self.offset}


def save(path: Path, make: Callable[[], Signatures], tag: str = "serve") -> None:
    """Writes a SavedModel of what `make` builds in a new graph, tables and assets included."""
    with tf.Graph().as_default() as graph, v1.Session() as session:
        signatures = make()
        tables = v1.tables_initializer("fill_tables") if graph.get_collection("table_initializer") else None
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session, [tag], signatures, main_op=tables,
            assets_collection=graph.get_collection(v1.GraphKeys.ASSET_FILEPATHS) or None)
        builder.save()


def tagged_train(path: Path) -> None:
    """Writes a model with the tag `train`, which a server that looks for `serve` does not find."""
    save(path, two_signatures, "train")
    assert SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs[0].meta_info_def.tags == ["train"]


def build(root: Path) -> None:
    """Writes all models below `root`."""
    for version in (123, 124):
        save(root / "half_plus_two" / str(version), lambda offset=version - 121: half_plus(offset))
    half_plus_two = HalfPlusTwo()
    tf.saved_model.save(half_plus_two, str(root / "half_plus_two_tf2" / "1"),
                        signatures={"serving_default": half_plus_two.serve})
    for name, make in MODELS.items():
        save(root / name / "1", make)
    words = root / "vocabulary.txt"
    words.write_text("".join(f"{word}\n" for word in VOCABULARY), encoding="utf-8")
    save(root / "table" / "1", lambda: table(words))
    words.unlink()
    tagged_train(root / "other_tag" / "1")
