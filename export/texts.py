"""Random strings that a model can read: words in its tables, sentences, CSV lines, serialized examples, images."""
from __future__ import annotations

import base64
import zlib
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from export.hint import Bytes, Feature, Hint
from export.tensors import BOOL, DOUBLE, FLOAT, STRING, Array, numpy_dtype

_ROWS = 4  # of a feature list
_FORMATS = {"ZLIB": 15, "GZIP": 31}


def text(hint: Hint, random: np.random.Generator, below: int, word: bytes) -> bytes:
    """One string that the hint allows. `below`: the bound of integers without a hint."""
    if hint.base64:
        return base64.urlsafe_b64encode(text(replace(hint, base64=False), random, below, word)).rstrip(b"=")
    if hint.compression:
        deflate = zlib.compressobj(wbits=_FORMATS.get(hint.compression, 15))
        return deflate.compress(text(replace(hint, compression=""), random, below, word)) + deflate.flush()
    if hint.json or hint.example is not None:
        return _example(hint, random, below)
    if hint.image:
        return _recording(int(random.integers(8))) if hint.image == "wav" else _image(
            hint.image, int(random.integers(8)))
    if hint.columns:
        return hint.separator.join(_cell(dtype, one, random, below, word) for dtype, one in hint.columns)
    if hint.raw:
        return _bytes(hint.raw, random)
    word = word[:1 + int(random.integers(len(word)))]
    words = [word, *(one if isinstance(one, bytes) else str(one).encode() for one in hint.words)]
    if hint.number:
        words = [b"%.3f" % number for number in random.random(6)] if hint.below is None else [
            b"%d" % number for number in random.integers(0, hint.below, 6)]
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
    kind = np.dtype(numpy_dtype(raw.dtype)) if raw.dtype != STRING else np.dtype(np.uint8)
    values = random.random(shape) if kind.kind in "fc" else random.integers(0, 2 if kind.kind == "b" else 100, shape)
    if raw.op == "ParseTensor":
        return bytes(tf.make_tensor_proto(values.astype(kind)).SerializeToString())
    return values.astype(kind).tobytes()


def _example(hint: Hint, random: np.random.Generator, below: int) -> bytes:
    from google.protobuf import json_format

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
    if hint.json:
        return json_format.MessageToJson(example).encode()
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


@cache
def _image(kind: str, number: int) -> bytes:
    """A small image with smooth colours and a bright square."""
    from export.runtime import tf
    y, x = np.mgrid[0:48, 0:64]
    pixels = np.stack([x * 4 % 256, y * 5 % 256, (x + y + 32 * number) % 256], -1).astype(np.uint8)
    pixels[number * 4:number * 4 + 8, 8:24] = 255
    with tf.device("/CPU:0"):
        encode = tf.io.encode_jpeg if kind == "jpeg" else tf.io.encode_png
        return bytes(encode(pixels).numpy())


@cache
def _recording(number: int) -> bytes:
    """A sound file with a tone of 0.1 s, mono, at 16 kHz."""
    from export.runtime import tf
    tone = np.sin(np.arange(1600) * (number + 1) * 0.05).astype(np.float32)[:, None] * 0.5
    with tf.device("/CPU:0"):
        return bytes(tf.audio.encode_wav(tone, 16000).numpy())
