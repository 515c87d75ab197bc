from differential import against_tool
from graph_session import build, compared, ops, seeded, session_run, tf, transformed
from graph_strategies import Drawn, drawn_graphs
from hypothesis import given, settings

v1 = tf.compat.v1


@settings(max_examples=12)
@given(drawn_graphs())
def test_gives_what_the_tool_gives_in_as_few_nodes(drawn: Drawn):
    ours, tool, comparison = against_tool(drawn, "merge_duplicate_nodes")
    assert comparison.equal, comparison.summary()
    assert len(ours.node) <= len(tool.node)


def twins():
    x = v1.placeholder(tf.float32, [2], "x")
    a = tf.sqrt(x + tf.constant([1.0, 2.0]), name="a")
    b = tf.sqrt(x + tf.constant([1.0, 2.0]), name="b")
    tf.add(a, b, name="y")


def test_equal_chains_become_one():
    before = build(twins)
    after, _ = transformed(before, ["x"], ["y"], "merge_duplicate_nodes")
    assert ops(after) == {"Placeholder": 1, "Const": 1, "AddV2": 2, "Sqrt": 1}
    assert compared(before, after, ["y"], {"x": [1.0, 2.0]}).equal


def test_the_requested_output_of_two_duplicates_stays():
    before = build(twins)
    for outputs in (["y", "a"], ["y", "b"], ["y", "a:0"], ["y", "b:0"], ["a", "b"]):
        after, report = transformed(before, ["x"], outputs, "merge_duplicate_nodes")
        assert compared(before, after, outputs, {"x": [1.0, 2.0]}).equal
        assert ops(after).get("Sqrt") == (2 if outputs == ["a", "b"] else 1)
    assert report.steps[0].skipped == [("b", "both it and its twin 'a' are requested outputs")]


def test_placeholders_and_random_ops_are_never_merged():
    def make():
        a, b = v1.placeholder(tf.float32, [2]), v1.placeholder(tf.float32, [2])
        tf.subtract(a + v1.random_uniform([2], seed=1), b + v1.random_uniform([2], seed=1), name="y")
    before = build(make)
    after, _ = transformed(before, [], ["y"], "merge_duplicate_nodes")
    assert ops(after)["Placeholder"] == ops(after)["RandomUniform"] == 2


def test_nodes_that_differ_in_types_attributes_devices_or_control_inputs_are_not_merged():
    def make():
        x = v1.placeholder(tf.float32, [2, 2], "x")
        with tf.control_dependencies([x]):
            waits = tf.constant(1.0)
        with tf.device("/CPU:0"):
            placed = tf.constant(1.0)
        parts = [tf.matmul(x, x), tf.matmul(x, x, transpose_a=True), tf.matmul(x, x, transpose_b=True)]
        numbers = [tf.constant(1.0), waits, placed, tf.cast(1, tf.float32), tf.cast(True, tf.float32)]
        tf.add_n(parts + [x * number for number in numbers], name="y")
    before = build(make)
    after, report = transformed(before, ["x"], ["y"], "merge_duplicate_nodes")
    assert [step.applied for step in report.steps] == [0]
    assert compared(before, after, ["y"], {"x": seeded([2, 2])}).equal


def test_further_outputs_and_control_inputs_follow():
    def make():
        x = v1.placeholder(tf.float32, [4], "x")
        first, second = tf.split(x, 2, name="one"), tf.split(x, 2, name="two")
        with tf.control_dependencies([second[1]]):
            tf.add(first[1], first[0], name="y")
        tf.add(second[0], second[1], name="z")
    before = build(make)
    after, _ = transformed(before, ["x"], ["y", "z"], "merge_duplicate_nodes")
    assert ops(after)["Split"] == 1
    assert next(item for item in after.node if item.name == "y").input == ["one:1", "one", "^one"]
    assert session_run(after, ["z"], {"x": [1.0, 2.0, 3.0, 4.0]})["z"].tolist() == [4.0, 6.0]


def test_a_loop_still_runs(v1_loop):
    after, _ = transformed(v1_loop, ["x"], ["y"], "merge_duplicate_nodes")
    assert compared(v1_loop, after, ["y"], {"x": [1.0, 3.0]}).equal
