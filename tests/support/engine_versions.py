"""Versions that TensorFlow and another engine run: y = x * W, where the engine's W is the other's times a factor.

So answers show which of them gave them.
"""
import json
from pathlib import Path
from typing import Any

import numpy as np
import tflite_models
from tiny_saved_model import write_tiny_saved_model

from export.runtime import tf


def litert(version: Path, factor: float = 1.0, entry: Any = None) -> Path:
    """saved_model.pb and model.tflite; `entry`: what the manifest states for litert. Returns `version`."""
    def product() -> None:
        x = tf.compat.v1.placeholder(tf.float32, (None, 4), "x")
        tf.matmul(x, tf.constant(factor * np.arange(1, 13, dtype=np.float32).reshape(4, 3)), name="y")

    write_tiny_saved_model(version)
    tflite_models.write(version, product, {"serving_default": ({"x": "x"}, {"y": "y"})})
    if entry is not None:
        _state(version, {"litert": entry})
    return version


def openvino_index(version: Path, index: Any, entry: Any = None) -> Path:
    """saved_model.pb and engine.json, without the graphs that engine.json names. Returns `version`."""
    write_tiny_saved_model(version)
    folder = version / "assets.extra/openvino"
    folder.mkdir(parents=True)
    (folder / "engine.json").write_text(index if isinstance(index, str) else json.dumps(index))
    if entry is not None:
        _state(version, {"openvino": entry})
    return version


def _state(version: Path, entries: Any) -> None:
    (version / "assets.extra").mkdir(exist_ok=True)
    (version / "assets.extra/manifest.json").write_text(json.dumps({"engines": entries}))
