"""Contractions, and norms to put before or after them, with random weights and statistics."""
from collections.abc import Callable
from typing import Any

import numpy as np
from graph_session import seeded

from export.runtime import tf

CHANNELS = 6
v1 = tf.compat.v1


def constant(shape: Any, seed: int, dtype: Any = np.float32) -> Any:
    return tf.constant(seeded(shape, seed, dtype))


def positive(shape: Any, seed: int) -> Any:
    return tf.constant(np.abs(seeded(shape, seed)) + np.float32(0.3))


def conv2d(x: Any, seed: int = 1, padding: Any = "SAME", size: int = 3, **options: Any) -> Any:
    return tf.nn.conv2d(x, constant((size, size, x.shape[-1], CHANNELS), seed), options.pop("strides", 1), padding,
                        **options)


# Name -> (shape of the input, function from input to output). The output has CHANNELS channels on its last axis.
CONTRACTIONS: dict[str, tuple[tuple[int | None, ...], Callable[[Any], Any]]] = {
    "conv2d_same": ((None, 7, 7, 3), conv2d),
    "conv2d_valid_strided": ((None, 7, 7, 3), lambda x: conv2d(x, padding="VALID", strides=2)),
    "conv2d_dilated": ((None, 9, 9, 3), lambda x: conv2d(x, dilations=2)),
    "conv2d_explicit": ((None, 7, 7, 3), lambda x: conv2d(x, padding=[[0, 0], [1, 2], [0, 1], [0, 0]])),
    "conv2d_grouped": ((None, 7, 7, 4), lambda x: tf.nn.conv2d(x, constant((3, 3, 2, CHANNELS), 1), 1, "SAME")),
    "depthwise": ((None, 7, 7, 3), lambda x: tf.nn.depthwise_conv2d(x, constant((3, 3, 3, 2), 2), [1] * 4, "SAME")),
    "conv2d_transpose": ((2, 5, 5, 3), lambda x: tf.nn.conv2d_transpose(
        x, constant((3, 3, CHANNELS, 3), 3), (2, 10, 10, CHANNELS), 2, "SAME")),
    "conv3d": ((None, 4, 4, 4, 2), lambda x: tf.nn.conv3d(x, constant((2, 2, 2, 2, CHANNELS), 4), [1] * 5, "SAME")),
    "matmul": ((None, 5), lambda x: tf.matmul(x, constant((5, CHANNELS), 5))),
    "matmul_transpose_b": ((None, 5), lambda x: tf.matmul(x, constant((CHANNELS, 5), 6), transpose_b=True)),
    "matmul_transpose_a": ((5, 2), lambda x: tf.matmul(x, constant((5, CHANNELS), 7), transpose_a=True)),
    "batch_matmul": ((None, 4, 5), lambda x: tf.matmul(x, constant((5, CHANNELS), 8))),
    "batch_matmul_adjoint": ((None, 4, 5), lambda x: tf.matmul(x, constant((CHANNELS, 5), 9), adjoint_b=True)),
    "batch_matmul_many": ((2, 4, 5), lambda x: tf.matmul(x, constant((2, 5, CHANNELS), 10))),
}


def fused(version: int) -> Callable[[Any, int], Any]:
    def norm(x: Any, seed: int) -> Any:
        channels = x.shape[-1]
        op = getattr(tf.raw_ops, f"FusedBatchNorm{'' if version == 1 else f'V{version}'}")
        return op(x=x, scale=constant([channels], seed), offset=constant([channels], seed + 1),
                  mean=constant([channels], seed + 2), variance=positive([channels], seed + 3), epsilon=2e-3,
                  is_training=False).y
    return norm


def keras_norm(x: Any, seed: int) -> Any:
    """Batch normalization as Keras 3 exports it: Rsqrt, Mul, Sub and AddV2 on constants."""
    channels = x.shape[-1]
    return tf.nn.batch_normalization(x, constant([channels], seed), positive([channels], seed + 1),
                                     constant([channels], seed + 2), constant([channels], seed + 3), 1e-3)


ARITHMETIC: dict[str, Callable[[Any, int], Any]] = {
    "mul_vector": lambda x, seed: x * constant([x.shape[-1]], seed),
    "mul_first": lambda x, seed: constant([x.shape[-1]], seed) * x,
    "mul_ones_and_vector": lambda x, seed: x * constant([1] * (len(x.shape) - 1) + [x.shape[-1]], seed),
    "mul_scalar": lambda x, seed: x * 0.7,
    "mul_single": lambda x, seed: x * constant([1], seed),
    "div": lambda x, seed: x / positive([x.shape[-1]], seed),
    "sub": lambda x, seed: x - constant([x.shape[-1]], seed),
    "reversed_sub": lambda x, seed: constant([x.shape[-1]], seed) - x,
    "add_then_mul": lambda x, seed: (x + constant([x.shape[-1]], seed)) * constant([x.shape[-1]], seed + 1),
    "keras": keras_norm,
    "bias_then_keras": lambda x, seed: keras_norm(tf.nn.bias_add(x, constant([x.shape[-1]], seed + 7)), seed),
    "keras_twice": lambda x, seed: keras_norm(keras_norm(x, seed), seed + 5),
}
FUSED: dict[str, Callable[[Any, int], Any]] = {
    "fused_v1": fused(1), "fused_v2": fused(2), "fused_v3": fused(3),
    "bias_then_fused": lambda x, seed: fused(3)(tf.nn.bias_add(x, constant([x.shape[-1]], seed + 7)), seed),
    "fused_then_mul": lambda x, seed: fused(3)(x, seed) * constant([x.shape[-1]], seed + 9),
}


def norms_for(rank: int) -> dict[str, Callable[[Any, int], Any]]:
    return ARITHMETIC | FUSED if rank == 4 else ARITHMETIC
