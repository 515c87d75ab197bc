import numpy as np
import pytest
from graph_session import build, ops, reasons, seeded, session_run, tf, transformed, v1_control_flow
from graph_strategies import Drawn, drawn_graphs
from hypothesis import given, settings
from transform_oracle import ORACLE, ToolError

from export.transform import TransformError

R = tf.raw_ops
SHAPE = (2, 9, 8, 4)


def float_graph(make, shape=SHAPE, dtype=tf.float32, **more):
    """y = make(x, and placeholders of the shapes in `more`)."""
    def body():
        x = tf.compat.v1.placeholder(dtype, shape, "x")
        others = {name: tf.compat.v1.placeholder(tf.float32, size, name) for name, size in more.items()}
        tf.identity(make(x, **others), "y")
    return build(body)


def error(before, after, feeds, outputs=("y",)):
    """The largest difference of an output, in units of its range."""
    expected, actual = session_run(before, outputs, feeds), session_run(after, outputs, feeds)
    assert all(expected[name].shape == actual[name].shape for name in outputs)
    return max(float(np.abs(expected[name] - actual[name]).max() / max(np.ptp(expected[name]), 1e-30))
               for name in outputs)


def constant(*shape, seed=1, scale=1.0):
    return tf.constant(seeded(shape, seed) * np.float32(scale))


OPS = {
    "Conv2D": lambda x: tf.nn.conv2d(x, constant(3, 2, 4, 5), 2, "SAME"),
    "Conv2D VALID": lambda x: tf.nn.conv2d(x, constant(3, 3, 4, 5, scale=1e-3), 1, "VALID"),
    "MatMul": lambda x: tf.matmul(tf.reshape(x, [-1, 4]), constant(4, 6)),
    "MatMul transposed": lambda x: R.MatMul(a=tf.reshape(x, [-1, 4]), b=constant(6, 4), transpose_b=True),
    "BiasAdd": lambda x: tf.nn.bias_add(x, constant(4)),
    "Add": lambda x: R.Add(x=x, y=constant(4)),
    "AddV2": lambda x: R.AddV2(x=constant(8, 4), y=x),
    "AddV2 of a number": lambda x: R.AddV2(x=x, y=3.0),
    "Mul": lambda x: tf.multiply(x, constant(1, 1, 1, 4)),
    "Mul by itself": lambda x: tf.multiply(x, x),
    "AvgPool": lambda x: tf.nn.avg_pool2d(x, 3, 2, "SAME"),
    "MaxPool": lambda x: tf.nn.max_pool2d(x, [2, 3], 1, "VALID"),
    "Relu": lambda x: tf.nn.relu(x),
    "Relu6": lambda x: tf.nn.relu6(x),
    "Reshape": lambda x: tf.reshape(x, [-1, 32]),
    "ResizeBilinear": lambda x: R.ResizeBilinear(images=x, size=[12, 5], half_pixel_centers=True),
    "ResizeBilinear corners": lambda x: R.ResizeBilinear(images=x, size=[12, 5], align_corners=True),
    "ConcatV2": lambda x: tf.concat([x, constant(*SHAPE, scale=5.0), x], 3),
    "ConcatV2 from the end": lambda x: tf.concat([x, x], -2),
    "Concat": lambda x: R.Concat(concat_dim=1, values=[x, x]),
}


@pytest.mark.parametrize("name", OPS)
def test_every_op(name):
    graph_def = float_graph(OPS[name])
    after, report = transformed(graph_def, ["x"], ["y"], "quantize_nodes")
    op = name.split()[0]
    counterpart = "Quantized" + {"AddV2": "Add", "ConcatV2": "Concat"}.get(op, op)
    assert op not in {node.op for node in after.node if "_eightbit/" not in node.name}
    assert ops(after)[counterpart]
    assert reasons(report) == []
    assert error(graph_def, after, {"x": seeded(SHAPE, 7)}) < 0.02


