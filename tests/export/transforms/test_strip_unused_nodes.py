import numpy as np
import pytest
from differential import against_tool
from graph_session import build, compared, ops, session_run, tf, transformed
from graph_strategies import Drawn, drawn_graphs
from hypothesis import given, settings

from export.graph import Graph, normal
from export.pipeline import StepError, run

v1 = tf.compat.v1


@settings(max_examples=12)
@given(drawn_graphs())
def test_keeps_the_nodes_that_the_tool_keeps(drawn: Drawn):
    ours, tool, comparison = against_tool(drawn, "strip_unused_nodes")
    assert comparison.equal, comparison.summary()
    assert {item.name for item in ours.node} == {item.name for item in tool.node}


def branches():
    x = v1.placeholder(tf.float32, [2], "x")
    unused = v1.placeholder(tf.int32, [3], "unused")
    tf.cast(unused, tf.float32, name="nowhere")
    hidden = tf.cast(tf.round(x), tf.int64, name="hidden")
    tf.add(hidden, 1, name="y")


def nodes(graph_def):
    return {item.name: item for item in graph_def.node}


def test_unneeded_nodes_are_dropped_and_listed_inputs_stay():
    after, _ = transformed(build(branches), ["x", "unused"], ["y"], "strip_unused_nodes")
    assert "nowhere" not in nodes(after)
    assert nodes(after)["unused"].op == "Placeholder"
    dropped, _ = transformed(build(branches), ["x"], ["y"], "strip_unused_nodes")
    assert "unused" not in nodes(dropped)


def test_a_fed_node_becomes_a_placeholder_of_the_same_type():
    after, _ = transformed(build(branches), ["hidden"], ["y"], "strip_unused_nodes")
    assert set(nodes(after)) == {"hidden", "y", "y/y"}
    assert nodes(after)["hidden"].attr["dtype"].type == tf.int64.as_datatype_enum
    assert session_run(after, ["y"], {"hidden": np.array([4, 5, 6])})["y"].tolist() == [5, 6, 7]


def test_type_and_shape_may_be_given():
    text = 'strip_unused_nodes(type=quint8, shape="-1,4", name=hidden, type_for_name=int64, shape_for_name="2")'
    graph, _ = run(Graph.from_graph_def(build(branches), ["hidden"], ["y"]), text)
    assert graph.nodes["hidden"].get("shape") == (2,)
    graph, _ = run(Graph.from_graph_def(build(branches), ["hidden"], ["y"]), 'strip_unused_nodes(shape="-1,4")')
    assert graph.nodes["hidden"].get("shape") == (-1, 4)
    assert repr(graph.nodes["hidden"].get("dtype")) == "int64"


@pytest.mark.parametrize("wrong", ["type=nothing", 'shape="2,b"', "name=hidden, name=x, type_for_name=int64"])
def test_wrong_types_shapes_and_names_are_errors(wrong):
    with pytest.raises(StepError):
        transformed(build(branches), ["hidden"], ["y"], f"strip_unused_nodes({wrong})")


def test_a_default_is_kept_with_what_computes_it():
    def make():
        default = tf.sqrt(tf.constant([4.0, 9.0]))
        tf.add(v1.placeholder_with_default(default, [2], "x"), 1.0, name="y")
    before = build(make)
    after, _ = transformed(before, ["x"], ["y"], "strip_unused_nodes")
    assert nodes(after)["x"].op == "PlaceholderWithDefault"
    assert session_run(after, ["y"], {})["y"].tolist() == [3.0, 4.0]


def test_one_fed_output_of_several_leaves_the_node():
    def make():
        a, b = tf.split(v1.placeholder(tf.float32, [4], "x"), 2, name="halves")
        tf.add(a, b, name="y")
    before = build(make)
    for inputs in (["x", "halves:1"], ["halves:0", "halves:1"]):
        after, _ = transformed(before, inputs, ["y"], "strip_unused_nodes")
        assert ops(after)["Split"] == 1
        feeds = {"x": [1.0, 2.0, 3.0, 4.0], "halves:1": [7.0, 8.0]}
        assert compared(before, after, ["y"], feeds).equal


def test_an_initialiser_with_only_control_inputs_can_be_an_output():
    def make():
        variable = v1.Variable([1.0, 2.0], use_resource=True, name="v")
        tf.group(variable.initializer, name="init")
        tf.add(variable, v1.placeholder(tf.float32, [2], "x"), name="y")
    before = build(make)
    after, _ = transformed(before, ["x"], ["y", "init"], "default")
    assert session_run(after, ["y"], {"x": [1.0, 1.0]}, before=["init"])["y"].tolist() == [2.0, 3.0]


def test_effects_in_a_function_body_stay():
    @tf.function
    def count(x):
        tf.print("running", output_stream="file:///dev/null")
        tf.sqrt(x)
        return x + 1.0

    def make():
        tf.identity(count(v1.placeholder(tf.float32, [2], "x")), "y")
    before = build(make)
    after, _ = transformed(before, ["x"], ["y"], "strip_unused_nodes")
    body = [item.op for item in after.library.function[0].node_def]
    assert "PrintV2" in body
    assert "Sqrt" not in body
    assert compared(before, after, ["y"], {"x": [1.0, 2.0]}).equal


def test_port_zero_and_the_bare_name_are_the_same():
    assert normal("x:0") == "x"
    one, _ = transformed(build(branches), ["x:0"], ["y:0"], "strip_unused_nodes")
    other, _ = transformed(build(branches), ["x"], ["y"], "strip_unused_nodes")
    assert one == other
