import numpy as np
import pytest
from graph_session import build, compared, ops, reasons, seeded, session_run, tf, transformed
from hypothesis import given, settings
from hypothesis import strategies as st
from transform_oracle import ORACLE

from serving.client.answers import Budget

PADS = [[0, 0], [1, 2], [2, 1], [0, 0]]
R = tf.raw_ops


def padded_conv(mode="REFLECT", shape=(1, 9, 8, 3), filters=(3, 2, 3, 5), dtype=tf.float32, pads=PADS, keep=None,
                **attrs):
    """y = Conv2D(MirrorPad(x)), or of Pad(x) for mode None; `keep`: another reader of 'pad'."""
    def make():
        x = tf.compat.v1.placeholder(dtype, shape, "x")
        pad = (R.MirrorPad(input=x, paddings=pads, mode=mode, name="pad") if mode else
               R.Pad(input=x, paddings=pads, name="pad"))
        if keep:
            tf.nn.relu(pad, keep)
        weights = tf.constant(seeded(filters), dtype)
        with tf.control_dependencies([tf.nn.relu(x, "before")]):
            R.Conv2D(input=pad, filter=weights, name="y",
                     **{"strides": [1] * 4, "padding": "VALID"} | attrs)
    return build(make)


def _feeds(shape=(1, 9, 8, 3), dtype=np.float32):
    return {"x": seeded(shape, 3, dtype)}


