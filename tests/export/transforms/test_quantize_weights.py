import numpy as np
import pytest
from graph_session import build, ops, reasons, seeded, session_run, tf, transformed
from graph_strategies import Drawn, drawn_graphs
from hypothesis import given, settings
from hypothesis import strategies as st
from transform_oracle import ORACLE

from export.graph import Graph
from export.tensors import to_array
from export.transform import TransformError


def _constant(weights, name="W"):
    """y = a constant that x picks elements of; x is fed with 0 to read it as it is."""
    def make():
        x = tf.compat.v1.placeholder(weights.dtype, (), "x")
        tf.add(tf.constant(weights, name=name), x, name="y")
    return build(make)


def _values(graph_def, dtype=np.float32):
    return session_run(graph_def, ["y"], {"x": np.zeros((), dtype)})["y"]


@settings(max_examples=25)
@given(st.integers(0, 2**16), st.floats(-3, 3), st.sampled_from([1e-20, 1e-3, 1.0, 1e6]))
def test_values_are_those_of_the_tool_and_within_a_step(seed: int, offset: float, scale: float):
    weights = (seeded((40, 30), seed) + np.float32(offset)) * np.float32(scale)
    graph_def = _constant(weights)
    ours = _values(transformed(graph_def, ["x"], ["y"], "quantize_weights")[0])
    tool = _values(ORACLE.transform(graph_def, ["x"], ["y"], "quantize_weights"))
    step = (max(weights.max(), 0.0) - min(weights.min(), 0.0)) / 255
    assert np.abs(ours - weights).max() <= step * 1.001
    assert len(np.unique(ours)) <= 256
    # Where a weight lies between two steps, float32 and float64 may round to different sides.
    assert np.abs(ours - tool).max() <= step * 1.001
    assert np.mean(np.abs(ours - tool) > step / 100) < 0.01


@settings(max_examples=6)
@given(drawn_graphs())
def test_names_are_those_of_the_tool(drawn: Drawn):
    ours, _ = transformed(drawn.graph_def, ["x"], drawn.outputs, "quantize_weights(minimum_size=16)")
    tool = ORACLE.transform(drawn.graph_def, ["x"], drawn.outputs, "quantize_weights(minimum_size=16)")
    assert {(node.name, node.op) for node in ours.node} == {(node.name, node.op) for node in tool.node}
    assert session_run(ours, drawn.outputs, drawn.feeds()).keys() == set(drawn.outputs)


def test_a_quarter_of_the_bytes():
    graph_def = _constant(seeded((256, 256)))
    after, report = transformed(graph_def, ["x"], ["y"], "quantize_weights")
    assert ops(after)["Dequantize"] == report.steps[0].applied == 1
    assert after.ByteSize() < graph_def.ByteSize() / 3.9


def test_zero_stays_zero():
    weights = seeded((2000,)) + np.float32(0.7)
    weights[::3] = 0
    assert (_values(transformed(_constant(weights), ["x"], ["y"], "quantize_weights")[0])[::3] == 0).all()


@pytest.mark.parametrize("value", [0.0, 2.5, -2.5, 1e-30])
def test_a_constant_of_one_value_keeps_it(value):
    weights = np.full((2000,), value, np.float32)
    graph_def = _constant(weights)
    # As bytes, since TensorFlow stores a repeated value only once.
    next(node for node in graph_def.node if node.name == "W").attr["value"].tensor.tensor_content = weights.tobytes()
    after, report = transformed(graph_def, ["x"], ["y"], "quantize_weights")
    assert report.steps[0].applied == 1
    np.testing.assert_allclose(_values(after), weights, rtol=1e-6)


