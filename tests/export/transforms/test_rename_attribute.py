import pytest
from differential import against_tool
from graph_session import build, reasons, tf, transformed
from graph_strategies import Drawn, drawn_graphs
from hypothesis import given, settings

from export.transform import TransformError


def _graph():
    graph_def = build(lambda: tf.identity(tf.nn.relu(tf.compat.v1.placeholder(tf.float32, (2,), "x"), "r"), "y"))
    for node in graph_def.node:
        node.attr["_note"].s = node.name.encode()
    return graph_def


def _notes(graph_def, key):
    return {node.name: node.attr[key].s.decode() for node in graph_def.node if key in node.attr}


@settings(max_examples=5)
@given(drawn_graphs())
def test_renames_what_the_tool_renames(drawn: Drawn):
    for node in drawn.graph_def.node:
        node.attr["_old"].i = len(node.name)
    ours, tool, comparison = against_tool(
        drawn, "rename_attribute(old_attribute_name=_old, new_attribute_name=_new, op_name=Const)")
    assert comparison.equal
    assert {node.name: sorted(node.attr) for node in ours.node} == {node.name: sorted(node.attr) for node in tool.node}


def test_of_all_ops():
    after, _ = transformed(_graph(), ["x"], ["y"], "rename_attribute(old_attribute_name=_note, new_attribute_name=_b)")
    assert _notes(after, "_b") == {"x": "x", "r": "r", "y": "y"}
    assert not _notes(after, "_note")


def test_of_one_op():
    after, report = transformed(
        _graph(), ["x"], ["y"], "rename_attribute(op_name=Relu, old_attribute_name=_note, new_attribute_name=_b)")
    assert (_notes(after, "_b"), _notes(after, "_note")) == ({"r": "r"}, {"x": "x", "y": "y"})
    assert report.steps[0].applied == 1


def test_refuses_a_name_that_is_in_use():
    graph_def = _graph()
    graph_def.node[1].attr["_b"].s = b"mine"
    after, report = transformed(graph_def, ["x"], ["y"],
                                "rename_attribute(old_attribute_name=_note, new_attribute_name=_b)")
    assert after.node[1].attr["_b"].s == b"mine"
    assert after.node[1].attr["_note"].s == b"r"
    assert reasons(report) == ["it has an attribute '_b' already"]


@pytest.mark.parametrize("args", ["", "(old_attribute_name=a)", "(new_attribute_name=a)"])
def test_needs_both_names(args):
    with pytest.raises(TransformError, match="attribute_name"):
        transformed(_graph(), ["x"], ["y"], f"rename_attribute{args}")
