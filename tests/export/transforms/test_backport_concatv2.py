import pytest
from differential import against_tool
from graph_session import build, compared, ops, seeded, tf, transformed
from graph_strategies import Drawn, drawn_graphs
from hypothesis import given, settings


@settings(max_examples=10)
@given(drawn_graphs(layers=("concat", "split", "relu", "add", "control")))
def test_makes_what_the_tool_makes(drawn: Drawn):
    ours, tool, comparison = against_tool(drawn, "backport_concatv2")
    assert comparison.equal
    assert {node.name: (node.op, list(node.input)) for node in ours.node} == {
        node.name: (node.op, list(node.input)) for node in tool.node}
    assert "ConcatV2" not in ops(ours)


def _graph(axis, dtype=tf.int32, constant=True):
    def make():
        x = tf.compat.v1.placeholder(tf.float32, (2, 3), "x")
        number = tf.constant(axis, dtype) if constant else tf.compat.v1.placeholder(dtype, (), "axis")
        values = [x, -x, x + 1.0]
        with tf.control_dependencies([tf.nn.relu(x, "before")]):
            tf.raw_ops.ConcatV2(values=values, axis=number, name="y")
    return build(make)


@pytest.mark.parametrize("dtype", [tf.int32, tf.int64])
@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_any_axis(axis, dtype, constant):
    graph_def = _graph(axis, dtype, constant)
    after, report = transformed(graph_def, ["x"] if constant else ["x", "axis"], ["y"], "backport_concatv2")
    assert report.steps[0].applied == 1
    last = next(node for node in after.node if node.name == "y")
    assert (last.op, last.attr["N"].i, "Tidx" in last.attr, last.input[-1]) == ("Concat", 3, False, "^before")
    feeds = {"x": seeded((2, 3))} | ({} if constant else {"axis": axis})
    assert compared(graph_def, after, ["y"], feeds).equal


def test_an_int64_axis_that_other_nodes_read():
    def make():
        x = tf.compat.v1.placeholder(tf.float32, (2, 3), "x")
        axis = tf.constant(1, tf.int64, name="axis")
        tf.raw_ops.ConcatV2(values=[x, x], axis=axis, name="y")
        tf.identity(axis, "z")
    graph_def = build(make)
    after, _ = transformed(graph_def, ["x"], ["y", "z"], "backport_concatv2")
    assert compared(graph_def, after, ["y", "z"], {"x": seeded((2, 3))}).equal


def test_refuses_what_is_fed():
    graph_def = _graph(0)
    after, _ = transformed(graph_def, ["y"], ["y"], "backport_concatv2")
    assert "Concat" not in ops(after)
