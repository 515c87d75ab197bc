"""TensorFlow, imported without its chatter: `from export.runtime import tf` where a command first needs it."""
from commandline import quiet

with quiet():
    import tensorflow as tf

tf.get_logger().setLevel("ERROR")

__all__ = ["tf"]
