"""Small models that need special inputs, or that are unsafe to run: AWKWARD[kind](directory) writes one."""
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from saved_models import random, save_v1, signature

v1 = tf.compat.v1
AWKWARD: dict[str, Callable[[Path], None]] = {}


def awkward(make: Callable[[Path], None]) -> Callable[[Path], None]:
    AWKWARD[make.__name__] = make
    return make


def save(path: Path, module: Any, **signatures: Any) -> None:
    tf.saved_model.save(module, str(path), signatures=signatures)


def serving(path: Path, serve: Callable[..., Any], *specs: Any, module: Any = None) -> None:
    """Saves a module whose serving_default is the function."""
    holder = module or tf.Module()
    holder.serve = tf.function(serve, input_signature=list(specs))
    save(path, holder, serving_default=holder.serve)


@awkward
def trains_on_device(path: Path) -> None:
    """Signatures that save and restore the weights, beside the signature `infer`."""
    class Module(tf.Module):
        def __init__(self) -> None:
            self.w = tf.Variable(random(6, 3), name="w")

        @tf.function(input_signature=[tf.TensorSpec([None, 6], tf.float32, "x")])
        def infer(self, x: Any) -> Any:
            return {"out": x @ self.w}

        @tf.function(input_signature=[tf.TensorSpec([], tf.string, "checkpoint_path")])
        def store(self, checkpoint_path: Any) -> Any:
            tf.raw_ops.Save(filename=checkpoint_path, tensor_names=["w"], data=[self.w.read_value()])
            return {"checkpoint_path": checkpoint_path}

        @tf.function(input_signature=[tf.TensorSpec([], tf.string, "checkpoint_path")])
        def restore(self, checkpoint_path: Any) -> Any:
            self.w.assign(tf.raw_ops.RestoreV2(prefix=checkpoint_path, tensor_names=["w"], shape_and_slices=[""],
                                               dtypes=[tf.float32])[0])
            return {"w": self.w.read_value()}
    made = Module()
    save(path, made, infer=made.infer, save=made.store, restore=made.restore)


@awkward
def writes_in_a_branch_of_a_loop(path: Path) -> None:
    def serve(name: Any) -> Any:
        for index in tf.range(3):
            if index > 1:
                tf.io.write_file(name, "x")
        return {"y": tf.strings.length(name)}
    serving(path, serve, tf.TensorSpec([], tf.string, "name"))


@awkward
def prints_to_a_file(path: Path) -> None:
    def serve(x: Any) -> Any:
        tf.print(x, output_stream="file://printed.txt")
        return {"y": x * 2}
    serving(path, serve, tf.TensorSpec([None], tf.float32, "x"))


@awkward
def reads_in_a_dataset(path: Path) -> None:
    """A function inside a dataset reads the file."""
    def serve(name: Any) -> Any:
        lines = tf.data.Dataset.from_tensors(name).map(tf.io.read_file)
        return {"y": lines.reduce(tf.constant(b""), lambda a, b: a + b)}
    serving(path, serve, tf.TensorSpec([], tf.string, "name"))


@awkward
def session_writes_before_it_answers(path: Path) -> None:
    """TensorFlow 1: a control dependency of the output writes the file."""
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2], "x")
        name = v1.placeholder(tf.string, [], "name")
        with tf.control_dependencies([tf.io.write_file(name, "y")]):
            y = tf.identity(x * 2, "y")
        save_v1(path, session, {"serving_default": signature({"x": x, "name": name}, {"y": y}),
                                "plain": signature({"x": x}, {"y": tf.square(x)})})


@awkward
def python_beside(path: Path) -> None:
    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 6], tf.float32, "x")])
        def plain(self, x: Any) -> Any:
            return {"y": x @ random(6, 3)}

        @tf.function(input_signature=[tf.TensorSpec([None, 6], tf.float32, "x")])
        def sorted_rows(self, x: Any) -> Any:
            return {"y": tf.py_function(lambda rows: tf.sort(rows), [x], tf.float32)}
    made = Module()
    save(path, made, serving_default=made.plain, postprocessed=made.sorted_rows)


