"""Transformer encoders in the forms that Keras 3 and TensorFlow write, with random weights."""
from typing import Any

import keras
import numpy as np
from graph_session import tf

VOCABULARY = 300


def frozen(layers: int = 2, hidden: int = 64, heads: int = 4, length: int = 16, inner: int = 128, seed: int = 3,
           approximate: bool = False, norm_axis: int = -1) -> Any:
    """The frozen GraphDef of an encoder of `ids`, `mask` [?, length], output `Identity` [?, length, hidden]."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    random = np.random.default_rng(seed)
    ids = keras.Input((length,), dtype="int32", name="ids")
    mask = keras.Input((length,), dtype="int32", name="mask")
    x = keras.layers.Embedding(VOCABULARY, hidden)(ids)
    x = x + keras.layers.Embedding(length, hidden)(keras.ops.arange(length))
    x = keras.layers.LayerNormalization(epsilon=1e-12, axis=norm_axis)(x)
    allowed = keras.ops.expand_dims(keras.ops.cast(mask, "bool"), 1)
    for _ in range(layers):
        attended = keras.layers.MultiHeadAttention(heads, hidden // heads, dropout=0.1)(x, x, attention_mask=allowed)
        x = keras.layers.LayerNormalization(epsilon=1e-12)(x + keras.layers.Dropout(0.1)(attended))
        inside = keras.layers.Dense(inner, activation=lambda t: keras.activations.gelu(t, approximate))(x)
        x = keras.layers.LayerNormalization(epsilon=1e-12)(x + keras.layers.Dense(hidden)(inside))
    model = keras.Model([ids, mask], x)
    for weight in model.weights:
        if weight.name in ("bias", "beta"):
            weight.assign(random.normal(0, 0.05, weight.shape))
        elif weight.name == "gamma":
            weight.assign(random.uniform(0.7, 1.3, weight.shape))
    spec = [tf.TensorSpec([None, length], tf.int32, name) for name in ("ids", "mask")]
    function = tf.function(lambda ids, mask: model([ids, mask], training=False)).get_concrete_function(*spec)
    return convert_variables_to_constants_v2(function).graph.as_graph_def()


def feeds(batch: int, length: int = 16) -> dict[str, Any]:
    """Token ids, and a mask that hides the last quarter of every second row."""
    ids = np.random.default_rng(batch).integers(0, VOCABULARY, (batch, length)).astype(np.int32)
    mask = np.ones((batch, length), np.int32)
    mask[1::2, length - length // 4:] = 0
    return {"ids": ids, "mask": mask}
