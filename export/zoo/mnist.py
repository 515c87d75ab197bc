"""The article's MNIST classifier, trained on real images and exported with Keras' ExportArchive.

    input_image float32 [-1,28,28] -> reshape
    -> 3 x (Conv 3x3 SAME relu -> MaxPool 2 SAME -> BatchNormalization) -> Flatten
    -> 2 x (Dense 512 relu, Dropout 0.2) -> Dense 10 (logits) -> softmax float32 [-1,10]
"""
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

from commandline import step
from export.zoo import keras_export
from user_error import UserError
from version_directory import REQUEST, SAMPLES

CONNECT_TIMEOUT_S = 5
HELD_OUT = 397  # held-out images that are stored with the version, for measurements


@dataclass(frozen=True)
class Images:
    """Pixels are float32 in [0, 1], shape [N, 28, 28]; labels int64 [N]."""

    name: str
    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray
    epochs: int


def build(version: Path, name: str, data: str, seed: int, keeps: bool = False) -> dict[str, Any]:
    """Writes the trained SavedModel into `version`; returns facts about it for the manifest."""
    with step("read MNIST" if data == "mnist" else "read scikit-learn's handwritten digits"):
        images = _mnist() if data == "mnist" else _digits(seed)
    keras.utils.set_random_seed(seed)
    model = classifier()
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    with step(f"train on {len(images.train)} images of {images.name}, {images.epochs} epochs"):
        model.fit(images.train, images.train_labels, batch_size=32, epochs=images.epochs, verbose=0)
    with step(f"test on {len(images.test)} held-out images"):
        _, accuracy = model.evaluate(images.test, images.test_labels, batch_size=256, verbose=0)
    with step("export with keras.export.ExportArchive"):
        keras_export.export(model, version, keeps, lambda image: {"softmax": model(image, training=False)},
                            [tf.TensorSpec((None, 28, 28), tf.float32, name="input_image")])
        np.savez_compressed(version / SAMPLES, input_image=images.test[:HELD_OUT], labels=images.test_labels[:HELD_OUT])
        one = images.test[:1].astype(float).round(4).tolist()
        (version / REQUEST).write_text(json.dumps({"instances": one}) + "\n")
    return {"data": images.name, "of": "images", "trained_on": len(images.train), "held_out": len(images.test),
            "accuracy": round(float(accuracy), 6), "parameters": model.count_params()}


def classifier() -> keras.Model:
    """The untrained classifier: float32 [-1,28,28] in, probabilities of ten digits out."""
    layers = keras.layers
    image = keras.Input((28, 28), name="input_image")
    x = layers.Reshape((28, 28, 1))(image)
    for filters in (64, 128, 256):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D(2, padding="same")(x)
        # Keras' default of 0.99 needs thousands of steps; here are hundreds, so the averages must change faster.
        x = layers.BatchNormalization(momentum=0.9)(x)
    x = layers.Flatten()(x)
    for _ in range(2):
        x = layers.Dense(512, activation="relu")(x)
        x = layers.Dropout(0.2)(x)
    logits = layers.Dense(10, name="logits")(x)
    return keras.Model(image, layers.Softmax(name="softmax")(logits))


def _digits(seed: int) -> Images:
    """1,797 images of 8x8, enlarged to 28x28; 397 of them are held out."""
    pixels, labels = load_digits(return_X_y=True)
    small = tf.constant(pixels.reshape(-1, 8, 8, 1) / 16, tf.float32)
    large = tf.image.resize(small, (28, 28), method="bilinear").numpy()[..., 0]
    order = np.random.default_rng(seed).permutation(len(large))
    large, labels = large[order], labels[order].astype(np.int64)
    return Images("scikit-learn's handwritten digits (8x8 enlarged to 28x28)",
                  large[397:], labels[397:], large[:397], labels[:397], epochs=5)


def _mnist() -> Images:
    """MNIST through keras.datasets: from Keras' cache, or downloaded once."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(CONNECT_TIMEOUT_S)
    try:
        (train, train_labels), (test, test_labels) = keras.datasets.mnist.load_data()
    except Exception as error:  # Keras wraps every network failure in a plain Exception
        raise UserError(f"MNIST could not be downloaded ({error}); check the network and try again, "
                        "or use --data digits, which needs none") from error
    finally:
        socket.setdefaulttimeout(before)
    return Images("MNIST", (train / 255).astype(np.float32), train_labels.astype(np.int64),
                  (test / 255).astype(np.float32), test_labels.astype(np.int64), epochs=1)