@awkward
def forgotten_placeholder(path: Path) -> None:
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 6], "x")
        keep = v1.placeholder(tf.float32, name="dropout_keep_prob")
        y = tf.matmul(v1.nn.dropout(x, rate=1 - keep), v1.get_variable("w", initializer=random(6, 3)))
        session.run(v1.global_variables_initializer())
        save_v1(path, session, {"serving_default": signature({"x": x}, {"y": y})})


def _dropout_by(path: Path, name: str, shape: Any) -> None:
    """A dropout with an input of this name for the share that is dropped, or kept if the name says so."""
    with v1.Graph().as_default(), v1.Session() as session:
        x, switch = v1.placeholder(tf.float32, [None, 6], "x"), v1.placeholder(tf.float32, shape, name)
        dropped = v1.nn.dropout(x, rate=1 - switch if "keep" in name else switch)
        y = tf.matmul(dropped, v1.get_variable("w", initializer=random(6, 3)))
        session.run(v1.global_variables_initializer())
        save_v1(path, session, {"serving_default": signature({"x": x, name: switch}, {"y": y})})


@awkward
def listed_keep_prob(path: Path) -> None:
    _dropout_by(path, "keep_prob", None)


@awkward
def listed_drop_rate(path: Path) -> None:
    _dropout_by(path, "drop_rate", [])


@awkward
def untracked_variable(path: Path) -> None:
    """One layer creates its variables during tracing, too late for the module to track them."""
    class Module(tf.Module):
        def __init__(self) -> None:
            self.first = [keras.layers.Dense(4)]
            self.first[0](tf.zeros([1, 3]))
            self.kept = [variable.value for variable in self.first[0].variables]
            self.late = [keras.layers.Dense(2, name="late")]

        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
        def serve(self, x: Any) -> Any:
            return {"y": self.late[0](self.first[0](x))}
    made = Module()
    save(path, made, serving_default=made.serve)


@awkward
def any_rank(path: Path) -> None:
    """A convolution and a batch norm after a placeholder of unknown rank."""
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, name="x")
        y = tf.nn.conv2d(x / 2.0 - [0.1, 0.2, 0.3], v1.get_variable("c", initializer=random(3, 3, 3, 6)), 1, "SAME")
        scale, offset, mean = (v1.get_variable(name, initializer=np.abs(random(6, seed=seed)) + 0.5)
                               for seed, name in enumerate(("scale", "offset", "mean")))
        y, _, _ = v1.nn.fused_batch_norm(y, scale, offset, mean, scale, is_training=False)
        session.run(v1.global_variables_initializer())
        save_v1(path, session, {"serving_default": signature({"x": x}, {"y": tf.reduce_mean(tf.nn.relu(y), [1, 2])})})


@awkward
def any_rank_volume(path: Path) -> None:
    """A 3-D convolution; the input's rank follows from it, through a cast."""
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.uint8, name="x")
        y = tf.nn.conv3d(tf.cast(x, tf.float32), random(2, 2, 2, 2, 4), [1] * 5, "SAME")
        save_v1(path, session, {"serving_default": signature({"x": x}, {"y": tf.reduce_mean(y, [1, 2, 3])})})


@awkward
def any_rank_matrix(path: Path) -> None:
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, name="x")
        save_v1(path, session, {"serving_default": signature({"x": x}, {"y": tf.matmul(tf.tanh(x), random(7, 3))})})


@awkward
def any_rank_einsum(path: Path) -> None:
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, name="x")
        save_v1(path, session, {"serving_default": signature(
            {"x": x}, {"y": tf.einsum("btc,cd->bd", x, tf.constant(random(5, 3)))})})


