import numpy as np
import pytest
from graph_session import build, compared, ops, reasons, seeded, tf, transformed
from hypothesis import given, settings
from hypothesis import strategies as st
from transform_oracle import ORACLE

from serving.client.answers import Budget

R = tf.raw_ops
NAME = "flatten_atrous_conv"


def atrous(rate=(2, 2), paddings=((2, 4), (2, 3)), crops=((0, 2), (0, 1)), shape=(None, 12, 13, 3),
           filters=(3, 3, 3, 4), op="Conv2D", dtype=tf.float32, keep="", rate_after=None, fed="", dtype_index=tf.int32,
           **attrs):
    """y = BatchToSpaceND(conv(SpaceToBatchND(x))), as tf.nn.atrous_conv2d makes it for SAME."""
    def make():
        x = tf.compat.v1.placeholder(dtype, shape, "x")
        pads = (tf.compat.v1.placeholder(tf.int32, (2, 2), "paddings") if fed == "paddings" else
                tf.constant([list(pair) for pair in paddings], dtype_index))
        split = R.SpaceToBatchND(input=x, block_shape=tf.constant(rate, dtype_index), paddings=pads, name="split")
        weights = (tf.compat.v1.placeholder(dtype, filters, "W") if fed == "W" else
                   tf.constant(seeded(filters), dtype, name="W"))
        with tf.control_dependencies([tf.abs(x, "before")]):
            conv = getattr(R, op)(input=split, filter=weights, name="conv",
                                  **{"strides": [1] * 4, "padding": "VALID"} | attrs)
        if keep:
            tf.nn.relu(conv, keep)
        R.BatchToSpaceND(input=conv, block_shape=tf.constant(rate_after or rate, dtype_index),
                         crops=tf.constant([list(pair) for pair in crops], dtype_index), name="y")
    return build(make)


def _feeds(batch=2, dtype=np.float32):
    return {"x": seeded((batch, 12, 13, 3), 5, dtype)}


@settings(max_examples=25)
@given(st.sampled_from(["Conv2D", "DepthwiseConv2dNative"]), st.sampled_from(["SAME", "VALID"]),
       st.tuples(st.integers(1, 3), st.integers(1, 4)), st.tuples(st.integers(1, 4), st.integers(1, 3)))
