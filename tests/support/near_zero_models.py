"""Networks whose outputs are near zero or beside large numbers, so that rounding errors look like wrong answers.

    build("two_class_softmax", directory, seed=3)
    build("two_class_softmax", directory, seed=3, error=1e-3)     # one column is wrong by 1e-3 of its scale
"""
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

tf1 = tf.compat.v1
Numbers = np.random.Generator


def _dense(x: Any, width: int, random: Numbers, scale: float = 1.0) -> Any:
    rows = int(x.shape[-1])
    weights = tf1.get_variable(f"w{random.integers(1 << 30)}", initializer=(
        random.normal(size=(rows, width)) * scale / np.sqrt(rows)).astype(np.float32))
    return tf.matmul(x, weights)


def _batch_norm(x: Any, random: Numbers) -> Any:
    """A batch norm that the default pipeline folds, so that the outputs differ by rounding errors."""
    width = int(x.shape[-1])
    scale = random.uniform(0.5, 2, width).astype(np.float32)
    offset, mean = (random.normal(size=width).astype(np.float32) for _ in range(2))
    return (x - mean) * scale + offset


def _body(x: Any, random: Numbers) -> Any:
    for width in (24, 16):
        x = tf.nn.relu(_batch_norm(_dense(x, width, random), random))
    return x


def _centred(x: Any) -> Any:
    """`x` minus its first column: that column is near zero, as the difference of two almost equal numbers."""
    return x - tf.stop_gradient(x[:, :1]) * 0.999999


def _two_class_softmax(x: Any, random: Numbers) -> Any:
    logits = _batch_norm(_dense(_body(x, random), 2, random), random)
    return tf.nn.softmax(logits * np.float32(10 ** random.uniform(-5, 0)))


def _sigmoid(x: Any, random: Numbers) -> Any:
    return tf.sigmoid(_batch_norm(_dense(_body(x, random), 3, random), random) - 40)


def _regression(x: Any, random: Numbers) -> Any:
    return _batch_norm(_dense(_body(x, random), 1, random), random) * 1e-3


def _huge_and_tiny_columns(x: Any, random: Numbers) -> Any:
    return _batch_norm(_dense(_body(x, random), 4, random), random) * np.float32([1e6, 1.0, 1e-3, 1e-8])


def _normalised(x: Any, random: Numbers) -> Any:
    return tf.math.l2_normalize(_batch_norm(_dense(_body(x, random), 8, random), random), axis=1)


def _attention(x: Any, random: Numbers) -> Any:
    keys = tf.reshape(_batch_norm(_dense(_body(x, random), 24, random), random), [-1, 6, 4])
    return tf.nn.softmax(tf.matmul(keys, keys, transpose_b=True) * 4.0)


def _log_softmax(x: Any, random: Numbers) -> Any:
    return tf.nn.log_softmax(_batch_norm(_dense(_body(x, random), 3, random, 20.0), random) * 10.0)


def _difference_of_large_numbers(x: Any, random: Numbers) -> Any:
    tall = _batch_norm(_dense(_body(x, random), 4, random), random) * 1e3 + 1e4
    return _centred(tall)


def _difference_of_probabilities(x: Any, random: Numbers) -> Any:
    both = _two_class_softmax(x, random)
    return both[:, :1] - both[:, 1:]


def _large_logits(x: Any, random: Numbers) -> Any:
    return tf.nn.softmax(_batch_norm(_dense(_body(x, random), 5, random), random) * 300.0)


KINDS: dict[str, Callable[[Any, Numbers], Any]] = {
    function.__name__[1:]: function for function in (
        _two_class_softmax, _sigmoid, _regression, _huge_and_tiny_columns, _normalised, _attention, _log_softmax,
        _difference_of_large_numbers, _difference_of_probabilities, _large_logits)}


# The scale that `error` is a share of: the size of the numbers that the output is computed from.
_SCALES: dict[str, float] = {
    "difference_of_probabilities": 1.0, "normalised": 1.0, "difference_of_large_numbers": 1e4}


def _off(kind: str, y: Any, error: float, random: Numbers) -> Any:
    """`y` with one column wrong by `error` times its scale in _SCALES, or by default times its largest value."""
    column = int(random.integers(int(y.shape[-1])))
    wrong = np.eye(int(y.shape[-1]), dtype=np.float32)[column]
    if kind in ("two_class_softmax", "attention", "large_logits"):  # as if one logit were wrong; the sum is still 1
        logits = tf.math.log(tf.maximum(y, 1e-30))
        largest = tf.maximum(tf.reduce_max(logits, -1, keepdims=True) - tf.reduce_min(logits, -1, keepdims=True), 1.0)
        off = logits + error * wrong * largest
        return tf.nn.softmax(off)
    axes = list(range(len(y.shape) - 1))
    scale = _SCALES.get(kind) or tf.reduce_max(tf.abs(y), axis=axes, keepdims=True)
    if kind == "log_softmax":
        scale = tf.reduce_max(tf.abs(y))
    return y + error * wrong * scale


def build(kind: str, path: Path, seed: int, error: float = 0.0) -> Path:
    """Writes the model x [n, 12] -> y and returns its directory. `error`: how wrong one column is, as a share."""
    random = np.random.default_rng([seed, *kind.encode()])
    with tf1.Graph().as_default(), tf1.Session() as session:
        x = tf1.placeholder(tf.float32, [None, 12], "x")
        y = KINDS[kind](x, random)
        y = tf.identity(_off(kind, y, error, random) if error else y, "y")
        session.run(tf1.global_variables_initializer())
        tf1.saved_model.simple_save(session, str(path), {"x": x}, {"y": y})
    return path
