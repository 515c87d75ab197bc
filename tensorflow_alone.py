"""Imports TensorFlow without Keras, in a third less time and 80 MB less memory.

    tensorflow_alone.own_process = True  # where a process of this project begins
    with tensorflow_alone.importing():
        import tensorflow as tf

TensorFlow imports all of Keras only so that tf.saved_model.load restores optimizers. Afterwards tf.keras and
`import keras` work as always, but not `import tensorflow.keras`: so nothing changes in a process that is not ours,
where a caller's code may say that.
"""
import sys
from collections.abc import Iterator
from contextlib import contextmanager

own_process = False


@contextmanager
def importing() -> Iterator[None]:  # decision 196
    """Hides Keras from TensorFlow while it is imported, if the process is ours and neither is there yet."""
    if not own_process or sys.modules.keys() & {"keras", "tensorflow"}:
        yield
        return
    sys.modules["keras"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["keras"]