@settings(max_examples=12)
@given(drawn_graphs(layers=("conv", "bias", "mul", "relu", "relu6", "pool", "average", "add", "concat", "identity",
                            "control", "split")))
def test_the_error_is_not_larger_than_the_tools(drawn: Drawn):
    text = "quantize_weights(minimum_size=16) quantize_nodes"
    ours, _ = transformed(drawn.graph_def, ["x"], drawn.outputs, text)
    feeds = drawn.feeds()
    mine = error(drawn.graph_def, ours, feeds, drawn.outputs)
    try:
        tool = ORACLE.transform(drawn.graph_def, ["x"], drawn.outputs, text)
    except ToolError as failure:
        # The tool fails if an op reads a tensor twice.
        if "contains a cycle" not in str(failure):
            raise
        assert mine < 0.05
        return
    theirs = error(drawn.graph_def, tool, feeds, drawn.outputs)
    assert mine <= max(1.5 * theirs, 0.04)


def test_eight_bits_all_the_way():
    """Between two eight-bit ops there is no way through float, and weights stay as quantize_weights made them."""
    def net(x):
        x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, constant(3, 3, 4, 4, seed=2), 1, "SAME"), constant(4)))
        return tf.nn.max_pool2d(x, 2, 2, "SAME") + tf.nn.avg_pool2d(x, 2, 2, "SAME")
    graph_def = float_graph(net)
    after, report = transformed(graph_def, ["x"], ["y"], "quantize_weights(minimum_size=16) quantize_nodes")
    assert (ops(after)["QuantizeV2"], ops(after)["Dequantize"]) == (1, 1)
    assert report.steps[1].applied == 6
    assert error(graph_def, after, {"x": seeded(SHAPE, 7)}) < 0.04


def test_the_old_recipe():
    def net(x):
        x = tf.identity(tf.nn.conv2d(x, constant(3, 3, 4, 8), 1, "SAME"))
        x = tf.compat.v1.nn.fused_batch_norm(x, seeded((8,), 2), seeded((8,), 3), seeded((8,), 4),
                                             np.full(8, 2.0, np.float32), is_training=False)[0]
        return tf.matmul(tf.reshape(tf.nn.relu(x), [-1, 576]), constant(576, 10, seed=9, scale=0.1))
    graph_def = float_graph(net)
    after, _ = transformed(graph_def, ["x"], ["y"], """add_default_attributes strip_unused_nodes
        remove_nodes(op=Identity, op=CheckNumerics) fold_old_batch_norms quantize_weights quantize_nodes
        strip_unused_nodes""")
    assert {"QuantizedConv2D", "QuantizedMatMul"} <= set(ops(after))
    assert not {"Conv2D", "MatMul", "FusedBatchNormV3"} & set(ops(after))
    assert error(graph_def, after, {"x": seeded(SHAPE, 7)}) < 0.04


def test_a_fallback_range_is_used_and_values_are_clipped_to_it():
    graph_def = float_graph(OPS["Conv2D"])
    after, _ = transformed(graph_def, ["x"], ["y"], "quantize_nodes(fallback_min=-2, fallback_max=3)")
    assert "RequantizationRange" not in ops(after)
    got = session_run(after, ["y"], {"x": seeded(SHAPE, 7)})["y"]
    expected = session_run(graph_def, ["y"], {"x": seeded(SHAPE, 7)})["y"]
    assert np.abs(got - expected.clip(-2, 3)).max() < 0.15


def test_placeholders_of_eight_bits():
    graph_def = float_graph(OPS["Conv2D"])
    after, _ = transformed(graph_def, ["x"], ["y"], "quantize_nodes(input_min=-1, input_max=3)")
    assert "QuantizeV2" not in ops(after)
    numbers = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
    step = 4 / 255
    values = (numbers * step + np.round(-1 / step) * step).astype(np.float32)
    expected = session_run(graph_def, ["y"], {"x": values})["y"]
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(after, name="")
    assert graph.get_tensor_by_name("x:0").dtype == tf.quint8
    with tf.compat.v1.Session(graph=graph) as session:
        got = session.run("y:0", {"x:0": numbers.astype(tf.quint8.as_numpy_dtype)})
    assert np.abs(got - expected).max() / np.ptp(expected) < 0.02


