"""An encoder of text like BERT-base, with random weights, exported with Keras' ExportArchive.

    token_ids, mask int32 [-1,128] -> embeddings of tokens and positions, LayerNorm
    -> 12 x (12 heads of attention, add, LayerNorm, Dense 3072 gelu, Dense 768, add, LayerNorm)
    -> first token, Dense 768 tanh -> probabilities float32 [-1,8]

Its layers are Dense, so the graph has MatMul, BatchMatMulV2, Softmax, Erf and Keras 3's layer norms in parts.
"""
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from commandline import step
from export.runtime import tf
from export.zoo import keras_export
from export.zoo.random_weights import spread_out
from version_directory import SAMPLES

EXAMPLES = 32
CLASSES = 8
# BERT's first and last token of a text; 0 fills the rest.
FIRST, LAST, WORDS = 101, 102, 1000


@dataclass(frozen=True)
class Shape:
    """The sizes of an encoder; `between` is the width between the two Dense layers of a block."""

    blocks: int = 12
    width: int = 768
    heads: int = 12
    between: int = 3072
    tokens: int = 128
    vocabulary: int = 30522


SHAPES = {"full": Shape(), "small": Shape(2, 64, 4, 256, 16, 1200)}


def build(version: Path, name: str, size: str, seed: int, keeps: bool = False) -> dict[str, Any]:
    """Writes the encoder's SavedModel into `version`; returns facts about it for the manifest."""
    shape = SHAPES[size]
    samples = texts(EXAMPLES, shape, seed)
    with step(f"make an encoder of {shape.blocks} blocks with random weights"):
        model = randomised(shape, seed)
        spread_out(model, samples)
    with step("export with keras.export.ExportArchive"):
        whole = keras.Model(model.inputs, keras.layers.Softmax(name="probabilities")(model.output))
        keras_export.export(
            whole, version, keeps,
            lambda token_ids, mask: {"probabilities": whole([token_ids, mask], training=False)},
            [tf.TensorSpec((None, shape.tokens), tf.int32, name=name) for name in ("token_ids", "mask")])
        np.savez_compressed(version / SAMPLES, token_ids=samples["token_ids"], mask=samples["mask"])
    return {"weights": "random", "samples": f"{EXAMPLES} made-up texts", "tokens": shape.tokens,
            "parameters": model.count_params(), "seed": seed}


def texts(count: int, shape: Shape, seed: int) -> dict[str, np.ndarray]:
    """Made-up texts of different lengths: few words are frequent and most are rare, as in a language."""
    random = np.random.default_rng(seed)
    ids, mask = np.zeros((2, count, shape.tokens), np.int32)
    for index, length in enumerate(random.integers(shape.tokens // 8 + 3, shape.tokens + 1, count)):
        words = WORDS + random.zipf(1.2, length - 2) % (shape.vocabulary - WORDS)
        ids[index, :length] = [FIRST, *words, LAST]
        mask[index, :length] = 1
    return {"token_ids": ids, "mask": mask}


def encoder(shape: Shape) -> keras.Model:
    """The encoder with Keras' initial weights: token_ids and mask in, logits out."""
    layers = keras.layers
    ids = keras.Input((shape.tokens,), dtype="int32", name="token_ids")
    mask = keras.Input((shape.tokens,), dtype="int32", name="mask")
    x = layers.Embedding(shape.vocabulary, shape.width, name="words")(ids)
    # An Embedding of Keras' own, not a layer of this project: so a .keras file loads anywhere. (ids * 0 has the batch.)
    positions = ids * 0 + np.arange(shape.tokens, dtype=np.int32)  # decision 230
    x = layers.Add()([x, layers.Embedding(shape.tokens, shape.width, name="positions")(positions)])
    x = layers.LayerNormalization(epsilon=1e-12)(x)
    # What is added to the scores of tokens that the mask leaves out, as BERT does: [B,1,1,T].
    hidden = (1.0 - keras.ops.cast(mask, "float32"))[:, None, None, :] * -10000.0
    for number in range(shape.blocks):
        x = layers.LayerNormalization(epsilon=1e-12)(layers.Add()([x, _attention(x, hidden, shape, number)]))
        wide = layers.Dense(shape.between, activation="gelu", name=f"wide_{number}")(x)
        narrow = layers.Dense(shape.width, name=f"narrow_{number}")(wide)
        x = layers.LayerNormalization(epsilon=1e-12)(layers.Add()([x, narrow]))
    pooled = layers.Dense(shape.width, activation="tanh", name="pooled")(x[:, 0])
    return keras.Model([ids, mask], layers.Dense(CLASSES, name="logits")(pooled))


def _attention(x: Any, hidden: Any, shape: Shape, number: int) -> Any:
    layers, each = keras.layers, shape.width // shape.heads

    def split(name: str) -> Any:
        heads = layers.Reshape((shape.tokens, shape.heads, each))(
            layers.Dense(shape.width, name=f"{name}_{number}")(x))
        return keras.ops.transpose(heads, (0, 2, 1, 3))

    query, key, value = split("query"), split("key"), split("value")
    scores = keras.ops.matmul(query, keras.ops.transpose(key, (0, 1, 3, 2))) / np.float32(np.sqrt(each))
    mixed = keras.ops.matmul(keras.ops.softmax(scores + hidden), value)
    joined = layers.Reshape((shape.tokens, shape.width))(keras.ops.transpose(mixed, (0, 2, 1, 3)))
    return layers.Dense(shape.width, name=f"mixed_{number}")(joined)


def randomised(shape: Shape, seed: int) -> keras.Model:
    """An encoder whose activations are about as large as those of a trained one, and whose norms are not initial."""
    random, model = np.random.default_rng(seed), encoder(shape)
    for layer in model.layers:
        if isinstance(layer, keras.layers.LayerNormalization):
            layer.gamma.assign(random.uniform(0.6, 1.4, layer.gamma.shape))
            layer.beta.assign(random.normal(0, 0.1, layer.beta.shape))
        elif isinstance(layer, keras.layers.Dense):
            # A norm's output is near 1, so queries and keys get a standard deviation of 1.1 and the scores one of 1.2:
            # each token looks at some others. With Keras' initial weights all look at all alike.
            scale = {"narrow": 0.8, "mixed": 0.9}.get(layer.name.partition("_")[0], 1.1)
            layer.kernel.assign(random.normal(0, scale / np.sqrt(layer.kernel.shape[0]), layer.kernel.shape))
            layer.bias.assign(random.normal(0, 0.05, layer.bias.shape))
        elif layer.weights:
            for weight in layer.weights:
                weight.assign(random.normal(0, 0.05, weight.shape))
    return model
