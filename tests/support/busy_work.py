"""Graphs that do nothing useful, for a known time: steps of tanh(x @ W), of which 1 % more take 1 % more time.

All give the same answers, whatever their number of steps: the steps' result is compared with a number that tanh never
reaches, and no optimizer knows that.
"""
from pathlib import Path

import numpy as np
import tensorflow as tf
from saved_models import save_v1, signature

WIDTH, STEPS = 256, 200
v1 = tf.compat.v1


def write(version: Path, per_cent_more: float = 0.0) -> Path:
    """A SavedModel x [N,256] -> y [N,4] of 200 steps, and so many per cent more (in halves)."""
    steps = round(STEPS * (1 + per_cent_more / 100))
    weights = np.random.default_rng(0).normal(size=(WIDTH, WIDTH)).astype(np.float32) / WIDTH ** 0.5
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, WIDTH], "x")
        result, by = x, tf.constant(weights)
        for _ in range(steps):
            result = tf.tanh(result @ by)
        y = x[:, :4] + tf.cast(result[:, :4] > 2, tf.float32)
        save_v1(version, session, {"serving_default": signature({"x": x}, {"y": tf.identity(y, "y")})})
    return version
