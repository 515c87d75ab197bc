"""Random strings that a model can read: words in its tables, sentences, CSV lines, serialized examples, images."""
from __future__ import annotations

import base64
import zlib
from dataclasses import replace
from typing import Any

import numpy as np

from export import media
from export.hint import Bytes, Feature, Hint, Message
from export.tensors import BOOL, DOUBLE, FLOAT, STRING, UINT8, Array, numpy_dtype

_ROWS = 4  # of a feature list
_BELOW = 100  # the bound of raw integers that nothing else bounds
_WINDOWS = {"ZLIB": 15, "GZIP": 31}


def text(hint: Hint, random: np.random.Generator, below: int, word: bytes) -> bytes:
    """One string that the hint allows. `below`: the bound of integers without a hint."""
    if hint.wrappings:
        return _wrapped(hint, random, below, word)
    if hint.example is not None:
        return _example(hint, random, below)
    if hint.message is not None:
        return message(hint.message, random, below)
    if hint.image:
        number = int(random.integers(8))
        return media.recording(number) if hint.image == "wav" else media.image(hint.image, number, hint.pixels)
    if hint.columns:
        return hint.separator.join(_cell(dtype, one, random, below, word) for dtype, one in hint.columns)
    if hint.raw:
        return _bytes(hint.raw, random)
    word = word[:1 + int(random.integers(len(word)))]
    words = [word, *(one if isinstance(one, bytes) else str(one).encode() for one in hint.words)]
    if hint.number:
        # Four digits, as a year has: parts of them are numbers too.
        words = [b"%.3f" % number for number in random.random(6)] if hint.below is None and not hint.whole else [
            b"%d" % number for number in (random.integers(1000, 10000, 6) if hint.below is None else
                                          random.integers(0, hint.below, 6))]
    if hint.sentence:
        return hint.separator.join(
            words[int(index)] for index in random.integers(0, len(words), 1 + int(random.integers(6))))
    return words[int(random.integers(0, len(words)))]


def numbers(hint: Hint, dtype: int, count: int, random: np.random.Generator, below: int) -> Array:
    """Numbers of a type that the hint allows."""
    kind = np.dtype(numpy_dtype(dtype))
    if hint.words:
        return random.choice(np.asarray(hint.words), count).astype(kind)
    if kind.kind == "f" and hint.below is None:
        return random.random(count).astype(kind)
    return random.integers(0, 2 if dtype == BOOL else hint.below or below, count).astype(kind)


def _cell(dtype: int, hint: Hint, random: np.random.Generator, below: int, word: bytes) -> bytes:
    if dtype == STRING:
        return text(hint, random, below, word)
    number = numbers(hint, dtype, 1, random, below)[0]
    return b"%.4f" % number if dtype in (FLOAT, DOUBLE) else b"%d" % number


def _bytes(raw: Bytes, random: np.random.Generator) -> bytes:
    from export.runtime import tf
    shape = raw.shape or ((4,) if raw.op == "ParseTensor" else (16,))
    count = int(np.prod(shape))
    if raw.op != "ParseTensor":
        return numbers(raw.hint, raw.dtype if raw.dtype != STRING else UINT8, count, random, _BELOW).tobytes()
    values = np.asarray([text(raw.hint, random, _BELOW, b"word") for _ in range(count)], object) \
        if raw.dtype == STRING else numbers(raw.hint, raw.dtype, count, random, _BELOW)
    return bytes(tf.make_tensor_proto(values.reshape(shape), dtype=raw.dtype).SerializeToString())


def _wrapped(hint: Hint, random: np.random.Generator, below: int, word: bytes) -> bytes:
    """The string in its outermost wrapping."""
    from google.protobuf import json_format

    from export.runtime import tf
    kind, *rest = hint.wrappings
    inside = replace(hint, wrappings=tuple(rest))
    if kind == "json":
        inside = replace(inside, example=inside.example or {})
        return json_format.MessageToJson(tf.train.Example.FromString(text(inside, random, below, word))).encode()
    plain = text(inside, random, below, word)
    if kind == "base64":
        return base64.urlsafe_b64encode(plain).rstrip(b"=")
    if kind not in _WINDOWS:
        return plain
    deflate = zlib.compressobj(wbits=_WINDOWS[kind])
    return deflate.compress(plain) + deflate.flush()


def _example(hint: Hint, random: np.random.Generator, below: int) -> bytes:
    from export.runtime import tf
    if hint.steps is not None:
        sequence = tf.train.SequenceExample()
        for key, feature in (hint.example or {}).items():
            _fill(sequence.context.feature[key], feature, random, below)
        steps = 1 + int(random.integers(_ROWS))
        for key, feature in hint.steps.items():
            for _ in range(steps):
                _fill(sequence.feature_lists.feature_list[key].feature.add(), feature, random, below)
        return bytes(sequence.SerializeToString(deterministic=True))
    example = tf.train.Example()
    for key, feature in (hint.example or {}).items():
        _fill(example.features.feature[key], feature, random, below)
    return bytes(example.SerializeToString(deterministic=True))


def _fill(target: Any, feature: Feature, random: np.random.Generator, below: int) -> None:
    count = int(random.integers(1, 4)) if feature.shape is None else int(np.prod(
        [max(size, 3) if size < 0 else size for size in feature.shape], dtype=int))
    if feature.dtype == STRING:
        letters = [bytes(random.integers(97, 123, 5, np.uint8)) for _ in range(count)]
        target.bytes_list.value.extend(text(feature.hint, random, below, word) for word in letters)
        return
    values = numbers(feature.hint, feature.dtype, count, random, below)
    (target.float_list if feature.dtype == FLOAT else target.int64_list).value.extend(values.tolist())


def message(wanted: Message, random: np.random.Generator, below: int) -> bytes:
    """A protocol buffer message with values for the fields that are read; an empty one if its type is not known."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
    pool = descriptor_pool.Default()
    if wanted.source.startswith("bytes://"):
        files = descriptor_pb2.FileDescriptorSet.FromString(
            wanted.source.removeprefix("bytes://").encode("utf-8", "surrogateescape"))
        pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            pool.Add(file)
    try:
        made: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName(wanted.name))()
    except KeyError:
        return b""
    for name, dtype, hint, count in wanted.fields:
        field = made.DESCRIPTOR.fields_by_name.get(name)
        if field is None or field.message_type is not None:
            continue
        values: list[Any] = [_cell(STRING, hint, random, below, b"word") for _ in range(count)] if dtype == STRING \
            else numbers(hint, dtype, count, random, below).tolist()
        if field.type == field.TYPE_STRING:
            values = [one.decode("utf-8", "replace") for one in values]
        if field.enum_type is not None:
            values = [int(random.choice(sorted(field.enum_type.values_by_number))) for _ in values]
        if field.is_repeated:
            getattr(made, name).extend(values)
        else:
            setattr(made, name, values[0])
    return text_format.MessageToString(made).encode() if wanted.form == "text" else bytes(made.SerializeToString())
