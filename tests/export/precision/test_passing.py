"""What lies between two contractions stays in eight bits and moves the numbers as it moved floats."""
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from graph_session import seeded, tf
from int8_simulation import Quantized, assert_as_simulated, assert_near_float, eight_bit_gaps, quantized

raw = tf.raw_ops


def _conv(x: Any, size: int = 3, seed: int = 1, padding: str = "SAME", channels: int = 4,
          scale: float = 1) -> Any:
    weights = scale * seeded((size, size, int(x.shape[-1]), channels), seed) / (2 * size)
    made = tf.nn.conv2d(x, tf.constant(weights.astype(np.float32)), 1, padding)
    return tf.nn.bias_add(made, tf.constant(seeded((channels,), seed + 9)))


def _dense(x: Any) -> Any:
    return tf.matmul(x, tf.constant(seeded((int(x.shape[-1]), 3), 7) / 8))


def _around(between: Callable[[Any], Any], signed: bool, pads: bool) -> Quantized:
    """conv -> between -> conv. signed, pads: the numbers between are negative too, and padded by the second."""
    def make() -> None:
        h = _conv(tf.compat.v1.placeholder(tf.float32, (None, 8, 8, 4), "x"))
        h = between(h if signed else tf.nn.relu(h))
        if len(h.shape) == 4 and h.shape[-1] is not None:
            h = _conv(h, 3 if pads else 1, seed=2)
        elif len(h.shape) == 2:
            h = _dense(h)
        tf.identity(h, "y")
    return quantized(make, feeds={"x": seeded((3, 8, 8, 4), 5)})


def _pool(op: Any, size: int, stride: int, padding: str) -> Callable[[Any], Any]:
    return lambda h: op(h, size, stride, padding)


def _with_branch(h: Any) -> Any:
    return tf.concat([h, tf.nn.relu(_conv(h, seed=3, scale=4)), _conv(h, 1, seed=4, channels=8)], 3)


def _raw_slice(h: Any) -> Any:
    return raw.Slice(input=h, begin=[0, 1, 2, 0], size=[-1, 6, 5, 4])


BETWEEN: dict[str, Callable[[Any], Any]] = {
    "max same": _pool(tf.nn.max_pool2d, 3, 2, "SAME"), "max valid": _pool(tf.nn.max_pool2d, 2, 2, "VALID"),
    "max uneven": lambda h: tf.nn.max_pool2d(h, [1, 3, 2, 1], [1, 1, 2, 1], "SAME"),
    "average same": _pool(tf.nn.avg_pool2d, 3, 2, "SAME"), "average same 1": _pool(tf.nn.avg_pool2d, 3, 1, "SAME"),
    "average valid": _pool(tf.nn.avg_pool2d, 2, 2, "VALID"), "average all": _pool(tf.nn.avg_pool2d, 8, 8, "VALID"),
    "concat": _with_branch,
    "concat with a float": lambda h: tf.concat([h, tf.nn.softmax(h)], -1),
    "concat of rows": lambda h: tf.concat([h, h], 1),
    "reshape": lambda h: tf.reshape(h, [-1, 4, 16, 4]), "flatten": lambda h: tf.reshape(h, [-1, 256]),
    "squeeze": lambda h: tf.squeeze(tf.nn.avg_pool2d(h, 8, 8, "VALID"), [1, 2]),
    "expand": lambda h: tf.squeeze(tf.expand_dims(h, 1), [1]),
    "identity": lambda h: tf.identity(tf.stop_gradient(h)),
    "transpose": lambda h: tf.transpose(h, [0, 2, 1, 3]),
    "no transpose": lambda h: tf.transpose(h, [0, 1, 2, 3]),
    "strided slice": lambda h: h[:, 1:7, ::2, :], "slice": _raw_slice, "rows": lambda h: h[:, :5],
    "pad": lambda h: raw.Pad(input=h, paddings=[[0, 0], [1, 2], [0, 3], [0, 4]]),
    "mirror": lambda h: tf.pad(h, [[0, 0], [1, 1], [2, 0], [0, 0]], "REFLECT"),
    "gather": lambda h: tf.gather(h, [3, 1, 1, 0, 2], axis=3),
    "tile": lambda h: tf.tile(h, [1, 2, 1, 2]),
    "nearest": lambda h: tf.compat.v1.image.resize_nearest_neighbor(h, [13, 16]),
    "depth to space": lambda h: tf.nn.depth_to_space(h, 2), "space to depth": lambda h: tf.nn.space_to_depth(h, 2),
    "space to batch": lambda h: raw.BatchToSpaceND(
        input=_conv(raw.SpaceToBatchND(input=h, block_shape=[2, 2], paddings=[[2, 2], [2, 2]]), 3, 8, "VALID"),
        block_shape=[2, 2], crops=[[0, 0], [0, 0]]),
    "shuffle": lambda h: tf.reshape(tf.transpose(tf.reshape(h, [-1, 8, 8, 2, 2]), [0, 1, 2, 4, 3]), [-1, 8, 8, 4]),
    "shuffle of rank 6": lambda h: tf.reshape(tf.transpose(tf.reshape(h, [-1, 4, 2, 4, 2, 4]), [0, 1, 3, 2, 4, 5]),
                                              [-1, 16, 4, 4])}


