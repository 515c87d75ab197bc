import pytest
from differential import against_tool
from graph_session import build, compared, reasons, seeded, session_run, tf, transformed
from graph_strategies import Drawn, drawn_graphs
from hypothesis import assume, given, settings

from export.graph import Graph
from export.graph_file import as_graph_def, whole
from export.pipeline import run
from export.transform import TransformError


def _graph():
    def make():
        x = tf.compat.v1.placeholder(tf.float32, (4,), "x")
        first, second = tf.split(x, 2, name="halves")
        tf.subtract(second, first, name="y")
    graph_def = build(make)
    graph_def.node[-1].input.append("^halves")
    graph_def.node[-1].attr["_class"].list.s.append(b"loc:@halves")
    return graph_def


@settings(max_examples=8)
@given(drawn_graphs())
def test_renames_as_the_tool_does(drawn: Drawn):
    old = next((node.name for node in drawn.graph_def.node if node.name not in ("x", *drawn.outputs)), "")
    assume(old)
    ours, tool, comparison = against_tool(drawn, f"rename_node(old_node_name={old}, new_node_name=renamed/a.b)")
    assert comparison.equal
    assert [node.name for node in ours.node] == [node.name for node in tool.node]
    assert "renamed/a.b" in {node.name for node in ours.node}


def test_all_mentions_of_the_node_are_renamed():
    graph_def = _graph()
    after, _ = transformed(graph_def, ["x"], ["y"], "rename_node(old_node_name=halves, new_node_name=parts)")
    last = after.node[-1]
    assert list(last.input) == ["parts:1", "parts", "^parts"]
    assert list(last.attr["_class"].list.s) == [b"loc:@parts"]
    assert compared(graph_def, after, ["y"], {"x": seeded((4,))}).equal


def test_a_requested_output_is_requested_under_its_new_name():
    graph_def = _graph()
    graph, _ = run(Graph.from_graph_def(graph_def, ["x:0"], ["y:0"]),
                   "rename_node(old_node_name=y, new_node_name=answer) strip_unused_nodes")
    assert graph.outputs == ("answer",)
    feeds = {"x": seeded((4,))}
    renamed, original = session_run(as_graph_def(whole(graph)), ["answer"], feeds), session_run(graph_def, ["y"], feeds)
    assert (renamed["answer"] == original["y"]).all()


def test_a_name_that_is_in_use_is_an_error():
    with pytest.raises(TransformError, match="called 'y' already"):
        transformed(_graph(), ["x"], ["y"], "rename_node(old_node_name=halves, new_node_name=y)")


def test_a_name_that_is_invalid_in_tensorflow_is_an_error():
    with pytest.raises(TransformError, match="'_y' is no name for a node"):
        transformed(_graph(), ["x"], ["y"], "rename_node(old_node_name=halves, new_node_name=_y)")


def test_an_unknown_node_is_a_skip():
    after, report = transformed(_graph(), ["x"], ["y"], "rename_node(old_node_name=halve, new_node_name=z)")
    assert reasons(report) == ["there is no such node (did you mean 'halves'?)"]
    assert after == _graph()