def test_what_tensorflow_makes_of_dilations(op: str, padding: str, rate: tuple[int, int], size: tuple[int, int]):
    base = [((step * (taps - 1)) // 2, step * (taps - 1) - (step * (taps - 1)) // 2) if padding == "SAME" else (0, 0)
            for step, taps in zip(rate, size, strict=True)]
    extra = [-(length + sum(pair)) % step for length, pair, step in zip((12, 13), base, rate, strict=True)]
    graph_def = atrous(rate, [(before, after + more) for (before, after), more in zip(base, extra, strict=True)],
                       [(0, more) for more in extra], filters=(*size, 3, 2), op=op)
    after, report = transformed(graph_def, ["x"], ["y"], NAME)
    assert report.steps[0].applied == 1
    assert not {"SpaceToBatchND", "BatchToSpaceND"} & set(ops(after))
    assert compared(graph_def, after, ["y"], _feeds()).equal
    conv = next(node for node in after.node if node.name == "y")
    assert (conv.op, conv.attr["padding"].s.decode()) == (op, padding if any(map(sum, base)) else "VALID")
    if padding == "SAME":
        tool = ORACLE.transform(graph_def, ["x"], ["y"], NAME)
        assert compared(tool, after, ["y"], _feeds()).equal


@settings(max_examples=15)
@given(st.lists(st.integers(0, 3), min_size=4, max_size=4), st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_any_other_padding(crops: list[int], more: list[int]):
    """The tool takes all of them for SAME."""
    pads = [crop + extra for crop, extra in zip(crops, more, strict=True)]
    pads[1] += -(12 + pads[0] + pads[1]) % 2
    pads[3] += -(13 + pads[2] + pads[3]) % 2
    for op in ("Conv2D", "DepthwiseConv2dNative"):
        graph_def = atrous((2, 2), (pads[:2], pads[2:]), (crops[:2], crops[2:]), op=op)
        after, report = transformed(graph_def, ["x"], ["y"], NAME)
        assert report.steps[0].applied == 1
        assert compared(graph_def, after, ["y"], _feeds()).equal


def test_a_filter_that_is_not_constant():
    """The tool ends its process."""
    graph_def = atrous(fed="W")
    after, report = transformed(graph_def, ["x", "W"], ["y"], NAME)
    assert report.steps[0].applied == 1
    assert compared(graph_def, after, ["y"], _feeds() | {"W": seeded((3, 3, 3, 4), 8)}).equal


def test_the_filter_is_not_copied():
    graph_def = atrous()
    after, _ = transformed(graph_def, ["x"], ["y"], NAME)
    before, now = (next(node for node in item.node if node.name == "W") for item in (graph_def, after))
    assert before == now
    assert list(next(node for node in after.node if node.name == "y").attr["dilations"].list.i) == [1, 2, 2, 1]


@pytest.mark.parametrize("op", ["Conv2D", "DepthwiseConv2dNative"])
@pytest.mark.parametrize("dtype", [tf.float64, tf.float16, tf.bfloat16])
def test_other_types(op, dtype):
    graph_def = atrous(op=op, dtype=dtype)
    after, report = transformed(graph_def, ["x"], ["y"], NAME)
    assert report.steps[0].applied == 1
    budget = {tf.float64: None, tf.float16: Budget(relative=2**-9), tf.bfloat16: Budget(relative=2**-6)}[dtype]
    assert compared(graph_def, after, ["y"], _feeds(dtype=dtype.as_numpy_dtype), budget).equal


def test_int64_rates():
    graph_def = atrous(dtype_index=tf.int64)
    after, report = transformed(graph_def, ["x"], ["y"], NAME)
    assert report.steps[0].applied == 1
    assert compared(graph_def, after, ["y"], _feeds()).equal


def test_rows_only():
    """tf.nn.convolution with dilations (2, 1) splits only the rows."""
    graph_def = atrous((2,), ((2, 4),), ((0, 2),), padding="VALID", filters=(3, 1, 3, 4))
    after, report = transformed(graph_def, ["x"], ["y"], NAME)
    assert report.steps[0].applied == 1
    assert compared(graph_def, after, ["y"], _feeds()).equal


def test_unknown_sizes():
    graph_def = atrous(shape=(None, None, None, 3))
    after, _ = transformed(graph_def, ["x"], ["y"], NAME)
    assert compared(graph_def, after, ["y"], _feeds(3)).equal


def test_the_split_may_have_other_readers():
    graph_def = atrous()
    graph_def.node.add(name="z", op="Identity", input=["split"]).attr["T"].type = 1
    after, _ = transformed(graph_def, ["x"], ["y", "z"], NAME)
    assert ops(after)["SpaceToBatchND"] == 1
    assert compared(graph_def, after, ["y", "z"], _feeds()).equal


def test_control_inputs_stay():
    after, _ = transformed(atrous(), ["x"], ["y"], NAME)
    assert "^before" in next(node for node in after.node if node.name == "y").input


@pytest.mark.parametrize(("reason", "graph"), [
    ("it is put together at another rate", {"rate_after": (4, 1), "crops": ((0, 0), (0, 0))}),
    ("the convolution inside pads each part on its own", {"padding": "SAME"}),
    ("the convolution inside has strides or dilations", {"strides": [1, 2, 2, 1]}),
    ("the convolution inside has strides or dilations", {"dilations": [1, 2, 2, 1]}),
    ("it crops more than it pads", {"crops": ((3, 0), (0, 1))}),
    ("it spreads channels", {"rate": (2, 2, 3), "paddings": ((2, 4), (2, 3), (0, 0)),
                             "crops": ((0, 2), (0, 1), (0, 0)), "filters": (3, 3, 1, 4)}),
    ("'conv' is also read by 'other'", {"keep": "other"}),
    ("the depthwise filter is not constant", {"op": "DepthwiseConv2dNative", "fed": "W"}),
])
def test_refuses(reason, graph):
    graph_def = atrous(**graph)
    inputs = ["x", graph["fed"]] if "fed" in graph else ["x"]
    after, report = transformed(graph_def, inputs, ["y"], NAME)
    assert reasons(report) == [reason]
    assert after == graph_def


def test_does_not_match_paddings_that_are_not_constant():
    graph_def = atrous(fed="paddings")
    after, report = transformed(graph_def, ["x", "paddings"], ["y"], NAME)
    assert (report.steps[0].applied, after) == (0, graph_def)


def test_refuses_a_requested_convolution():
    graph_def = atrous()
    after, report = transformed(graph_def, ["x"], ["y", "conv"], NAME)
    assert reasons(report) == ["'conv' is itself a requested input or output"]
    assert after == graph_def