@pytest.mark.parametrize(("signed", "pads"), [(False, True), (True, True), (True, False)],
                         ids=["unsigned", "signed", "offset"])
@pytest.mark.parametrize("name", BETWEEN)
def test_between_two_contractions(name: str, signed: bool, pads: bool) -> None:
    it = _around(BETWEEN[name], signed, pads)
    assert all(layer.precision == "int8" for layer in it.layers)
    assert eight_bit_gaps(it.result) == []
    if "float" not in name:
        assert it.ops["QuantizeV2"] == 1
        assert it.ops.get("Dequantize", 0) <= 1
    # The mean of a few whole numbers often lies between two.
    assert_as_simulated(it, steps=2.01, share=0.2 if "average" in name else 0.05)
    assert_near_float(it, 0.1)


@pytest.mark.parametrize("between", [
    lambda h: raw.PadV2(input=h, paddings=[[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=2.0),
    lambda h: tf.compat.v1.image.resize_bilinear(h, [16, 16]),
    lambda h: tf.reverse(h, [1]), tf.nn.softmax, lambda h: h * 2.0,
    lambda h: raw.MaxPool(input=h, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="EXPLICIT",
                          explicit_paddings=[0, 0, 1, 1, 1, 1, 0, 0])])
def test_what_computes_or_has_no_kernel_is_float(between: Callable[[Any], Any]) -> None:
    it = _around(between, signed=False, pads=True)
    assert it.ops["QuantizeV2"] == 2
    assert it.ops["Dequantize"] == 2
    assert_as_simulated(it, steps=2.01, share=0.1)


def test_a_pool_before_a_float_node_is_in_eight_bits() -> None:
    def make() -> None:
        h = tf.nn.relu(_conv(tf.compat.v1.placeholder(tf.float32, (None, 8, 8, 4), "x")))
        tf.nn.softmax(tf.nn.avg_pool2d(h, 2, 2, "VALID"), name="y")
    it = quantized(make, feeds={"x": seeded((3, 8, 8, 4), 5)})
    assert it.ops["QuantizedAvgPool"] == 1
    assert_near_float(it)


def test_relu6_beside_larger_numbers_is_cut_off_in_float() -> None:
    """The kernel has no Relu6: its largest number is 6 or less, which the other branch does not allow."""
    def make() -> None:
        x = tf.compat.v1.placeholder(tf.float32, (None, 8, 8, 4), "x")
        both = tf.concat([tf.nn.relu6(_conv(x, scale=8)), tf.nn.relu6(_conv(x, scale=20)),
                          tf.nn.relu(_conv(x, scale=9))], 3)
        tf.identity(_conv(both, seed=5), "y")
    it = quantized(make, feeds={"x": seeded((3, 8, 8, 4), 5)})
    assert it.ops["Relu6"] == 2
    assert_as_simulated(it, steps=2.01, share=0.05)
    assert_near_float(it)
