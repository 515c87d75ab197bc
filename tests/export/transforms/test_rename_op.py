import pytest
from differential import against_tool
from graph_session import build, compared, ops, reasons, seeded, tf, transformed
from graph_strategies import Drawn, drawn_graphs
from hypothesis import given, settings

from export.transform import TransformError


@settings(max_examples=6)
@given(drawn_graphs())
def test_renames_what_the_tool_renames(drawn: Drawn):
    ours, tool, comparison = against_tool(drawn, "rename_op(old_op_name=Add, new_op_name=AddV2)")
    assert comparison.equal
    assert {node.name: node.op for node in ours.node} == {node.name: node.op for node in tool.node}
    assert "Add" not in ops(ours)


def test_to_an_op_of_another_runtime():
    graph_def = build(lambda: tf.nn.relu(tf.compat.v1.placeholder(tf.float32, (2,), "x"), "y"))
    after, report = transformed(graph_def, ["x"], ["y"], "rename_op(old_op_name=Relu, new_op_name=MyRelu)")
    assert ops(after) == {"Placeholder": 1, "MyRelu": 1}
    assert report.steps[0].applied == 1


def _with_function():
    @tf.function(input_signature=[tf.TensorSpec((2,), tf.float32)])
    def inner(x):
        return tf.raw_ops.Add(x=x, y=x)

    return build(lambda: tf.identity(inner(tf.compat.v1.placeholder(tf.float32, (2,), "x")), "y"))


def test_in_functions_too():
    graph_def = _with_function()
    after, _ = transformed(graph_def, ["x"], ["y"], "rename_op(old_op_name=Add, new_op_name=AddV2)")
    assert any(node.op == "AddV2" for function in after.library.function for node in function.node_def)
    assert compared(graph_def, after, ["y"], {"x": seeded((2,))}).equal


def test_refuses_an_unknown_op_in_a_function():
    graph_def = _with_function()
    after, report = transformed(graph_def, ["x"], ["y"], "rename_op(old_op_name=Add, new_op_name=MyAdd)")
    assert reasons(report) == ["no op 'MyAdd' is registered, and a function's body needs its output names"]
    assert compared(graph_def, after, ["y"], {"x": seeded((2,))}).equal


def test_needs_both_names():
    with pytest.raises(TransformError, match="needs new_op_name"):
        transformed(_with_function(), ["x"], ["y"], "rename_op(old_op_name=Add)")
