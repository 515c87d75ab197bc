"""Versions that TensorFlow and another engine run: y = x * W, where the engine's W is the other's times a factor.

So answers show which of them gave them.
"""
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino_models
import tflite_models
from tiny_saved_model import write_tiny_saved_model

from export.runtime import tf

SIGNATURES = {"serving_default": ({"x": "x"}, {"y": "y"})}


def litert(version: Path, factor: float = 1.0, entry: Any = None) -> Path:
    """saved_model.pb and model.tflite; `entry`: what the manifest states for litert. Returns `version`."""
    tflite_models.write(version, _product(factor), SIGNATURES)
    return _beside(version, "litert", entry)


def openvino(version: Path, factor: float = 1.0, entry: Any = None) -> Path:
    """saved_model.pb and assets.extra/openvino; `entry`: what the manifest states for openvino. Returns `version`."""
    openvino_models.write(version, _product(factor), SIGNATURES)
    return _beside(version, "openvino", entry)


def both(version: Path) -> Path:
    """A version with the files of both engines. Returns `version`."""
    openvino(version)
    return litert(version)


def openvino_index(version: Path, index: Any) -> Path:
    """saved_model.pb and an engine.json with this content, without the graphs that it names. Returns `version`."""
    folder = version / "assets.extra/openvino"
    folder.mkdir(parents=True)
    (folder / "engine.json").write_text(index if isinstance(index, str) else json.dumps(index))
    return _beside(version, "openvino", None)


def _product(factor: float) -> Callable[[], None]:
    def nodes() -> None:
        x = tf.compat.v1.placeholder(tf.float32, (None, 4), "x")
        tf.matmul(x, tf.constant(factor * np.arange(1, 13, dtype=np.float32).reshape(4, 3)), name="y")
    return nodes


def _beside(version: Path, engine: str, entry: Any) -> Path:
    write_tiny_saved_model(version)
    if entry is not None:
        (version / "assets.extra").mkdir(exist_ok=True)
        (version / "assets.extra/manifest.json").write_text(json.dumps({"engines": {engine: entry}}))
    return version
