import numpy as np
import pytest
from graph_session import build, ops, reasons, seeded, session_run, tf, transformed
from hypothesis import given, settings
from hypothesis import strategies as st
from transform_oracle import ORACLE

from export.transform import TransformError


def _constant(weights, dtype=None):
    def make():
        x = tf.compat.v1.placeholder(dtype or weights.dtype, (), "x")
        tf.add(tf.constant(weights, dtype, name="W"), x, name="y")
    return build(make)


def _values(graph_def):
    return session_run(graph_def, ["y"], {"x": 0})["y"]


@settings(max_examples=25)
@given(st.integers(0, 2**16), st.integers(1, 300), st.floats(0, 3), st.sampled_from([1e-30, 1e-3, 1.0, 1e30]))
def test_values_are_those_of_the_tool_but_for_the_largest(seed: int, steps: int, offset: float, scale: float):
    weights = (seeded((20, 10), seed) + np.float32(offset)) * np.float32(scale)
    graph_def = _constant(weights)
    ours = _values(transformed(graph_def, ["x"], ["y"], f"round_weights(num_steps={steps})")[0])
    tool = _values(ORACLE.transform(graph_def, ["x"], ["y"], f"round_weights(num_steps={steps})"))
    largest = weights == weights.max()
    width = (weights.max() - weights.min()) / steps
    np.testing.assert_allclose(ours[~largest], tool[~largest], atol=width * 1e-3)
    assert np.abs(ours - weights).max() <= width / 2 * 1.001
    assert len(np.unique(ours)) <= steps


def test_as_many_values_as_asked_for_all_of_them_in_range():
    """The tool makes 5 of 4 steps, the fifth beyond the largest weight."""
    weights = np.linspace(-1, 1, 1000, dtype=np.float32)
    graph_def = _constant(weights)
    ours = _values(transformed(graph_def, ["x"], ["y"], "round_weights(num_steps=4)")[0])
    assert np.unique(ours).tolist() == [-0.75, -0.25, 0.25, 0.75]
    tool = _values(ORACLE.transform(graph_def, ["x"], ["y"], "round_weights(num_steps=4)"))
    assert np.unique(tool).tolist() == [-0.75, -0.25, 0.25, 0.75, 1.25]


def test_negative_weights_keep_their_range():
    """The tool extends the range to zero."""
    weights = np.linspace(-2, -1, 1000, dtype=np.float32)
    ours = _values(transformed(_constant(weights), ["x"], ["y"], "round_weights(num_steps=2)")[0])
    assert np.unique(ours).tolist() == [-1.75, -1.25]


def test_the_graph_has_the_same_nodes_and_compresses():
    import zlib
    graph_def = _constant(seeded((200, 200)))
    after, _ = transformed(graph_def, ["x"], ["y"], "round_weights")
    assert ops(after) == ops(graph_def)
    assert len(zlib.compress(after.SerializeToString())) < len(zlib.compress(graph_def.SerializeToString())) / 2


@pytest.mark.parametrize(("weights", "reason"), [
    (np.array([np.nan] + [1.0] * 19, np.float32), "it holds NaN or infinity"),
    (np.array([-np.inf] + [1.0] * 19, np.float32), "it holds NaN or infinity"),
    (np.array([3e38, -3e38] + [1.0] * 18, np.float32), "its range is not finite"),
    (np.full((20,), 5.0, np.float32), "all its values are the same already"),
    (np.linspace(0, 1, 20, dtype=np.float64), "it is double, not float"),
    (np.linspace(0, 1, 20, dtype=np.float16), "it is half, not float"),
])
def test_refuses(weights, reason):
    graph_def = _constant(weights)
    after, report = transformed(graph_def, ["x"], ["y"], "round_weights")
    assert reasons(report) == [reason]
    assert after == graph_def


def test_refuses_bfloat16():
    graph_def = _constant(seeded((20,)), tf.bfloat16)
    after, report = transformed(graph_def, ["x"], ["y"], "round_weights")
    assert reasons(report) == ["it is bfloat16, not float"]
    assert after == graph_def


@pytest.mark.parametrize(("inputs", "outputs"), [(["x"], ["y", "W:0"]), (["x", "W"], ["y"])])
def test_refuses_a_requested_constant(inputs, outputs):
    graph_def = _constant(seeded((20,)))
    after, report = transformed(graph_def, inputs, outputs, "round_weights")
    assert reasons(report) == ["it is itself a requested input or output"]
    assert after == graph_def


def test_small_constants_are_not_mentioned():
    _, report = transformed(_constant(seeded((15,))), ["x"], ["y"], "round_weights")
    assert (report.steps[0].applied, reasons(report)) == (0, [])


@pytest.mark.parametrize("steps", [0, -1])
def test_no_steps_is_an_error(steps):
    with pytest.raises(TransformError, match="expected 1 or more"):
        transformed(_constant(seeded((20,))), ["x"], ["y"], f"round_weights(num_steps={steps})")


def test_a_range_too_small_to_divide():
    weights = np.zeros((20,), np.float32)
    weights[3] = np.float32(1e-45)
    after, _ = transformed(_constant(weights), ["x"], ["y"], "round_weights")
    assert np.isfinite(_values(after)).all()
    assert np.abs(_values(after) - weights).max() <= 1e-44
