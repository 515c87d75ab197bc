from differential import against_tool
from graph_session import build, compared, ops, reasons, session_run, tf, transformed, v1_control_flow
from graph_strategies import Drawn, drawn_graphs
from hypothesis import given, settings

v1 = tf.compat.v1


@settings(max_examples=12)
@given(drawn_graphs())
def test_control_dependencies_go_as_with_the_tool(drawn: Drawn):
    ours, tool, comparison = against_tool(drawn, "remove_control_dependencies")
    assert comparison.equal, comparison.summary()
    assert list(ours.node) == list(tool.node)


def test_writes_keep_their_order():
    def make():
        x = v1.placeholder(tf.float32, [], "x")
        variable = v1.Variable(1.0, use_resource=True)
        with tf.control_dependencies([variable.initializer]), tf.control_dependencies([variable.assign_add(x)]):
            tf.identity(variable.read_value(), "y")
    before = build(make)
    after, report = transformed(before, ["x"], ["y"], "remove_control_dependencies")
    assert any("orders the effect" in reason for reason in reasons(report))
    assert session_run(after, ["y"], {"x": 4.0})["y"] == session_run(before, ["y"], {"x": 4.0})["y"] == 5.0


def test_an_assert_is_removed():
    def make():
        x = v1.placeholder(tf.float32, [], "x")
        with tf.control_dependencies([tf.raw_ops.Assert(condition=x > 0, data=[x])]):
            tf.identity(x, "y")
    after, _ = transformed(build(make), ["x"], ["y"], "remove_control_dependencies strip_unused_nodes")
    assert ops(after) == {"Placeholder": 1, "Identity": 1}


def test_control_inputs_that_keep_constants_in_a_loop_or_branch_stay(v1_loop):
    after, report = transformed(v1_loop, ["x"], ["y"], "remove_control_dependencies")
    assert any("in its loop or branch" in reason for reason in reasons(report))
    assert compared(v1_loop, after, ["y"], {"x": [1.0, 3.0]}).equal

    def make():
        x = v1.placeholder(tf.float32, [], "x")
        tf.identity(v1.cond(x > 0, lambda: tf.constant(1.0), lambda: tf.constant(2.0)), "y")
    with v1_control_flow():
        before = build(make)
    after, _ = transformed(before, ["x"], ["y"], "remove_control_dependencies")
    for value in (1.0, -1.0):
        assert compared(before, after, ["y"], {"x": value}).equal


def test_a_requested_group_still_runs_its_parts():
    def make():
        x = v1.placeholder(tf.float32, [], "x")
        tf.group(tf.sqrt(x), tf.square(x), name="both")
    after, report = transformed(build(make), ["x"], ["both"], "remove_control_dependencies")
    assert len(next(item for item in after.node if item.name == "both").input) == 2
    assert any("only runs what it waits for" in reason for reason in reasons(report))
