"""A convolutional classifier of a few layers, and examples whose labels are the classes that it gives them."""
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from saved_models import random, save_v1, signature

v1 = tf.compat.v1
EXAMPLES = 48
CLASSES = 5


def images(examples: int = EXAMPLES, seed: int = 5) -> Any:
    """Smooth random images [n, 12, 12, 8], so that the classes differ from one to the next."""
    made = np.random.default_rng(seed).normal(size=(examples, 3, 3, 8)).astype(np.float32)
    return made.repeat(4, 1).repeat(4, 2)


def write(path: Path, dtype: Any = tf.float32, maps: bool = False, dense: bool = True,
          batch: int | None = None) -> Path:
    """image [-1,12,12,8] -> scores [-1,5], and with `maps` also the activations [-1,12,12,32].

    dtype: of everything. dense: False leaves out all contractions, so that there is nothing to reduce. batch: the only
    batch size, which the graph holds as a constant too.
    """
    with v1.Graph().as_default(), v1.Session() as session:
        image = v1.placeholder(dtype, [batch, 12, 12, 8], "image")
        x = image
        for index, depth in enumerate((8, 32) if dense else ()):
            weights = tf.constant(random(3, 3, depth, 32, seed=index) / (3 * depth) ** 0.5, dtype)
            x = tf.nn.relu(tf.nn.conv2d(x, weights, 1, "SAME") + tf.constant(random(32, seed=index), dtype))
        pooled = tf.reduce_mean(x, [1, 2])
        if batch:
            pooled = tf.reshape(pooled, [batch, -1])
        scores = pooled @ tf.constant(random(32, CLASSES, seed=7), dtype) if dense else pooled[:, :CLASSES]
        outputs = {"scores": tf.nn.softmax(scores - tf.constant(_MIDDLE if dense else 0, dtype), name="scores")}
        if maps:
            outputs["maps"] = tf.identity(x, "maps")
        save_v1(path, session, {"serving_default": signature({"image": image}, outputs)})
    return path


# The mean of each class's logits over the examples; with them one class would nearly always win.
_MIDDLE = np.float32([-5.6, -1.5, -4.1, 1.5, 4.3])


def labelled(path: Path, version: Path, examples: int = EXAMPLES, name: str = "image") -> Path:
    """Writes a file of samples whose labels are the version's own top classes."""
    np.savez(path, **{name: images(examples), "labels": np.argmax(scores(version, images(examples)), 1)})
    return path


def scores(version: Path, x: Any) -> Any:
    """What TensorFlow answers to `x`."""
    with v1.Graph().as_default(), v1.Session() as session:
        v1.saved_model.load(session, ["serve"], str(version))
        return session.run("scores:0", {"image:0": x})
