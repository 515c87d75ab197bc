"""The int8 kernels: equal to a simulation of their arithmetic, and near the float32 layers that they replace."""
from typing import Any

import numpy as np
import pytest
from graph_session import seeded, tf
from int8_layers import Build, conv, depthwise, images, padded, sum_of
from int8_simulation import Limits, assert_as_simulated, assert_near_float, quantized

from export.precision.layer import counted

v1, raw = tf.compat.v1, tf.raw_ops


CONVOLUTIONS: dict[str, Build] = {
    "same": conv,
    "valid": lambda x: conv(x, padding="VALID"),
    "relu": lambda x: tf.nn.relu(conv(x, stride=2)),
    "relu6": lambda x: tf.nn.relu6(conv(x, padding="VALID", stride=2, scale=3)),
    "relu6 of large numbers": lambda x: tf.nn.relu6(conv(x, scale=20)),
    "merged pad": lambda x: tf.nn.relu(conv(padded(x, 1, 2, 0, 1), padding="VALID")),
    "merged pad with dilation": lambda x: conv(padded(x, 2, 2, 1, 1), padding="VALID", dilations=2),
    "merged pad with stride": lambda x: conv(padded(x, 0, 1, 0, 1), padding="VALID", stride=2),
    "explicit": lambda x: conv(x, padding=[[0, 0], [1, 2], [0, 3], [0, 0]]),
    "dilation": lambda x: conv(x, dilations=[2, 3]),
    "one by five": lambda x: conv(x, (1, 5)),
    "one by one": lambda x: conv(x, 1, padding="VALID"),
    "one by one with stride": lambda x: conv(x, 1, stride=2),
    "one channel": lambda x: conv(x, channels=1),
    "many channels": lambda x: conv(x, channels=67),
    "no bias": lambda x: tf.nn.conv2d(x, tf.constant(seeded((3, 3, 4, 5))), 1, "SAME"),
    "depthwise": lambda x: depthwise(x, 1),
    "depthwise valid relu": lambda x: tf.nn.relu(depthwise(x, 1, "VALID")),
    "depthwise with stride and multiplier": lambda x: tf.nn.relu6(depthwise(x, 2, stride=2)),
    "depthwise with three": lambda x: depthwise(x, 3, "VALID"),
    "depthwise with dilation": lambda x: depthwise(x, 1, dilation=2),
    "depthwise merged pad": lambda x: tf.nn.relu(depthwise(padded(x, 0, 1, 2, 1), 1, "VALID", stride=2)),
    "depthwise merged pad with dilation": lambda x: depthwise(padded(x, 2, 2, 2, 2), 2, "VALID", dilation=2),
}


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str, signed: bool) -> None:
    it = images(CONVOLUTIONS[name], signed=signed)
    assert counted(it.layers) == {"int8": 1}
    assert not {"Conv2D", "DepthwiseConv2dNative", "BiasAdd", "Pad", "Relu", "Relu6"} & it.ops.keys()
    assert_as_simulated(it)
    assert_near_float(it)


@pytest.mark.parametrize("between", [
    lambda h: h, tf.nn.relu, tf.nn.relu6, tf.nn.elu, tf.tanh, tf.sigmoid, lambda h: tf.nn.leaky_relu(h, 0.3),
    lambda h: tf.nn.gelu(h, approximate=False), lambda h: tf.nn.gelu(h, approximate=True)],
    ids=["none", "relu", "relu6", "elu", "tanh", "sigmoid", "leaky", "gelu", "gelu by tanh"])
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_products(between: Build, signed: bool) -> None:
    def make() -> None:
        x = v1.placeholder(tf.float32, (None, 9), "x")
        first = tf.matmul(x, tf.constant(seeded((6, 9), 1) * seeded((6, 1), 7)), transpose_b=True)
        hidden = between(tf.nn.bias_add(first, tf.constant(seeded((6,), 2))))
        tf.identity(tf.matmul(hidden, tf.constant(seeded((6, 5), 4))), "y")
    x = seeded((5, 9), 5)
    it = quantized(make, feeds={"x": x if signed else np.abs(x)})
    assert {op for op in it.ops if op != "Const"} == {
        "Placeholder", "QuantizeV2", "_QuantizedMatMul", "Identity"}
    assert_as_simulated(it)
    assert_near_float(it, 0.1)


