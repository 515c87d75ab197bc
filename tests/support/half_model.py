"""A minimal SavedModel: y = x / 2 + offset, float32 [-1]; the scale is a variable."""
from pathlib import Path

import tensorflow as tf


class _Half(tf.Module):
    def __init__(self, offset: float) -> None:
        super().__init__()
        self.scale = tf.Variable(0.5)
        self.offset = offset

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": self.scale * x + self.offset}


def save(version: Path, offset: float = 2.0) -> None:
    """Writes the SavedModel into the version directory; its only signature is serving_default (x -> y)."""
    module = _Half(offset)
    tf.saved_model.save(module, str(version), signatures=module.serve)