@awkward
def ragged_ends(path: Path) -> None:
    """Ragged outputs, and a ragged input whose components are separate inputs of the signature."""
    class Module(tf.Module):
        def __init__(self) -> None:
            self.w = tf.Variable(random(50, 4))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
        def tokens(self, text: Any) -> Any:
            words = tf.strings.split(text)
            ids = tf.strings.to_hash_bucket_fast(words, 50)
            return {"tokens": words, "ids": ids,
                    "pooled": tf.reduce_sum(tf.ragged.map_flat_values(lambda flat: tf.gather(self.w, flat), ids), 1)}

        @tf.function(input_signature=[tf.RaggedTensorSpec([None, None], tf.int64)])
        def pool(self, ids: Any) -> Any:
            return {"pooled": tf.reduce_sum(tf.ragged.map_flat_values(lambda flat: tf.gather(self.w, flat), ids), 1)}
    made = Module()
    save(path, made, serving_default=made.tokens, pool=made.pool)


@awkward
def sparse_answer(path: Path) -> None:
    def serve(x: Any) -> Any:
        return {"found": tf.sparse.from_dense(tf.where(x > 0.5, x, 0.0)), "total": tf.reduce_sum(x, 1)}
    serving(path, serve, tf.TensorSpec([None, 5], tf.float32, "x"))


@awkward
def sparse_parts(path: Path) -> None:
    """A sparse tensor as three inputs, the form in which clients can send it."""
    with v1.Graph().as_default(), v1.Session() as session:
        indices = v1.placeholder(tf.int64, [None, 2], "indices")
        values, shape = v1.placeholder(tf.float32, [None], "values"), v1.placeholder(tf.int64, [2], "shape")
        dense = tf.sparse.to_dense(tf.SparseTensor(indices, values, shape))
        save_v1(path, session, {"serving_default": signature(
            {"indices": indices, "values": values, "dense_shape": shape}, {"rows": tf.reduce_sum(dense, 1)})})


@awkward
def for_each_request(path: Path) -> None:
    """Inputs without a batch dimension, one value for the whole request: the image's shape, a threshold."""
    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32, "image"),
                                      tf.TensorSpec([2], tf.float32, "image_shape"),
                                      tf.TensorSpec([], tf.float32, "threshold")])
        def serve(self, image: Any, image_shape: Any, threshold: Any) -> Any:
            boxes = tf.reduce_mean(image @ random(3, 4), [1, 2]) * tf.concat([image_shape, image_shape], 0)
            return {"boxes": boxes, "keep": boxes > threshold}

        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "x"),
                                      tf.TensorSpec([3, 4], tf.float32, "anchors")])
        def near(self, x: Any, anchors: Any) -> Any:
            return {"near": tf.matmul(x, anchors, transpose_b=True)}
    made = Module()
    save(path, made, serving_default=made.serve, near=made.near)


@awkward
def csv_lines(path: Path) -> None:
    table = random(7, 3)

    def serve(lines: Any) -> Any:
        price, city, kind = tf.io.decode_csv(lines, [[0.0], [""], [0]], field_delim=";")
        return {"y": tf.gather(table, kind) * price[:, None], "city": city}
    serving(path, serve, tf.TensorSpec([None], tf.string, "lines"))


@awkward
def raw_bytes(path: Path) -> None:
    def serve(data: Any) -> Any:
        pixels = tf.reshape(tf.io.decode_raw(data, tf.uint8), [-1, 6, 4, 3])
        return {"y": tf.reduce_mean(tf.cast(pixels, tf.float32), [1, 2]) @ random(3, 2)}
    serving(path, serve, tf.TensorSpec([None], tf.string, "data"))


@awkward
def sequence_examples(path: Path) -> None:
    table = random(9, 4)

    def serve(serialized: Any) -> Any:
        context, steps, _ = tf.io.parse_sequence_example(
            serialized, {"user": tf.io.FixedLenFeature([], tf.int64)},
            {"clicks": tf.io.RaggedFeature(tf.int64), "times": tf.io.FixedLenSequenceFeature([2], tf.float32)})
        clicks = tf.reduce_sum(tf.gather(table, steps["clicks"].flat_values), 0)
        return {"y": tf.gather(table, context["user"]) + clicks + tf.reduce_sum(steps["times"])}
    serving(path, serve, tf.TensorSpec([None], tf.string, "serialized"))