def test_a_requested_placeholder_stays_float():
    graph_def = float_graph(OPS["Relu"])
    after, report = transformed(graph_def, ["x"], ["y", "x"], "quantize_nodes(input_min=-1, input_max=3)")
    assert reasons(report) == ["it is a requested output, which must stay float"]
    assert error(graph_def, after, {"x": seeded(SHAPE)}) < 0.02


def test_ignored_ops_stay():
    graph_def = float_graph(lambda x: tf.nn.relu(tf.nn.relu6(x)))
    after, _ = transformed(graph_def, ["x"], ["y"], "quantize_nodes(ignore_op=Relu6, ignore_op=Add)")
    assert {"Relu6", "QuantizedRelu"} <= set(ops(after))


def test_a_trained_range_replaces_a_measured_one():
    graph_def = float_graph(lambda x: R.FakeQuantWithMinMaxVars(inputs=OPS["Conv2D"](x), min=-4.0, max=6.0))
    after, report = transformed(graph_def, ["x"], ["y"], "quantize_nodes")
    assert report.steps[0].applied == 2
    assert not {"RequantizationRange", "FakeQuantWithMinMaxVars"} & set(ops(after))
    assert ops(after)["Requantize"] == 1
    assert error(graph_def, after, {"x": seeded(SHAPE, 7)}) < 0.03


def test_a_trained_range_alone():
    graph_def = float_graph(lambda x: R.FakeQuantWithMinMaxVars(inputs=tf.tanh(x), min=-0.5, max=0.75))
    after, _ = transformed(graph_def, ["x"], ["y"], "quantize_nodes")
    assert "FakeQuantWithMinMaxVars" not in ops(after)
    assert error(graph_def, after, {"x": seeded(SHAPE, 7)}) < 0.01


def test_all_zeros():
    graph_def = float_graph(lambda x: tf.nn.relu(OPS["Conv2D"](x)) + 0.0)
    after, _ = transformed(graph_def, ["x"], ["y"], "quantize_nodes")
    np.testing.assert_allclose(session_run(after, ["y"], {"x": np.zeros(SHAPE)})["y"], 0, atol=1e-3)


def test_small_values_keep_their_bits():
    graph_def = float_graph(OPS["Relu"])
    after, _ = transformed(graph_def, ["x"], ["y"], "quantize_nodes")
    assert error(graph_def, after, {"x": seeded(SHAPE, 7) * 1e-4}) < 0.02


def test_requested_results_in_between():
    graph_def = float_graph(lambda x: tf.nn.relu(tf.nn.relu6(x, name="middle")))
    after, _ = transformed(graph_def, ["x"], ["y", "middle:0"], "quantize_nodes")
    assert error(graph_def, after, {"x": seeded(SHAPE, 7)}, ("y", "middle")) < 0.02


def test_without_listed_outputs_nothing_is_lost():
    graph_def = build(lambda: tf.nn.relu(tf.compat.v1.placeholder(tf.float32, SHAPE, "x"), "y"))
    after, _ = transformed(graph_def, [], [], "quantize_nodes")
    assert error(graph_def, after, {"x": seeded(SHAPE, 7)}) < 0.02


def test_control_inputs_stay():
    graph_def = build(lambda: tf.nn.relu(tf.compat.v1.placeholder(tf.float32, SHAPE, "x"), "y"))
    graph_def.node.add(name="early", op="NoOp")
    graph_def.node[1].input.append("^early")
    after, _ = transformed(graph_def, ["x"], ["y"], "quantize_nodes")
    assert "^early" in next(node for node in after.node if node.name == "y/eightbit").input