@pytest.mark.parametrize(("weights", "reason"), [
    (np.array([np.nan] + [1.0] * 1999, np.float32), "it holds NaN or infinity"),
    (np.array([np.inf] + [1.0] * 1999, np.float32), "it holds NaN or infinity"),
    (np.array([3e38, -3e38] + [1.0] * 1998, np.float32), "its range is not finite"),
    (np.linspace(0, 1, 2000, dtype=np.float64), "it is double, not float"),
    (np.linspace(0, 1, 2000, dtype=np.float16), "it is half, not float"),
])
def test_refuses_weights_that_eight_bits_cannot_represent(weights, reason):
    graph_def = _constant(weights)
    after, report = transformed(graph_def, ["x"], ["y"], "quantize_weights")
    assert reasons(report) == [reason]
    assert after == graph_def


def test_refuses_bfloat16():
    graph_def = build(lambda: tf.cast(tf.constant(seeded((2000,)), tf.bfloat16), tf.float32, name="y"))
    after, report = transformed(graph_def, [], ["y"], "quantize_weights")
    assert reasons(report) == ["it is bfloat16, not float"]
    assert after == graph_def


@pytest.mark.parametrize(("inputs", "outputs"), [(["x"], ["y", "W"]), (["x", "W"], ["y"])])
def test_refuses_a_requested_constant(inputs, outputs):
    graph_def = _constant(seeded((2000,)))
    after, report = transformed(graph_def, inputs, outputs, "quantize_weights")
    assert reasons(report) == ["it is itself a requested input or output"]
    assert after == graph_def


def test_refuses_one_repeated_value():
    graph_def = _constant(np.ones(2000, np.float32))
    weights = next(node for node in graph_def.node if node.name == "W").attr["value"].tensor
    weights.ClearField("tensor_content")
    weights.float_val[:] = [1.0]
    after, report = transformed(graph_def, ["x"], ["y"], "quantize_weights")
    assert reasons(report) == ["it takes less than a byte per value already"]
    assert after == graph_def


def test_a_constant_that_cannot_be_read_is_an_error():
    graph_def = _constant(seeded((2000,)))
    next(node for node in graph_def.node if node.name == "W").attr["value"].tensor.tensor_content = b"short"
    with pytest.raises(TransformError, match="quantize_weights: constant 'W' cannot be read"):
        transformed(graph_def, ["x"], ["y"], "quantize_weights")


def test_small_constants_are_not_mentioned():
    _, report = transformed(_constant(seeded((1023,))), ["x"], ["y"], "quantize_weights")
    assert (report.steps[0].applied, reasons(report)) == (0, [])


def test_device_colocation_and_control_inputs_stay():
    graph_def = _constant(seeded((2000,)))
    weights = next(node for node in graph_def.node if node.name == "W")
    weights.device, weights.input[:] = "/device:CPU:0", ["^x"]
    weights.attr["_class"].list.s.append(b"loc:@x")
    after = {node.name: node for node in transformed(graph_def, ["x"], ["y"], "quantize_weights")[0].node}
    assert {after[name].device for name in ("W", "W_quantized_const", "W_quantized_min")} == {"/device:CPU:0"}
    assert list(after["W_quantized_const"].input) == ["^x"]
    assert list(after["W"].attr["_class"].list.s) == [b"loc:@x"]


def test_weights_in_a_function():
    weights = seeded((2000,))

    @tf.function(input_signature=[tf.TensorSpec((), tf.float32)])
    def inner(x):
        return x + tf.constant(weights)

    graph_def = build(lambda: tf.identity(inner(tf.compat.v1.placeholder(tf.float32, (), "x")), "y"))
    after, _ = transformed(graph_def, ["x"], ["y"], "quantize_weights")
    assert any(node.op == "Dequantize" for node in after.library.function[0].node_def)
    assert np.abs(_values(after) - weights).max() < 0.03


def test_the_constant_holds_quint8():
    after, _ = transformed(_constant(seeded((2000,))), ["x"], ["y"], "quantize_weights")
    item = Graph.from_graph_def(after).nodes["W_quantized_const"]
    assert repr(item.get("dtype")) == "quint8"
    assert to_array(item.attrs["value"].tensor).shape == (2000,)
