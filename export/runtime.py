"""TensorFlow, imported without its chatter: `from export.runtime import tf` where a command first needs it."""
import ctypes

from commandline import quiet

with quiet():
    import tensorflow as tf

tf.get_logger().setLevel("ERROR")


def give_back_memory() -> None:
    """Returns what was freed to the system: the C library keeps freed weights for itself, and they are big."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


__all__ = ["give_back_memory", "tf"]
