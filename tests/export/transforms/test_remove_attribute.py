import pytest
from differential import against_tool
from graph_session import build, compared, reasons, seeded, tf, transformed
from graph_strategies import Drawn, drawn_graphs
from hypothesis import given, settings

from export.transform import TransformError


def _product(**attrs):
    def make():
        x = tf.compat.v1.placeholder(tf.float32, (3, 3), "x")
        tf.matmul(x, tf.constant(seeded((3, 3))), name="y", **attrs)
    return build(make)


@settings(max_examples=5)
@given(drawn_graphs())
def test_removes_what_the_tool_removes(drawn: Drawn):
    for node in drawn.graph_def.node:
        node.attr["_note"].i = len(node.name)
    ours, tool, comparison = against_tool(drawn, "remove_attribute(attribute_name=_note, op_name=Const)")
    assert comparison.equal
    assert {node.name: sorted(node.attr) for node in ours.node} == {node.name: sorted(node.attr) for node in tool.node}
    assert all(("_note" in node.attr) == (node.op != "Const") for node in ours.node)


def test_removes_a_default():
    graph_def = _product()
    after, report = transformed(graph_def, ["x"], ["y"], "remove_attribute(attribute_name=transpose_b)")
    assert report.steps[0].applied == 1
    assert all("transpose_b" not in node.attr for node in after.node)
    assert compared(graph_def, after, ["y"], {"x": seeded((3, 3), 1)}).equal


def test_refuses_what_is_not_the_default():
    graph_def = _product(transpose_b=True)
    after, report = transformed(graph_def, ["x"], ["y"], "remove_attribute(attribute_name=transpose_b)")
    assert reasons(report) == ["its 'transpose_b' is not what MatMul does by default"]
    assert compared(graph_def, after, ["y"], {"x": seeded((3, 3), 1)}).equal


def test_refuses_what_the_op_needs():
    graph_def = _product()
    after, report = transformed(graph_def, ["x"], ["y"], "remove_attribute(attribute_name=T, op_name=MatMul)")
    assert reasons(report) == ["MatMul needs its attribute 'T'"]
    assert compared(graph_def, after, ["y"], {"x": seeded((3, 3), 1)}).equal


def test_needs_a_name():
    with pytest.raises(TransformError, match="needs attribute_name"):
        transformed(_product(), ["x"], ["y"], "remove_attribute(op_name=Mul)")
