"""Inputs for any signature: seeded, of its dtypes and shapes, and of values that its graph can use (see hints).

    maker = samples.Maker(model)
    inputs = maker.make("serving_default", batch=3, seed=0)
"""
from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np

from export.graph import normal, producer
from export.hints import Feature, Hint, Hints
from export.ops import PLACEHOLDERS
from export.saved_model import SavedModel
from export.served import depends_on_values, served_graph, softmax_outputs
from export.shapes import shapes_may_be_unknown
from export.tensors import FLOAT, INT64, Array, numpy_dtype
from serving.client import payloads
from serving.client.payloads import INTEGERS_BELOW, UNKNOWN_SIZE, TensorSpec, specs_of


@dataclass(frozen=True)
class Manner:
    """What to assume where neither signature nor graph says: the size of unknown dimensions, integers' bound.

    Floats are in [0, 1), or in [-scale, scale) if that is given.
    """

    size: int = UNKNOWN_SIZE
    below: int = INTEGERS_BELOW
    scale: float | None = None


# Tried in this order until the model takes the inputs.
MANNERS = (Manner(), Manner(below=2), Manner(size=1), Manner(size=1, below=1), Manner(size=2, below=2), Manner(size=4),
           Manner(size=3), Manner(size=8), Manner(size=32), Manner(size=64), Manner(size=128), Manner(size=224))


# The share of exact zeros among floats in [-scale, scale): they are what a cast to bool or a test for padding sees.
_ZEROS = 0.1


def fixed_batch(inputs: Mapping[str, TensorSpec]) -> int | None:
    """The batch size that a signature's shapes prescribe; None if any will do."""
    if any(spec.shape is None or spec.shape[:1] == (-1,) for spec in inputs.values()):
        return None
    return max((spec.shape[0] for spec in inputs.values() if spec.shape), default=1)


class Maker:
    """Makes inputs for one model. `other` reads one with the same signatures, whose graph may say more of strings."""

    def __init__(self, model: SavedModel, other: Callable[[], SavedModel] | None = None) -> None:
        self._model = model
        self._other = other

    @property
    def model(self) -> SavedModel:
        return self._model

    @cached_property
    def _hints(self) -> Hints:
        return _hints(self._model)

    @cached_property
    def _other_hints(self) -> Hints | None:
        return _hints(self._other()) if self._other is not None else None

    def make(self, signature: str, batch: int, seed: int, manner: Manner = MANNERS[0]) -> dict[str, Array]:
        """`batch` examples for each input of a signature; the same for the same arguments."""
        made = {}
        inputs = self._model.signatures[signature].inputs
        for key, spec in specs_of(self._model.signatures[signature].inputs).items():
            spec = replace(spec, dtype=self._dtype(normal(inputs[key].name), spec.dtype))
            if spec.shape == () and shapes_may_be_unknown(self._hints.graph.versions):
                spec = replace(spec, shape=_sizes(self._hints.graph.shapes.get(normal(inputs[key].name))))
            if spec.shape is not None:
                inner = (manner.size if size < 0 else size for size in spec.shape[1:])
                spec = replace(spec, shape=(*spec.shape[:1], *inner))
            values = payloads.make({key: spec}, batch if spec.shape is None or -1 in spec.shape else max(
                spec.shape[:1], default=1), seed)[key]
            hint = self.hint(normal(inputs[key].name), text=values.dtype == object)
            random = np.random.default_rng([seed, *key.encode()])
            made[key] = _fitting(values, hint, random, manner)
        return made

    def _dtype(self, ref: str, said: np.dtype[Any]) -> np.dtype[Any]:
        """The type that the graph takes, where a signature contradicts it: a regressor's may say float for examples."""
        item = self._hints.graph.nodes.get(producer(ref))
        taken = item.get("dtype") if item is not None and item.op in PLACEHOLDERS else None
        return said if taken is None else np.dtype(numpy_dtype(taken))

    def depends_on_values(self, signature: str) -> bool:
        return depends_on_values(self._hints.graph, self._model.signatures[signature])

    def softmax_outputs(self, signature: str) -> list[str]:
        return softmax_outputs(self._hints.graph, self._model.signatures[signature])

    def hint(self, ref: str, text: bool) -> Hint:
        """What is known of an input. A table that the checkpoint fills is in the graph once that is frozen."""
        found = self._hints.of(ref)
        if text and found == Hint(sentence=found.sentence) and self._other_hints is not None:
            return self._other_hints.of(ref) if producer(ref) in self._other_hints.graph.nodes else found
        return found