@awkward
def one_sequence_example(path: Path) -> None:
    def serve(serialized: Any) -> Any:
        context, steps = tf.io.parse_single_sequence_example(
            serialized, {"scale": tf.io.FixedLenFeature([], tf.float32)},
            {"x": tf.io.FixedLenSequenceFeature([3], tf.float32)})
        return {"y": tf.reduce_sum(steps["x"], 0) * context["scale"]}
    serving(path, serve, tf.TensorSpec([], tf.string, "serialized"))


@awkward
def float_ids(path: Path) -> None:
    """A column of ids as floats beside a column of numbers."""
    table = random(40, 3)

    def serve(features: Any) -> Any:
        return {"y": tf.gather(table, tf.cast(features[:, 0], tf.int32)) * features[:, 1:2]}
    serving(path, serve, tf.TensorSpec([None, 2], tf.float32, "features"))


@awkward
def json_and_zlib(path: Path) -> None:
    """tf.Examples as JSON, and zlib-compressed numbers."""
    def serve(text: Any, packed: Any) -> Any:
        parsed = tf.io.parse_example(tf.io.decode_json_example(text), {"x": tf.io.FixedLenFeature([2], tf.float32)})
        numbers = tf.io.decode_raw(tf.io.decode_compressed(packed, "ZLIB"), tf.float32)
        return {"y": parsed["x"] @ random(2, 2) + tf.reshape(numbers, [-1, 2])}
    serving(path, serve, tf.TensorSpec([None], tf.string, "text"), tf.TensorSpec([None], tf.string, "packed"))


