"""Models whose inputs the graph decodes: DECODED[kind] is (the function, its input's spec); others are AWKWARD."""
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf
from awkward_models import awkward, serving
from saved_models import random


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
