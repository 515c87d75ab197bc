import pytest
from graph_session import build, compared, ops, reasons, seeded, tf, transformed
from hypothesis import given, settings
from hypothesis import strategies as st
from transform_oracle import ORACLE

R = tf.raw_ops


def _graph(shape=(1, 9, 8, 3), filters=(3, 2, 3, 5), size=(12, 11), dtype=tf.float32, keep="", fed_size=False,
           resize=None, **attrs):
    def make():
        x = tf.compat.v1.placeholder(dtype, shape, "x")
        wanted = tf.compat.v1.placeholder(tf.int32, (2,), "size") if fed_size else tf.constant(size)
        images = R.ResizeBilinear(images=x, size=wanted, name="resize", **(resize or {}))
        if keep:
            tf.nn.relu(images, keep)
        weights = tf.constant(seeded(filters))
        with tf.control_dependencies([tf.identity(x, "before")]):
            R.Conv2D(input=images, filter=weights, name="y", **{"strides": [1] * 4, "padding": "SAME"} | attrs)
    return build(make)


FEEDS = {"x": seeded((1, 9, 8, 3), 3)}


@settings(max_examples=20)
@given(st.sampled_from(["VALID", "SAME"]), st.integers(1, 3), st.booleans(), st.integers(3, 20), st.integers(2, 20))
def test_as_the_tool_fuses_it(padding: str, stride: int, align_corners: bool, height: int, width: int):
    graph_def = _graph(size=(height, width), padding=padding, strides=[1, stride, stride, 1],
                       resize={"align_corners": align_corners})
    after, report = transformed(graph_def, ["x"], ["y"], "fuse_resize_and_conv")
    tool = ORACLE.transform(graph_def, ["x"], ["y"], "fuse_resize_and_conv")
    assert report.steps[0].applied == 1
    assert ops(after)["FusedResizeAndPadConv2D"] == ops(tool)["FusedResizeAndPadConv2D"] == 1
    assert "ResizeBilinear" not in ops(after)
    assert compared(graph_def, after, ["y"], FEEDS).equal
    assert compared(tool, after, ["y"], FEEDS).equal


def test_a_size_that_is_fed():
    graph_def = _graph(fed_size=True)
    after, report = transformed(graph_def, ["x", "size"], ["y"], "fuse_resize_and_conv")
    assert report.steps[0].applied == 1
    assert compared(graph_def, after, ["y"], FEEDS | {"size": [4, 17]}).equal


@pytest.mark.parametrize(("reason", "graph"), [
    ("the batch is not known to be 1, and the fused kernel is wrong for any other", {"shape": (None, 9, 8, 3)}),
    ("the fused kernel does not know half_pixel_centers", {"resize": {"half_pixel_centers": True}}),
    ("it makes float images of uint8 ones, which the fused kernel does not", {"dtype": tf.uint8}),
    ("it makes float images of half ones, which the fused kernel does not", {"dtype": tf.float16}),
    ("the fused kernel has no dilations", {"dilations": [1, 2, 2, 1]}),
    ("the convolution may be grouped, which the fused kernel does not know",
     {"shape": (1, 9, 8, 4), "filters": (3, 2, 2, 6)}),
    ("'resize' is also read by 'other'", {"keep": "other"}),
])
def test_refuses(reason, graph):
    graph_def = _graph(**graph)
    after, report = transformed(graph_def, ["x"], ["y"], "fuse_resize_and_conv")
    assert reasons(report) == [reason]
    assert after == graph_def


def test_refuses_requested_images():
    graph_def = _graph()
    after, report = transformed(graph_def, ["x"], ["y", "resize"], "fuse_resize_and_conv")
    assert reasons(report) == ["'resize' is itself a requested input or output"]
    assert after == graph_def


def test_control_inputs_stay():
    after, _ = transformed(_graph(), ["x"], ["y"], "fuse_resize_and_conv")
    assert "^before" in next(node for node in after.node if node.name == "y").input