def _pixels(decode: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Encoded images of any size."""
    def serve(data: Any) -> Any:
        def one(encoded: Any) -> Any:
            return tf.image.resize(tf.cast(decode(encoded), tf.float32)[..., :3], [8, 8])
        images = tf.map_fn(one, data, fn_output_signature=tf.TensorSpec([8, 8, 3], tf.float32))
        return {"y": tf.reduce_mean(images, [1, 2]) @ random(3, 2)}
    return serve


def _each(decode: Callable[[Any], Any], dtype: Any = tf.float32) -> Callable[[Any], Any]:
    return lambda data: {"y": tf.map_fn(decode, data, fn_output_signature=dtype)}


def _message(data: Any) -> Any:
    values = tf.io.decode_proto(data, "tensorflow.TensorProto", ["float_val", "dtype", "string_val"],
                                [tf.float32, tf.int32, tf.string])[1]
    return {"y": tf.reshape(values[0], [-1, 4]) @ random(4, 2), "dtype": values[1], "words": values[2]}


def _own_message() -> str:
    """The type example.Point, as a descriptor that DecodeProto takes in an attribute."""
    from google.protobuf import descriptor_pb2
    files = descriptor_pb2.FileDescriptorSet()
    file = files.file.add(name="point.proto", package="example")
    point = file.message_type.add(name="Point")
    for number, name in enumerate(("x", "y"), 1):
        point.field.add(name=name, number=number, type="TYPE_FLOAT", label="LABEL_OPTIONAL")
    return "bytes://" + files.SerializeToString().decode("latin-1")


ANY, ONE = tf.TensorSpec([None], tf.string, "data"), tf.TensorSpec([], tf.string, "data")
io, raw = tf.io, tf.raw_ops
# Inputs that the graph decodes: the function, and its input.
DECODED: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "jpeg": (_pixels(io.decode_jpeg), ANY), "png": (_pixels(io.decode_png), ANY), "gif": (_pixels(
        lambda data: io.decode_gif(data)[0]), ANY), "bmp": (_pixels(io.decode_bmp), ANY),
    "bmp_with_alpha": (_pixels(lambda data: io.decode_bmp(data, 4)), ANY),
    "webp": (_pixels(lambda data: tf.ensure_shape(raw.DecodeWebP(contents=data, channels=3), [1, None, None, 3])[0]),
             ANY),
    "image": (_pixels(lambda data: io.decode_image(data, 3, expand_animations=False)), ANY),
    "part_of_a_jpeg": (_pixels(lambda data: tf.image.decode_and_crop_jpeg(data, [0, 0, 8, 8])), ANY),
    "jpeg_or_png": (_pixels(lambda data: tf.cond(
        io.is_jpeg(data), lambda: io.decode_jpeg(data, 3), lambda: io.decode_png(data, 3))), ANY),
    "size_of_a_jpeg": (_each(tf.image.extract_jpeg_shape, tf.int32), ANY),
    "image_in_base64": (_pixels(lambda data: io.decode_png(io.decode_base64(data), 3)), ANY),
    "image_in_gzip": (_pixels(lambda data: io.decode_png(io.decode_compressed(data, "GZIP"), 3)), ANY),
    "image_of_a_fixed_size": (_each(lambda data: tf.ensure_shape(io.decode_jpeg(data, 3), [32, 30, 3]), tf.uint8), ANY),
    "image_as_a_matrix": (_each(lambda data: tf.reshape(io.decode_png(data, 1), [28, 20]), tf.uint8), ANY),
    "image_as_a_vector": (_each(lambda data: tf.cast(tf.reshape(io.decode_png(data, 1), [784]), tf.float32)), ANY),
    "image_in_an_example": (lambda data: _pixels(io.decode_jpeg)(io.parse_example(
        data, {"image/encoded": io.FixedLenFeature([], tf.string)})["image/encoded"]), ANY),
    "sound": (_each(lambda data: tf.reduce_mean(tf.abs(tf.audio.decode_wav(data, 1, 16000)[0]), 0)), ANY),
    "stereo": (lambda data: {"y": tf.audio.decode_wav(data, 2)[0][:100] @ random(2, 2)}, ONE),
    "tensor": (lambda data: {"y": tf.ensure_shape(io.parse_tensor(data, tf.float32), [None, 3]) @ random(3, 2)}, ONE),
    "tensors": (_each(lambda data: tf.reshape(io.parse_tensor(data, tf.int64), [4]), tf.int64), ANY),
    "tensor_of_ids": (lambda data: {"y": tf.gather(random(7, 2), tf.ensure_shape(
        io.parse_tensor(data, tf.int64), [None]))}, ONE),
    "tensor_of_strings": (lambda data: {"y": tf.strings.length(io.parse_tensor(data, tf.string))}, ONE),
    "raw_ids": (lambda data: {"y": tf.gather(random(7, 2), tf.cast(tf.reshape(
        io.decode_raw(data, tf.uint8), [-1, 5]), tf.int32))}, ANY),
    "raw_half": (lambda data: {"y": tf.reshape(io.decode_raw(data, tf.float16), [-1, 5])}, ANY),
    "padded_raw": (lambda data: {"y": io.decode_raw(data, tf.int16, fixed_length=12)}, ANY),
    "json_in_base64": (lambda data: io.parse_example(io.decode_json_example(io.decode_base64(data)), {
        "a": io.FixedLenFeature([2], tf.float32)}), ANY),
    "compressed_in_base64": (lambda data: {"y": tf.reshape(io.decode_raw(io.decode_compressed(
        io.decode_base64(data), "ZLIB"), tf.float32), [-1, 3])}, ANY),
    "base64_in_an_example": (lambda data: {"y": io.decode_raw(io.decode_base64(io.parse_example(
        data, {"a": io.FixedLenFeature([], tf.string)})["a"]), tf.uint8)}, ANY),
    "message": (_message, ANY),
    "message_as_text": (lambda data: {"y": io.decode_proto(
        data, "tensorflow.VersionDef", ["producer", "bad_consumers"], [tf.int32] * 2, message_format="text")[1][0]},
        ANY),
    "message_of_an_own_type": (lambda data: {"y": tf.concat(io.decode_proto(
        data, "example.Point", ["x", "y"], [tf.float32] * 2, descriptor_source=_own_message())[1], 1)}, ANY),
    "year": (lambda data: {"y": tf.strings.to_number(tf.strings.substr(data, 0, 4), tf.int32)}, ANY),
    "numbers_in_a_line": (lambda data: {"y": tf.reshape(tf.strings.to_number(tf.strings.split(
        data, ",").flat_values), [-1, 1])}, ANY),
    "letters": (lambda data: {"y": tf.gather(random(128, 2), tf.strings.unicode_decode(
        data, "UTF-8").to_tensor(0))}, ANY),
}


@awkward
def draws(path: Path) -> None:
    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
        def serve(self, x: Any) -> Any:
            return {"y": x @ random(3, 2)}

        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
        def sample(self, x: Any) -> Any:
            return {"y": x + tf.random.normal(tf.shape(x)) + tf.random.uniform([])}
    made = Module()
    save(path, made, serving_default=made.serve, sample=made.sample)


@awkward
def draws_in_all_ways(path: Path) -> None:
    """Two signatures share a function that draws; one draws by constant seeds; one by a seed of the system's."""
    spec = tf.TensorSpec([None, 3], tf.float32, "x")

    class Module(tf.Module):
        @tf.function(input_signature=[spec])
        def noisy(self, x: Any) -> Any:
            return x + tf.random.normal(tf.shape(x))

        @tf.function(input_signature=[spec])
        def sample(self, x: Any) -> Any:
            return {"y": self.noisy(x)}

        @tf.function(input_signature=[spec])
        def other(self, x: Any) -> Any:
            return {"y": 2 * self.noisy(x)}

        @tf.function(input_signature=[spec])
        def stateless(self, x: Any) -> Any:
            return {"y": x + tf.random.stateless_normal(tf.shape(x), [1, 2]) * tf.random.stateless_uniform([], [3, 4])}

        @tf.function(input_signature=[spec])
        def by_system(self, x: Any) -> Any:
            seed = raw.NonDeterministicInts(shape=[2], dtype=tf.int64)
            return {"y": x + tf.random.stateless_normal(tf.shape(x), seed)}
    made = Module()
    save(path, made, sample=made.sample, other=made.other, stateless=made.stateless, by_system=made.by_system)


@awkward
def draws_little(path: Path) -> None:
    """Random noise far below the tolerance of the outputs."""
    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
        def serve(self, x: Any) -> Any:
            # A number for each value, and large enough that two draws are not rounded to the same answer.
            return {"y": 1e6 * (1 + x) + 10 * tf.random.uniform(tf.shape(x))}
    made = Module()
    save(path, made, serving_default=made.serve)


@awkward
def draws_for_nothing(path: Path) -> None:
    """Random numbers that do not change the output, like those of a dropout that keeps everything."""
    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
        def serve(self, x: Any) -> Any:
            return {"y": x @ random(3, 2) * tf.floor(1 + tf.random.uniform([]))}
    made = Module()
    save(path, made, serving_default=made.serve)


def _any_rank(name: str, serve: Callable[[Any], Any], dtype: Any = tf.float32) -> None:
    """A model whose one input has no shape."""
    def write(path: Path) -> None:
        with v1.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(dtype, name="x")
            save_v1(path, session, {"serving_default": signature({"x": x}, {"y": serve(x)})})
    AWKWARD[name] = write


# Operations that move, add or remove axes stand between the input and the first reader that gives a rank.
_any_rank("any_rank_sequence", lambda x: tf.nn.conv2d(tf.expand_dims(x, -3), random(1, 3, 4, 2), 1, "SAME"))
_any_rank("any_rank_squeezed", lambda x: tf.matmul(tf.raw_ops.Squeeze(input=x, axis=[1]), random(6, 3)))
_any_rank("any_rank_transposed", lambda x: tf.matmul(tf.reshape(tf.transpose(x, [0, 2, 1]), [-1, 5]), random(5, 3)))
_any_rank("any_rank_twice", lambda x: tf.matmul(tf.raw_ops.ConcatV2(values=[x, x], axis=1), random(10, 3)))
_any_rank("any_rank_mean", lambda x: tf.reduce_mean(x, [1, 2]))
_any_rank("any_rank_sliced", lambda x: tf.raw_ops.StridedSlice(
    input=x, begin=[0, 1, 2], end=[0, 2, 4], strides=[1, 1, 1], begin_mask=1, end_mask=1))
_any_rank("any_rank_steps", lambda x: tf.raw_ops.BlockLSTMV2(
    seq_len_max=tf.constant(2, tf.int64), x=x, cs_prev=tf.zeros([tf.shape(x)[1], 5]),
    h_prev=tf.zeros([tf.shape(x)[1], 5]), w=random(8, 20), wci=random(5), wcf=random(5), wco=random(5),
    b=random(20))[6])


@awkward
def turned_in_a_loop(path: Path) -> None:
    """Each step's result, transposed, is the next step's input."""
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, name="x")
        y = tf.while_loop(lambda step, _: step < 4, lambda step, y: (step + 1, tf.transpose(y, [1, 0]) * 1.5), (0, x),
                          shape_invariants=(tf.TensorShape([]), tf.TensorShape(None)))[1]
        save_v1(path, session, {"serving_default": signature({"x": x}, {"y": y})})


