"""Which nodes one int8 kernel computes, and why a contraction has none."""
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from graph_session import build, seeded, tf, v1_control_flow

from export.graph import Graph
from export.precision.blocks import Block, find

v1 = tf.compat.v1
_W = seeded((3, 3, 4, 4))


def _blocks(make: Callable[[Any], Any], outputs: tuple[str, ...] = ("y",), inputs: tuple[str, ...] = ("x",),
            shape: Any = (None, 8, 8, 4), dtype: Any = tf.float32) -> tuple[dict[str, Block], dict[str, str]]:
    def made() -> None:
        tf.identity(make(v1.placeholder(dtype, shape, "x")), "y")
    return find(Graph.from_graph_def(build(made), inputs, outputs))


def _conv(x: Any, padding: Any = "SAME", **more: Any) -> Any:
    return tf.nn.conv2d(x, tf.constant(_W), 1, padding, name="conv", **more)


@pytest.mark.parametrize("bias", [
    lambda h: tf.nn.bias_add(h, tf.constant(seeded((4,)))), lambda h: h + tf.constant(seeded((4,))),
    lambda h: tf.constant(seeded((1, 1, 1, 4))) + h, lambda h: tf.raw_ops.Add(x=h, y=tf.constant(seeded((1, 4)))),
    lambda h: h + 2.5, lambda h: h + tf.constant([2.5])])
def test_bias_forms(bias: Callable[[Any], Any]) -> None:
    block = _blocks(lambda x: tf.nn.relu(bias(_conv(x))))[0]["conv"]
    assert len(block.members) == 3
    assert block.bias.shape == (4,)
    assert block.activation is not None
    assert block.activation.name == "Relu"


@pytest.mark.parametrize("addend", [seeded((8, 8, 4)), seeded((8, 1)), seeded((1, 1, 1, 1, 4))])
def test_what_is_no_bias(addend: Any) -> None:
    block = _blocks(lambda x: _conv(x) + tf.constant(addend))[0]["conv"]
    assert block.members == ("conv",)


def test_a_constant_that_widens_one_channel_is_no_bias() -> None:
    weights = seeded((3, 3, 4, 1))
    blocks, _ = _blocks(lambda x: tf.nn.conv2d(x, tf.constant(weights), 1, "SAME", name="conv")
                        + tf.constant(seeded((5,))))
    assert blocks["conv"].members == ("conv",)


def test_a_pad_is_merged_and_its_control_inputs_are_known() -> None:
    def make(x: Any) -> Any:
        return _conv(tf.raw_ops.Pad(input=x, paddings=[[0, 0], [1, 2], [0, 1], [0, 0]], name="pad"), "VALID")
    block = _blocks(make)[0]["conv"]
    assert block.x == "x"
    assert block.pad == "pad"
    assert block.pads
    assert block.padding == {"padding": "EXPLICIT", "explicit_paddings": [0, 0, 1, 2, 0, 1, 0, 0]}
    assert _blocks(make, outputs=("y", "pad"))[0]["conv"].x == "pad"
    assert _blocks(make, inputs=("x", "pad"))[0]["conv"].x == "pad"


@pytest.mark.parametrize(("padding", "size", "pads"), [
    ("SAME", 3, True), ("SAME", 1, False), ("VALID", 3, False), ([[0, 0]] * 4, 3, False),
    ([[0, 0], [0, 1], [0, 0], [0, 0]], 3, True)])
def test_which_paddings_put_zeros(padding: Any, size: int, pads: bool) -> None:
    weights = seeded((size, size, 4, 4))
    assert _blocks(lambda x: tf.nn.conv2d(x, tf.constant(weights), 1, padding, name="conv"))[0]["conv"].pads is pads


def test_a_fed_bias_or_addition_is_no_member() -> None:
    def make(x: Any) -> Any:
        return tf.nn.relu(tf.nn.bias_add(_conv(x), tf.constant(seeded((4,))), name="bias"), name="relu")
    assert _blocks(make)[0]["conv"].members == ("conv", "bias", "relu")
    assert _blocks(make, inputs=("x", "bias"))[0]["conv"].members == ("conv",)
    assert _blocks(make, inputs=("x", "relu"))[0]["conv"].members == ("conv", "bias")
    assert _blocks(make, outputs=("y", "bias"))[0]["conv"].members == ("conv", "bias")


def _grouped(x: Any) -> Any:
    return tf.nn.conv2d(x, tf.constant(seeded((3, 3, 2, 4))), 1, "SAME")


def _changing_weights(x: Any) -> Any:
    return tf.nn.conv2d(x, tf.reshape(tf.reduce_sum(x, [0, 1, 2]), [1, 1, 4, 1]), 1, "SAME")


def _transposed(x: Any) -> Any:
    return tf.matmul(tf.reshape(x, [4, -1]), tf.constant(seeded((4, 3))), transpose_a=True)


def _many_inputs(x: Any) -> Any:
    return tf.matmul(tf.reshape(x, [-1, 70000]), tf.constant(np.ones((70000, 1), np.float32)))


@pytest.mark.parametrize(("make", "more", "reason"), [
    (_grouped, {}, "a grouped convolution"),
    (_conv, {"shape": (None, 8, 8, None)}, "may be grouped"),
    (_conv, {"shape": None}, "may be grouped"),
    (lambda x: tf.nn.conv2d(x, tf.constant(_W), 1, "SAME", data_format="NCHW"), {"shape": (1, 4, 8, 8)}, "NHWC only"),
    (lambda x: tf.nn.conv2d(x, tf.constant(_W, tf.float64), 1, "SAME"), {"dtype": tf.float64}, "double"),
    (lambda x: tf.nn.conv2d(x, tf.constant(_W, tf.float16), 1, "SAME"), {"dtype": tf.float16}, "half"),
    (_changing_weights, {}, "not constant"),
    (lambda x: tf.nn.conv2d(x, tf.constant(_W * np.nan), 1, "SAME"), {}, "NaN or inf"),
    (lambda x: tf.nn.conv2d(x, tf.constant(_W * 1e30), 1, "SAME"), {}, "too large"),
    (lambda x: tf.nn.bias_add(_conv(x), tf.constant([1, np.inf, 0, 0])), {}, "bias holds NaN"),
    (_transposed, {}, "transposed"),
    (_many_inputs, {}, "32 bits")])
def test_reasons(make: Callable[[Any], Any], more: dict[str, Any], reason: str) -> None:
    blocks, reasons = _blocks(make, **more)
    assert not blocks
    assert len(reasons) == 1
    assert reason in next(iter(reasons.values()))


def _dense(x: Any, name: str) -> Any:
    return tf.matmul(x, tf.constant(seeded((4, 4))), name=name)


def test_loops_of_tensorflow_1_stay_float() -> None:
    def make(x: Any) -> Any:
        looped = v1.while_loop(lambda i, _: i < 2, lambda i, value: (i + 1, _dense(value, "inside")),
                               [0, _dense(x, "before")], name="loop")[1]
        return _dense(looped, "after")
    with v1_control_flow():
        blocks, reasons = _blocks(make, shape=(None, 4))
    assert list(blocks) == ["before", "after"]
    assert reasons == {"loop/inside": "it is inside a while loop"}


def test_conditions_of_tensorflow_1_are_no_loops() -> None:
    def make(x: Any) -> Any:
        return v1.cond(tf.reduce_sum(x) > 0, lambda: _dense(x, "yes"), lambda: x, name="cond")
    with v1_control_flow():
        assert list(_blocks(make, shape=(None, 4))[0]) == ["cond/yes"]