SUMS = {
    "relu": sum_of(relu=True), "relu, wide": sum_of(relu=True, size=3, chain=2),
    "negative": sum_of(relu=False), "negative, chain": sum_of(relu=False, chain=4),
    "projected": sum_of(relu=True, chain=2, projected=True),
    "projected, negative": sum_of(relu=False, projected=True),
    "relu6": lambda x: tf.nn.relu6(conv(tf.nn.relu(conv(h := tf.nn.relu(conv(x)), seed=4)), seed=5) + h),
    "of a pool": lambda x: tf.nn.relu(conv(h := tf.nn.max_pool2d(tf.nn.relu(conv(x)), 2, 2, "VALID"), 1, 4, 9) + h)}


@pytest.mark.parametrize("name", SUMS)
def test_residual_additions_are_fused(name: str) -> None:
    it = images(SUMS[name])
    if name == "of a pool":  # its convolution reads what it would write over
        assert "may still read" in next(iter(it.reasons().values()))
    else:
        assert not {"AddV2", "Add", "Relu", "Relu6", "BiasAdd"} & it.ops.keys()
        assert it.ops["QuantizeV2"] == 1
        assert it.ops.get("Dequantize", 0) == 1
    assert_as_simulated(it, steps=3.01, share=0.05)
    assert_near_float(it, 0.1)


def test_batches_and_repeated_runs_give_the_same_answers() -> None:
    """The sum is written into another tensor's buffer: nothing of one run may be left for the next."""
    it = images(sum_of(relu=True, chain=2, projected=True))
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(it.graph_def, name="")
    with v1.Session(graph=graph) as session:
        whole = seeded((7, 9, 9, 4), 8)
        wanted = session.run("y:0", {"x:0": whole})
        for batch in (1, 2, 5, 1):
            for start in range(7 - batch):
                part = session.run("y:0", {"x:0": whole[start:start + batch]})
                np.testing.assert_array_equal(part, wanted[start:start + batch])


@pytest.mark.parametrize("weights", ["zero channel", "all zero", "tiny", "one large"])
def test_odd_weights(weights: str) -> None:
    values = seeded((3, 3, 4, 5), 1)
    values[..., 2] = 0
    if weights == "all zero":
        values[:] = 0
    elif weights == "tiny":
        values[..., 1] *= 1e-30
    elif weights == "one large":
        values[..., 3] *= 1e6
    it = images(lambda x: tf.nn.bias_add(tf.nn.conv2d(x, tf.constant(values), 1, "SAME"), tf.constant(seeded((5,)))))
    assert np.isfinite(it.run()["y"]).all()
    assert_as_simulated(it)


def test_each_channel_has_its_own_weight_range() -> None:
    factors = 10.0 ** np.arange(-3, 3)
    weights = (seeded((9, 6)) * factors).astype(np.float32)

    def make() -> None:
        product = tf.matmul(v1.placeholder(tf.float32, (None, 9), "x"), tf.constant(weights))
        tf.multiply(product, tf.constant(1 / factors, tf.float32), name="y")
    assert_near_float(quantized(make, feeds={"x": seeded((8, 9), 3)}), 0.02)


def test_ranges_that_eight_bits_cannot_have() -> None:
    def reasons(low: float, high: float) -> dict[str, str]:
        return images(conv, ranges={"x": Limits(low, high)}).reasons()
    assert "reach from -inf to 1" in reasons(-np.inf, 1)["Conv2D"]
    assert "reach from nan to nan" in reasons(np.nan, np.nan)["Conv2D"]
    assert "reach from 0 to 1e+20" in reasons(0, 1e20)["Conv2D"]
    assert not reasons(-1e9, 1e9)
    assert not reasons(-3, -2)
    assert not reasons(0, 0)


def test_numbers_outside_the_range_are_cut_off() -> None:
    it = images(conv, ranges={"x": Limits(-1, 1), "BiasAdd": Limits(-0.5, 0.75)})
    found = it.run()["y"]
    assert found.min() == pytest.approx(-0.5, abs=0.01)
    assert found.max() == pytest.approx(0.75, abs=0.01)


def test_negative_only_tensors() -> None:
    def make(x: Any) -> Any:
        low = conv(-tf.abs(x) - 5.0, 1, seed=3) - 40.0
        return conv(low, 3, padding="VALID", seed=4)
    it = images(make)
    assert counted(it.layers) == {"int8": 2}
    assert_near_float(it)
