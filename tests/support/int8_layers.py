"""Layers that int8 kernels compute, and graphs of images made of them."""
from collections.abc import Callable
from typing import Any

import numpy as np
from graph_session import seeded, tf
from int8_simulation import quantized

v1, raw = tf.compat.v1, tf.raw_ops
Build = Callable[[Any], Any]


def images(make: Build, batch: int = 3, signed: bool = True, size: int = 9, **more: Any) -> Any:
    """The graph of images [?, size, size, 4] -> y."""
    def made() -> None:
        tf.identity(make(v1.placeholder(tf.float32, (None, size, size, 4), "x")), "y")
    x = seeded((batch, size, size, 4), 5)
    return quantized(made, feeds={"x": x if signed else np.abs(x)}, **more)


def conv(x: Any, size: Any = 3, channels: int = 4, seed: int = 1, padding: Any = "SAME", scale: float = 1,
          **more: Any) -> Any:
    size = (size, size) if isinstance(size, int) else size
    weights = scale * seeded((*size, int(x.shape[-1]), channels), seed) / np.sqrt(size[0] * size[1] * int(x.shape[-1]))
    made = tf.nn.conv2d(x, tf.constant(weights.astype(np.float32)), more.pop("stride", 1), padding, **more)
    return tf.nn.bias_add(made, tf.constant(seeded((channels,), seed + 100)))


def depthwise(x: Any, multiplier: int, padding: str = "SAME", stride: int = 1, dilation: int = 1) -> Any:
    made = raw.DepthwiseConv2dNative(
        input=x, filter=tf.constant(seeded((3, 3, int(x.shape[-1]), multiplier), 1)), padding=padding,
        strides=[1, stride, stride, 1], dilations=[1, dilation, dilation, 1])
    return tf.nn.bias_add(made, tf.constant(seeded((int(made.shape[-1]),), 2)))


def padded(x: Any, top: int, bottom: int, left: int, right: int) -> Any:
    return raw.Pad(input=x, paddings=[[0, 0], [top, bottom], [left, right], [0, 0]])


def sum_of(relu: bool, chain: int = 1, projected: bool = False, size: int = 1) -> Build:
    """Blocks of two convolutions to which the block's input is added, or a third convolution of it."""
    def make(x: Any) -> Any:
        h = conv(x, seed=3)
        h = tf.nn.relu(h) if relu else h
        for number in range(chain):
            branch = tf.nn.relu(conv(h, size, 6, seed=10 + number))
            branch = conv(branch, size, 4, seed=20 + number)
            shortcut = conv(h, 1, 4, seed=30 + number) if projected else h
            h = tf.add(branch, shortcut, name=f"sum{number}")
            h = tf.nn.relu(h) if relu else h
        return h
    return make
