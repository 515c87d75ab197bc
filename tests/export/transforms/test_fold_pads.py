import numpy as np
import pytest
from graph_session import build, compared, ops, reasons, runtime_graph, seeded, tf, transformed

R, v1 = tf.raw_ops, tf.compat.v1
EVEN = [[0, 0], [0, 1], [0, 1], [0, 0]]


def padded(pads=EVEN, shape=(None, 8, 8, 3), taps=(3, 3), op="Conv2D", stride=2, padding="VALID", keep=False,
           dilation=1, data_format="NHWC"):
    """y = convolution(Pad(x)); `keep`: something else reads the padded images."""
    def make():
        x = v1.placeholder(tf.float32, shape, "x")
        pad = R.Pad(input=x, paddings=pads, name="pad")
        if keep:
            tf.nn.relu(pad, "other")
        first = data_format == "NCHW"
        strides, dilations = ([1, 1, one, one] if first else [1, one, one, 1] for one in (stride, dilation))
        weights = tf.constant(seeded((*taps, 3, 2)))
        y = getattr(R, op)(input=pad, filter=weights, strides=strides, padding=padding, dilations=dilations,
                           data_format=data_format)
        tf.identity(y, "y")
    return build(make)


@pytest.mark.parametrize(("options", "size"), [
    ({}, (8, 8, 3)), ({"op": "DepthwiseConv2dNative"}, (8, 8, 3)),
    ({"shape": (None, 7, 7, 3), "pads": [[0, 0], [1, 1], [1, 1], [0, 0]]}, (7, 7, 3)),
    ({"shape": (None, 9, 8, 3), "taps": (5, 3), "pads": [[0, 0], [2, 2], [1, 1], [0, 0]], "stride": 1}, (9, 8, 3)),
    ({"pads": [[0, 0], [2, 2], [2, 2], [0, 0]], "stride": 1, "dilation": 2}, (8, 8, 3)),
    ({"pads": [[0, 0], [0, 0], [0, 0], [0, 0]], "taps": (1, 1)}, (8, 8, 3)),
])
def test_same_pads_as_much(options, size):
    graph_def = padded(**options)
    after, report = transformed(graph_def, ["x"], ["y"], "fold_pads")
    assert report.steps[0].applied == 1
    assert "Pad" not in ops(after)
    for batch in (1, 3):
        assert compared(graph_def, after, ["y"], {"x": seeded((batch, *size))}).equal


def test_channels_first():
    """Only the attributes: TensorFlow has such a convolution on CPUs with oneDNN only."""
    graph_def = padded([[0, 0], [0, 0], [0, 1], [0, 1]], (None, 3, 8, 8), data_format="NCHW")
    after, _ = transformed(graph_def, ["x"], ["y"], "fold_pads")
    assert "Pad" not in ops(after)
    assert compared(graph_def, after, ["y"], {"x": seeded((2, 3, 8, 8))}).equal


@pytest.mark.parametrize(("reason", "graph_def", "outputs"), [
    ("SAME would pad by [0, 1], not by [1, 1]", padded([[0, 0], [1, 1], [1, 1], [0, 0]]), ["y"]),
    ("SAME would pad by [1, 1], not by [0, 1]", padded(shape=(None, 7, 8, 3)), ["y"]),
    ("it pads batch or channels", padded([[0, 1], [0, 1], [0, 1], [0, 0]]), ["y"]),
    ("the convolution pads too", padded(padding="SAME"), ["y"]),
    ("the images' size is unknown", padded(shape=(None, None, 8, 3)), ["y"]),
    ("the rank of the images or of the filter is unknown", padded(shape=None), ["y"]),
    ("'pad' is also read by 'other'", padded(keep=True), ["y", "other"]),
    ("'pad' is itself a requested input or output", padded(), ["y", "pad"]),
])
def test_refuses(reason, graph_def, outputs):
    after, report = transformed(graph_def, ["x"], outputs, "fold_pads")
    assert reasons(report) == [reason]
    assert after == graph_def


def test_tensorflow_still_merges():
    graph_def = padded(op="DepthwiseConv2dNative")
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        tf.nn.relu6(tf.nn.bias_add(graph.get_tensor_by_name("y:0"), np.ones(6, np.float32)), name="z")
        graph_def = graph.as_graph_def()
    after, _ = transformed(graph_def, ["x"], ["z"], "default")
    running = runtime_graph(after, "z", {"x": seeded((2, 8, 8, 3))})
    assert [list(node.attr["fused_ops"].list.s) for node in running.node if "fused_ops" in node.attr] == [
        [b"BiasAdd", b"Relu6"]]
