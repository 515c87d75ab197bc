"""TensorFlow without Keras in processes of ours, and with it in all others."""
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OURS = """
import sys, tensorflow_alone
tensorflow_alone.own_process = True
import serving.engines.tensorflow, export.runtime
assert "keras" not in sys.modules
import tensorflow as tf
assert tf.keras.layers.Dense(2)(tf.ones([1, 3])).shape == (1, 2)
import keras
assert keras.layers.Dense is tf.keras.layers.Dense
"""
THEIRS = """
import sys, export.runtime
import tensorflow.keras
assert tensorflow.keras.layers.Dense
"""


def test_keras_is_imported_where_it_is_first_used() -> None:
    ours, theirs = (subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True)
                    for code in (OURS, THEIRS))
    for process in (ours, theirs):
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
