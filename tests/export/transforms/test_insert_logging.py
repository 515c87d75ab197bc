import pytest
from differential import against_tool
from graph_session import build, compared, ops, reasons, seeded, session_run, tf, transformed
from graph_strategies import Drawn, drawn_graphs
from hypothesis import given, settings


def _graph():
    def make():
        x = tf.compat.v1.placeholder(tf.float32, (4,), "x")
        first, second = tf.split(tf.nn.relu(x, "first/relu"), 2, name="second/halves")
        tf.subtract(second, first, name="y")
    return build(make)


@settings(max_examples=8)
@given(drawn_graphs())
def test_logs_after_the_nodes_that_the_tool_logs(drawn: Drawn):
    ours, tool, comparison = against_tool(drawn, "insert_logging(op=Relu, op=Conv2D, first_n=0, show_name=true)")
    assert comparison.equal

    def prints(graph_def):
        return {node.name: (list(node.input), node.attr["message"].s) for node in graph_def.node if node.op == "Print"}
    named = {name: [ref if ":" in ref else f"{ref}:0" for ref in inputs] for name, (inputs, _) in prints(ours).items()}
    assert named == {name: inputs for name, (inputs, _) in prints(tool).items()}
    assert {name: message for name, (_, message) in prints(ours).items()} == {
        name: message for name, (_, message) in prints(tool).items()}


def test_writes_the_values_to_standard_error(capfd):
    after, _ = transformed(_graph(), ["x"], ["y"],
                           "insert_logging(op=Relu, show_op=true, show_name=true, message=\"values: \", summarize=2)")
    session_run(after, ["y"], {"x": [1.5, 2.5, -3, 4]})
    assert ";Relu;;first/relu__print__;values: [1.5 2.5...]" in capfd.readouterr().err


def test_all_outputs_of_a_node_in_one_line(capfd):
    graph_def = _graph()
    after, _ = transformed(graph_def, ["x"], ["y"], "insert_logging(prefix=second, prefix=none)")
    session_run(after, ["y"], {"x": [1, 2, 3, 4]})
    assert "[1 2][3 4]" in capfd.readouterr().err
    assert compared(graph_def, after, ["y"], {"x": seeded((4,))}).equal


def test_a_second_output_alone(capfd):
    """The tool's Print passes only the first output on; no node reads that here, so its Print never runs."""
    def make():
        x = tf.compat.v1.placeholder(tf.float32, (4,), "x")
        tf.identity(tf.split(x, 2, name="halves")[1], name="y")
    after, _ = transformed(build(make), ["x"], ["y"], "insert_logging(op=Split)")
    session_run(after, ["y"], {"x": [1, 2, 3, 4]})
    assert "[3 4]" in capfd.readouterr().err


@settings(max_examples=6)
@given(drawn_graphs())
def test_everything_logged_computes_the_same(drawn: Drawn):
    after, report = transformed(drawn.graph_def, ["x"], drawn.outputs, "insert_logging(first_n=0)")
    assert report.steps[0].applied
    assert compared(drawn.graph_def, after, drawn.outputs, drawn.feeds()).equal


def test_refuses_a_node_that_nothing_reads():
    after, report = transformed(_graph(), ["x"], ["y"], "insert_logging(op=Sub)")
    assert reasons(report) == ["no other node reads it"]
    assert "Print" not in ops(after)


def test_refuses_parts_of_a_loop(v1_loop):
    graph_def = v1_loop
    after, report = transformed(graph_def, ["x"], ["y"], "insert_logging(first_n=0)")
    assert "Switch is part of a v1 loop or conditional" in reasons(report)
    assert compared(graph_def, after, ["y"], {"x": seeded((2,))}).equal
    assert not any(node.op == "Merge" and any("__print__" in ref for ref in node.input) for node in after.node)


def test_refuses_resources_and_references():
    def make():
        table = tf.raw_ops.HashTableV2(key_dtype=tf.int64, value_dtype=tf.float32, name="table")
        keys = tf.constant([1], tf.int64)
        filled = tf.raw_ops.LookupTableImportV2(table_handle=table, keys=keys, values=[2.0])
        with tf.control_dependencies([filled]):
            tf.raw_ops.LookupTableFindV2(table_handle=table, keys=keys, default_value=0.0, name="y")
        variable = tf.raw_ops.VariableV2(shape=(), dtype=tf.float32, name="variable")
        tf.raw_ops.Assign(ref=variable, value=3.0, name="assign")
    graph_def = build(make)
    after, report = transformed(graph_def, [], ["y"], "insert_logging(first_n=0)")
    skipped = dict(report.steps[0].skipped)
    reason = "a resource, a variant or a reference has no values to print"
    assert skipped["table"] == skipped["variable"] == reason
    assert compared(graph_def, after, ["y"], {}).equal


def test_refuses_unknown_types():
    graph_def = _graph()
    graph_def.node.add(name="strange", op="NoSuchOp")
    graph_def.node[-2].input.append("^strange")
    _, report = transformed(graph_def, ["x"], ["y"], "insert_logging(op=NoSuchOp)")
    assert reasons(report) == ["the types of 'NoSuchOp' are not known"]


@pytest.mark.parametrize("dtype", [tf.int32, tf.string, tf.bool, tf.bfloat16, tf.float16, tf.complex64])
def test_other_types(dtype, capfd):
    graph_def = build(lambda: tf.identity(tf.cast(tf.constant([1]), dtype) if dtype != tf.string else
                                          tf.constant(["text"]), "y"))
    name = next(node.name for node in graph_def.node if node.name != "y")
    after, report = transformed(graph_def, [], ["y"], f"insert_logging(prefix={name})")
    assert report.steps[0].applied
    assert compared(graph_def, after, ["y"], {}).equal
    assert "[" in capfd.readouterr().err
