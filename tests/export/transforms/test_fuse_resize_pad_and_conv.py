import pytest
from graph_session import build, compared, ops, reasons, seeded, tf, transformed
from hypothesis import given, settings
from hypothesis import strategies as st
from transform_oracle import ORACLE

R = tf.raw_ops
FEEDS = {"x": seeded((1, 9, 8, 3), 3)}


def _graph(shape=(1, 9, 8, 3), filters=(3, 2, 3, 5), size=(12, 11), pads=((0, 0), (1, 2), (2, 1), (0, 0)),
           mode="REFLECT", keep="", resize=None, **attrs):
    def make():
        x = tf.compat.v1.placeholder(tf.float32, shape, "x")
        images = R.ResizeBilinear(images=x, size=size, name="resize", **(resize or {}))
        pad = R.MirrorPad(input=images, paddings=[list(pair) for pair in pads], mode=mode, name="pad")
        if keep:
            tf.nn.relu({"pad": pad, "resize": images}[keep], "other")
        R.Conv2D(input=pad, filter=tf.constant(seeded(filters)), name="y",
                 **{"strides": [1] * 4, "padding": "VALID"} | attrs)
    return build(make)


@settings(max_examples=20)
@given(st.sampled_from(["REFLECT", "SYMMETRIC"]), st.sampled_from(["VALID", "SAME"]), st.integers(1, 3),
       st.booleans(), st.integers(4, 20), st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_as_the_tool_fuses_it(mode: str, padding: str, stride: int, align_corners: bool, size: int, pads: list[int]):
    graph_def = _graph(size=(size, 24 - size), padding=padding, strides=[1, stride, stride, 1], mode=mode,
                       pads=((0, 0), pads[:2], pads[2:], (0, 0)), resize={"align_corners": align_corners})
    after, report = transformed(graph_def, ["x"], ["y"], "fuse_resize_pad_and_conv")
    tool = ORACLE.transform(graph_def, ["x"], ["y"], "fuse_resize_pad_and_conv")
    assert report.steps[0].applied == 1
    assert ops(after)["FusedResizeAndPadConv2D"] == ops(tool)["FusedResizeAndPadConv2D"] == 1
    assert not {"ResizeBilinear", "MirrorPad"} & set(ops(after))
    assert compared(graph_def, after, ["y"], FEEDS).equal
    assert compared(tool, after, ["y"], FEEDS).equal


@pytest.mark.parametrize(("reason", "graph"), [
    ("the batch is not known to be 1, and the fused kernel is wrong for any other", {"shape": (2, 9, 8, 3)}),
    ("the fused kernel does not know half_pixel_centers", {"resize": {"half_pixel_centers": True}}),
    ("the fused kernel has no dilations", {"dilations": [1, 2, 2, 1]}),
    ("it pads batch or channels", {"pads": ((0, 0), (1, 2), (2, 1), (2, 1)), "filters": (3, 2, 3, 6)}),
    ("'pad' is also read by 'other'", {"keep": "pad"}),
    ("'resize' is also read by 'other'", {"keep": "resize"}),
])
def test_refuses(reason, graph):
    graph_def = _graph(**graph)
    after, report = transformed(graph_def, ["x"], ["y"], "fuse_resize_pad_and_conv")
    assert reasons(report) == [reason]
    assert after == graph_def


@pytest.mark.parametrize("name", ["pad", "resize"])
def test_refuses_what_is_requested(name):
    graph_def = _graph()
    after, report = transformed(graph_def, ["x"], ["y", name], "fuse_resize_pad_and_conv")
    assert reasons(report) == [f"'{name}' is itself a requested input or output"]
    assert after == graph_def
