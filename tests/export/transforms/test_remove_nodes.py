import pytest
from differential import against_tool
from graph_session import build, compared, ops, reasons, session_run, tf, transformed, v1_control_flow
from graph_strategies import Drawn, drawn_graphs
from hypothesis import given, settings

v1 = tf.compat.v1


@settings(max_examples=12)
@given(drawn_graphs(layers=("conv", "bias", "identity", "add", "split", "relu")))
def test_gives_what_the_tool_gives(drawn: Drawn):
    ours, tool, comparison = against_tool(drawn, "remove_nodes(op=Identity)")
    assert comparison.equal, comparison.summary()
    assert ops(ours) == ops(tool)


def two():
    x = v1.placeholder(tf.float32, [2], "x")
    checked = tf.debugging.check_numerics(tf.identity(x, "first"), "bad", name="checked")
    tf.add(tf.identity(checked, "second"), 1.0, name="y")


def test_readers_read_what_the_node_read():
    before = build(two)
    after, _ = transformed(before, ["x"], ["y"], "remove_nodes(op=Identity, op=CheckNumerics)")
    assert ops(after) == {"Placeholder": 1, "Const": 1, "AddV2": 1}
    assert compared(before, after, ["y"], {"x": [1.0, 2.0]}).equal


def test_requested_inputs_and_outputs_stay():
    before = build(two)
    after, report = transformed(before, ["x", "first"], ["y", "second:0"], "remove_nodes(op=Identity)")
    assert ops(after)["Identity"] == 2
    assert reasons(report) == ["it is a requested input or output"] * 2


@pytest.mark.parametrize(("most", "left"), [(1, 1), (2, 0)])
def test_only_nodes_with_few_enough_inputs(most, left):
    def make():
        x = v1.placeholder(tf.float32, [2], "x")
        tf.sqrt(tf.reshape(x, [2]), name="y")
    after, _ = transformed(build(make), ["x"], ["y"], f"remove_nodes(op=Reshape, max_inputs={most})")
    assert ops(after).get("Reshape", 0) == left


def test_control_inputs_move_to_the_readers():
    def make():
        x = v1.placeholder(tf.float32, [], "x")
        with tf.control_dependencies([tf.raw_ops.Assert(condition=x > 0, data=[x])]):
            guarded = tf.identity(x, "guarded")
        tf.add(guarded, 1.0, name="y")
    before = build(make)
    after, _ = transformed(before, ["x"], ["y"], "remove_nodes(op=Identity)")
    assert "guarded" not in {item.name for item in after.node}
    with pytest.raises(tf.errors.InvalidArgumentError):
        session_run(after, ["y"], {"x": -1.0})


def test_nodes_that_waited_for_a_removed_node_wait_for_its_inputs():
    def make():
        x = v1.placeholder(tf.float32, [2], "x")
        passed = tf.identity(tf.split(x, 2)[1], "passed")
        with tf.control_dependencies([passed]):
            tf.constant(1.0, name="y")
    before = build(make)
    after, _ = transformed(before, ["x"], ["y"], "remove_nodes(op=Identity)")
    assert next(item for item in after.node if item.name == "y").input == ["^split"]
    assert session_run(after, ["y"], {"x": [1.0, 2.0]})["y"] == 1


def test_the_anchors_of_a_loop_stay(v1_loop):
    after, report = transformed(v1_loop, ["x"], ["y"], "remove_nodes(op=Identity, op=NextIteration, op=Enter, op=Exit)")
    assert any("control flow" in reason for reason in reasons(report))
    assert compared(v1_loop, after, ["y"], {"x": [1.0, 3.0]}).equal


def test_the_pivots_of_a_conditional_stay():
    def make():
        x = v1.placeholder(tf.float32, [], "x")
        result = v1.cond(x > 0, lambda: tf.constant(1.0) + x, lambda: tf.constant(2.0))
        tf.identity(result, "y")
    with v1_control_flow():
        before = build(make)
    after, report = transformed(before, ["x"], ["y"], "remove_nodes(op=Identity)")
    assert any("branch" in reason for reason in reasons(report))
    for value in (1.0, -1.0):
        assert compared(before, after, ["y"], {"x": value}).equal


def test_what_nodes_wait_for_after_a_function_stays():
    def make():
        x = v1.placeholder(tf.float32, [], "x")
        with tf.control_dependencies([v1.assert_positive(x, name="positive")]):
            tf.add(x, 1.0, name="y")
    before = build(make)
    assert "If" in ops(before)
    after, report = transformed(before, ["x"], ["y"], "remove_nodes(op=Identity)")
    assert any("waits for it to know that the functions of" in reason for reason in reasons(report))
    assert compared(before, after, ["y"], {"x": 1.0}).equal
    for graph_def in (before, after):
        with pytest.raises(tf.errors.InvalidArgumentError, match="assertion failed"):
            session_run(graph_def, ["y"], {"x": -1.0})


def test_a_node_that_changes_the_type_stays():
    def make():
        tf.add(tf.cast(v1.placeholder(tf.int32, [2], "x"), tf.float32), 1.0, name="y")
    after, report = transformed(build(make), ["x"], ["y"], "remove_nodes(op=Cast)")
    assert ops(after)["Cast"] == 1
    assert reasons(report) == ["it changes the type"]


def test_colocation_with_a_removed_node_is_dropped():
    before = build(two)
    for item in before.node:
        item.attr["_class"].list.s.extend([b"loc:@first", b"loc:@x"])
    after, _ = transformed(before, ["x"], ["y"], "remove_nodes(op=Identity, op=CheckNumerics)")
    assert all(list(item.attr["_class"].list.s) == [b"loc:@x"] for item in after.node)
    assert compared(before, after, ["y"], {"x": [1.0, 2.0]}).equal