def test_in_a_v1_loop():
    def make():
        x = tf.compat.v1.placeholder(tf.float32, (2, 3), "x")
        tf.identity(tf.compat.v1.while_loop(
            lambda i, _: i < 3, lambda i, value: (i + 1, tf.nn.relu(tf.matmul(value, constant(3, 3)) + 0.5)),
            [0, x])[1], "y")
    with v1_control_flow():
        graph_def = build(make)
    after, _ = transformed(graph_def, ["x"], ["y"], "quantize_nodes")
    assert "QuantizedMatMul" in ops(after)
    assert error(graph_def, after, {"x": seeded((2, 3))}) < 0.1
    fixed, _ = transformed(graph_def, ["x"], ["y"], "quantize_nodes(fallback_min=-5, fallback_max=5)")
    assert np.isfinite(session_run(fixed, ["y"], {"x": seeded((2, 3))})["y"]).all()


def test_in_a_function():
    @tf.function(input_signature=[tf.TensorSpec((2, 4), tf.float32)])
    def inner(x):
        return tf.nn.relu(tf.matmul(x, constant(4, 4)))

    graph_def = float_graph(lambda x: inner(x), (2, 4))
    after, _ = transformed(graph_def, ["x"], ["y"], "quantize_nodes")
    assert any(node.op == "QuantizedMatMul" for node in after.library.function[0].node_def)
    assert error(graph_def, after, {"x": seeded((2, 4))}) < 0.04


def test_broadcasting_that_the_tools_kernel_gets_wrong():
    """The kernel repeats the smaller tensor end to end, whatever the shapes are."""
    graph_def = float_graph(lambda x: R.Add(x=x, y=constant(4, 1)), (4, 5))
    after, report = transformed(graph_def, ["x"], ["y"], "quantize_nodes")
    assert reasons(report) == ["the eight-bit kernel broadcasts over the first dimensions only"]
    assert error(graph_def, after, {"x": seeded((4, 5), 2)}) == 0
    tool = ORACLE.transform(graph_def, ["x"], ["y"], "quantize_nodes")
    assert error(graph_def, tool, {"x": seeded((4, 5), 2)}) > 0.2


UNKNOWN = "the eight-bit kernel broadcasts over the first dimensions only"