def _sizes(shape: tuple[int | None, ...] | None) -> tuple[int, ...] | None:
    return None if shape is None else tuple(-1 if size is None else size for size in shape)


def _hints(model: SavedModel) -> Hints:
    assets = {producer(normal(one.tensor_info.name)): model.path / "assets" / one.filename for one in model.assets}
    return Hints(served_graph(model), assets)


def _fitting(values: Array, hint: Hint, random: np.random.Generator, manner: Manner) -> Array:
    """`values` where the hint says nothing, else values of the same shape that it allows."""
    if values.dtype == object:
        made = np.empty(values.size, object)
        made[:] = [_text(hint, random, manner, word) for word in values.ravel().tolist()]
        return made.reshape(values.shape)
    if values.dtype.kind == "f" and manner.scale is not None:
        wide = (values.astype(np.float64) * 2 - 1) * manner.scale
        return np.where(random.random(values.shape) < _ZEROS, 0.0, wide).astype(values.dtype)
    if values.dtype.kind not in "iu" or (values.dtype == np.uint8 and hint.below is None):
        return values
    if hint.words:
        return random.choice(np.asarray(hint.words), values.shape).astype(values.dtype)
    return random.integers(0, hint.below or manner.below, values.shape).astype(values.dtype)


def _text(hint: Hint, random: np.random.Generator, manner: Manner, word: bytes) -> bytes:
    if hint.base64:
        return base64.urlsafe_b64encode(_text(replace(hint, base64=False), random, manner, word)).rstrip(b"=")
    if hint.example is not None:
        return _example(hint.example, random, manner)
    if hint.image:
        return _image(hint.image, int(random.integers(8)))
    if hint.number:
        return b"%.3f" % random.random()
    word = word[:1 + int(random.integers(len(word)))]
    words = [word, *(one if isinstance(one, bytes) else str(one).encode() for one in hint.words)]
    if hint.sentence:
        return b" ".join(words[int(index)] for index in random.integers(0, len(words), 1 + int(random.integers(6))))
    return words[int(random.integers(0, len(words)))]


def _example(features: Mapping[str, Feature], random: np.random.Generator, manner: Manner) -> bytes:
    from export.runtime import tf
    example = tf.train.Example()
    for key, feature in features.items():
        count = int(random.integers(1, 4)) if feature.shape is None else int(np.prod(
            [max(size, 3) if size < 0 else size for size in feature.shape], dtype=int))
        target = example.features.feature[key]
        if feature.dtype == FLOAT:
            target.float_list.value.extend(random.random(count).astype(np.float32).tolist())
        elif feature.dtype == INT64:
            target.int64_list.value.extend(
                _fitting(np.zeros(count, np.int64), feature.hint, random, manner).tolist())
        else:
            letters = [bytes(random.integers(97, 123, 5, np.uint8)) for _ in range(count)]
            target.bytes_list.value.extend(_text(feature.hint, random, manner, word) for word in letters)
    return bytes(example.SerializeToString(deterministic=True))


@cache
def _image(kind: str, number: int) -> bytes:
    """A small picture of smooth colours with a bright square in it."""
    from export.runtime import tf
    y, x = np.mgrid[0:48, 0:64]
    pixels = np.stack([x * 4 % 256, y * 5 % 256, (x + y + 32 * number) % 256], -1).astype(np.uint8)
    pixels[number * 4:number * 4 + 8, 8:24] = 255
    with tf.device("/CPU:0"):
        encode = tf.io.encode_jpeg if kind == "jpeg" else tf.io.encode_png
        return bytes(encode(pixels).numpy())