@awkward
def waits_for_a_queue(path: Path) -> None:
    """An exported training graph: no thread fills its queue."""
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 6], name="x")
        taken = v1.FIFOQueue(3, [tf.float32], [[6]]).dequeue()
        save_v1(path, session, {"serving_default": signature({"x": x}, {"y": x + taken})})


@awkward
def reads_in_a_serialized_dataset(path: Path) -> None:
    graph = tf.raw_ops.DatasetToGraphV2(input_dataset=tf.data.TextLineDataset(["/etc/hostname"])._variant_tensor)

    def serve(x: Any) -> Any:
        rows = tf.data.experimental.from_variant(tf.raw_ops.DatasetFromGraph(graph_def=tf.constant(graph.numpy())),
                                                 tf.TensorSpec([], tf.string))
        return {"y": x * tf.cast(rows.reduce(0, lambda count, _: count + 1), tf.float32)}
    serving(path, serve, tf.TensorSpec([None, 6], tf.float32, "x"))


@awkward
def list_output(path: Path) -> None:
    serving(path, lambda x: {"y": x * 2, "steps": tf.raw_ops.TensorListFromTensor(tensor=x, element_shape=[6])},
            tf.TensorSpec([None, 6], tf.float32, "x"))


@awkward
def list_input(path: Path) -> None:
    serving(path, lambda steps: {"y": tf.raw_ops.TensorListStack(
        input_handle=steps, element_shape=[6], element_dtype=tf.float32)}, tf.TensorSpec([], tf.variant, "steps"))


@awkward
def resource_output(path: Path) -> None:
    serving(path, lambda x: {"y": x, "handle": tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[], shared_name="v")},
            tf.TensorSpec([None, 6], tf.float32, "x"))


@awkward
def shuffles_rows(path: Path) -> None:
    """One row stays as it is."""
    serving(path, lambda x: {"y": tf.random.shuffle(x)}, tf.TensorSpec([None, 6], tf.float32, "x"))


@awkward
def never_ends(path: Path) -> None:
    """A loop that ends for no number below 2."""
    serving(path, lambda x: {"y": tf.while_loop(lambda y: tf.reduce_any(y < 2.0), lambda y: y * 1.0, [x])[0]},
            tf.TensorSpec([None, 6], tf.float32, "x"))