@pytest.mark.parametrize(("reason", "make", "more"), [
    ("it is double, not float", lambda x: tf.nn.relu(x), {"dtype": tf.float64}),
    ("it is half, not float", lambda x: tf.nn.relu(x), {"dtype": tf.float16}),
    ("it is bfloat16, not float", lambda x: tf.nn.relu(x), {"dtype": tf.bfloat16}),
    ("it is int32, not float", lambda x: R.Add(x=x, y=x), {"dtype": tf.int32}),
    ("the eight-bit kernel has no dilations",
     lambda x: tf.nn.conv2d(x, constant(3, 3, 4, 4), 1, "SAME", dilations=2), {}),
    ("the eight-bit kernel has no explicit paddings",
     lambda x: tf.nn.conv2d(x, constant(3, 3, 4, 4), 1, [[0, 0], [1, 0], [0, 1], [0, 0]]), {}),
    ("the eight-bit kernel has one stride for height and width",
     lambda x: tf.nn.conv2d(x, constant(3, 3, 4, 4), [1, 1, 2, 1], "SAME"), {}),
    ("the convolution may be grouped, which the eight-bit kernel does not know",
     lambda x: tf.nn.conv2d(x, constant(3, 3, 2, 4), 1, "SAME"), {}),
    ("the convolution may be grouped, which the eight-bit kernel does not know",
     lambda x: tf.nn.conv2d(x, constant(3, 3, 2, 4), 1, "SAME"), {"shape": None}),
    ("the eight-bit kernel takes NHWC only",
     lambda x: tf.nn.bias_add(x, constant(9), data_format="NCHW"), {}),
    ("the eight-bit kernel takes NHWC only",
     lambda x: tf.nn.max_pool2d(x, 2, 2, "SAME", data_format="NCHW"), {}),
    ("the eight-bit kernel takes NHWC only",
     lambda x: tf.nn.conv2d(x, constant(3, 3, 9, 4), 1, "SAME", data_format="NCHW"), {}),
    ("the eight-bit kernel pools over height and width only",
     lambda x: R.MaxPool(input=x, ksize=[1, 1, 1, 2], strides=[1, 1, 1, 2], padding="SAME"), {}),
    (UNKNOWN, lambda x: tf.multiply(x, constant(9, 1, 4)), {}),
    (UNKNOWN, lambda x, z: tf.multiply(x, z), {"shape": (None, None, 3), "z": (None, None, 3)}),
    ("the ranks of its inputs are not known", lambda x: R.Add(x=x, y=x), {"shape": None}),
    ("its axis is not constant", lambda x, z: tf.concat([x, x], tf.cast(z, tf.int32)), {"z": ()}),
    ("its axis is counted from the end, and its rank is not known",
     lambda x: tf.concat([x, x], -1), {"shape": None}),
    ("NaN or infinity in a constant reaches it", lambda x: R.Add(x=x, y=np.float32(np.inf)), {}),
    ("NaN or infinity in a constant reaches it", lambda x: tf.nn.relu(-(x * np.float32(np.nan))), {}),
    ("NaN or infinity in a constant reaches it",
     lambda x: R.FakeQuantWithMinMaxVars(inputs=x - np.float32(np.nan), min=-1.0, max=1.0), {}),
    ("of its constant 'Const': its range is not finite",
     lambda x: tf.nn.bias_add(x, tf.constant([3e38, -3e38, 0, 0])), {}),
    ("of its constant 'zeros': it is empty", lambda x: tf.concat([x, tf.zeros((2, 0, 8, 4))], 1), {}),
    ("its steps are not those of eight bits around zero",
     lambda x: R.FakeQuantWithMinMaxVars(inputs=x, min=-1.0, max=1.0, num_bits=4), {}),
    ("its steps are not those of eight bits around zero",
     lambda x: R.FakeQuantWithMinMaxVars(inputs=x, min=1.0, max=2.0), {}),
    ("its steps are not those of eight bits around zero",
     lambda x: R.FakeQuantWithMinMaxVars(inputs=x, min=-1.0, max=1.0, narrow_range=True), {}),
    ("its range is not constant, or it is fed from outside",
     lambda x, z: R.FakeQuantWithMinMaxVars(inputs=x, min=-1.0, max=z), {"z": ()}),
    ("TensorFlow 2.21 has no eight-bit kernel for it",
     lambda x: tf.nn.conv2d_transpose(x, constant(3, 3, 2, 4), (2, 9, 8, 2), 1), {}),
])
def test_refuses(reason, make, more):
    graph_def = float_graph(make, **more)
    after, report = transformed(graph_def, ["x"], ["y"], "quantize_nodes")
    assert set(reasons(report)) == {reason}
    assert after == graph_def


def test_refuses_a_fed_node():
    graph_def = build(lambda: tf.nn.relu(tf.nn.relu6(tf.compat.v1.placeholder(tf.float32, SHAPE, "x"), "middle"), "y"))
    after, report = transformed(graph_def, ["middle"], ["y"], "quantize_nodes")
    assert reasons(report) == ["it is fed from outside"]
    assert error(graph_def, after, {"middle": seeded(SHAPE)}) < 0.02


@pytest.mark.parametrize("args", [
    "input_min=1", "input_max=1", "fallback_min=-1", "input_min=2, input_max=1", "fallback_min=1, fallback_max=2",
    "input_min=a, input_max=1"])
def test_an_invalid_range_is_an_error(args):
    with pytest.raises(TransformError, match="quantize_nodes"):
        transformed(float_graph(OPS["Relu"]), ["x"], ["y"], f"quantize_nodes({args})")