@settings(max_examples=15)
@given(st.sampled_from(["REFLECT", "SYMMETRIC"]), st.sampled_from(["VALID", "SAME"]), st.integers(1, 3),
       st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_mirrored_as_the_tool_fuses_it(mode: str, padding: str, stride: int, pads: list[int]):
    graph_def = padded_conv(mode, pads=[[0, 0], pads[:2], pads[2:], [0, 0]], padding=padding,
                            strides=[1, stride, stride, 1])
    after, report = transformed(graph_def, ["x"], ["y"], "fuse_pad_and_conv")
    tool = ORACLE.transform(graph_def, ["x"], ["y"], "fuse_pad_and_conv")
    assert report.steps[0].applied == 1
    assert ops(after)["FusedPadConv2D"] == ops(tool)["FusedPadConv2D"] == 1
    assert "MirrorPad" not in ops(after)
    assert compared(graph_def, after, ["y"], _feeds()).equal
    assert compared(tool, after, ["y"], _feeds()).equal


@settings(max_examples=15)
@given(st.sampled_from(["VALID", "EXPLICIT"]), st.integers(1, 3), st.integers(1, 2), st.integers(1, 4),
       st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_zero_padding_of_any_batch(padding: str, stride: int, dilation: int, batch: int, pads: list[int]):
    explicit = {"explicit_paddings": [0, 0, 1, 0, 2, 1, 0, 0]} if padding == "EXPLICIT" else {}
    graph_def = padded_conv(None, shape=(None, None, None, 3), pads=[[0, 0], pads[:2], pads[2:], [0, 0]],
                            padding=padding, strides=[1, stride, stride, 1], dilations=[1, dilation, dilation, 1],
                            **explicit)
    after, report = transformed(graph_def, ["x"], ["y"], "fuse_pad_and_conv")
    assert report.steps[0].applied == 1
    assert "Pad" not in ops(after)
    assert compared(graph_def, after, ["y"], _feeds((batch, 9, 8, 3))).equal


@pytest.mark.parametrize("dtype", [tf.float64, tf.float16, tf.bfloat16])
def test_zero_padding_of_other_types(dtype):
    graph_def = padded_conv(None, dtype=dtype)
    after, report = transformed(graph_def, ["x"], ["y"], "fuse_pad_and_conv")
    assert report.steps[0].applied == 1
    assert compared(graph_def, after, ["y"], _feeds(dtype=dtype.as_numpy_dtype)).equal


@pytest.mark.parametrize("dtype", [tf.float64, tf.bfloat16])
def test_mirrored_of_other_types(dtype):
    graph_def = padded_conv(dtype=dtype)
    after, report = transformed(graph_def, ["x"], ["y"], "fuse_pad_and_conv")
    assert report.steps[0].applied == 1
    budget = Budget(relative=2**-7) if dtype == tf.bfloat16 else None
    assert compared(graph_def, after, ["y"], _feeds(dtype=dtype.as_numpy_dtype), budget).equal


def test_grouped_zero_padding():
    graph_def = padded_conv(None, shape=(2, 9, 8, 4), filters=(3, 2, 2, 6))
    after, report = transformed(graph_def, ["x"], ["y"], "fuse_pad_and_conv")
    assert report.steps[0].applied == 1
    assert compared(graph_def, after, ["y"], _feeds((2, 9, 8, 4))).equal


@pytest.mark.parametrize(("reason", "graph_def"), [
    ("the batch is not known to be 1, and the fused kernel is wrong for any other", {"shape": (2, 9, 8, 3)}),
    ("the batch is not known to be 1, and the fused kernel is wrong for any other", {"shape": (None, 9, 8, 3)}),
    ("the batch is not known to be 1, and the fused kernel is wrong for any other", {"shape": None}),
    ("the convolution may be grouped, which the fused kernel does not know",
     {"shape": (1, 9, 8, 4), "filters": (3, 2, 2, 6)}),
    ("the fused kernel has no dilations", {"dilations": [1, 2, 2, 1]}),
    ("the fused kernel has no explicit paddings",
     {"padding": "EXPLICIT", "explicit_paddings": [0, 0, 1, 1, 1, 1, 0, 0]}),
    ("the fused kernel rounds half differently", {"dtype": tf.float16}),
    ("the fused kernel takes NHWC only", {"data_format": "NCHW", "filters": (3, 2, 12, 5)}),
    ("it pads batch or channels", {"pads": [[0, 0], [1, 2], [2, 1], [2, 1]], "filters": (3, 2, 3, 6)}),
    ("it pads batch or channels", {"mode": None, "pads": [[1, 0], [1, 2], [2, 1], [0, 0]]}),
    ("the convolution pads too, by an amount that depends on the image's size", {"mode": None, "padding": "SAME"}),
    ("'pad' is also read by 'other'", {"keep": "other"}),
])
def test_refuses(reason, graph_def):
    graph_def = padded_conv(**graph_def)
    after, report = transformed(graph_def, ["x"], ["y"], "fuse_pad_and_conv")
    assert reasons(report) == [reason]
    assert after == graph_def


def test_the_tools_result_is_wrong_for_a_batch():
    """The reason why only a batch of one is fused: if this test fails, TensorFlow has corrected its kernel."""
    graph_def = padded_conv(shape=(2, 9, 8, 3))
    tool = ORACLE.transform(graph_def, ["x"], ["y"], "fuse_pad_and_conv")
    feeds = _feeds((2, 9, 8, 3))
    right, wrong = (session_run(item, ["y"], feeds)["y"] for item in (graph_def, tool))
    np.testing.assert_allclose(wrong[0], right[0], atol=1e-4)
    np.testing.assert_allclose(wrong[1], right[0], atol=1e-4)


def test_refuses_padding_that_is_requested_or_fed():
    graph_def = padded_conv()
    for inputs, outputs in ((["x"], ["y", "pad:0"]), (["x", "pad"], ["y"])):
        after, report = transformed(graph_def, inputs, outputs, "fuse_pad_and_conv")
        assert reasons(report) == ["'pad' is itself a requested input or output"]
        assert after == graph_def


def test_refuses_a_gpu():
    graph_def = padded_conv()
    graph_def.node[-1].device = "/device:GPU:0"
    _, report = transformed(graph_def, ["x"], ["y"], "fuse_pad_and_conv")
    assert reasons(report) == ["the fused kernel exists for CPUs only"]


def test_control_inputs_stay():
    graph_def = padded_conv()
    next(node for node in graph_def.node if node.name == "pad").input.append("^earlier")
    graph_def.node.add(name="earlier", op="NoOp")
    after, _ = transformed(graph_def, ["x"], ["y"], "fuse_pad_and_conv")
    assert {"^before", "^earlier"} <= set(next(node for node in after.node if node.name == "y").input)
