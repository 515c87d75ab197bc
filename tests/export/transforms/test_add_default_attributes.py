from differential import against_tool
from graph_session import build, compared, reasons, seeded, tf, transformed
from graph_strategies import Drawn, drawn_graphs
from hypothesis import given, settings


def _stripped(graph_def):
    """The graph without attributes that have their op's default value, like old and hand-written graphs."""
    for node in graph_def.node:
        for key in ("data_format", "dilations", "use_cudnn_on_gpu", "explicit_paddings"):
            node.attr.pop(key, None)
    return graph_def


@settings(max_examples=10)
@given(drawn_graphs())
def test_fills_in_what_the_tool_fills_in(drawn: Drawn):
    _stripped(drawn.graph_def)
    ours, tool, comparison = against_tool(drawn, "add_default_attributes")
    assert comparison.equal, comparison.summary()
    assert {node.name: dict(node.attr) for node in ours.node} == {node.name: dict(node.attr) for node in tool.node}


def test_an_existing_attribute_stays():
    graph_def = build(lambda: tf.matmul(tf.compat.v1.placeholder(tf.float32, (2, 2), "x"), tf.eye(2), transpose_b=True,
                                        name="y"))
    after, _ = transformed(graph_def, ["x"], ["y"], "add_default_attributes")
    assert next(node for node in after.node if node.name == "y").attr["transpose_b"].b
    assert compared(graph_def, after, ["y"], {"x": seeded((2, 2))}).equal


def test_leaves_an_op_that_is_not_registered():
    graph_def = build(lambda: tf.identity(tf.compat.v1.placeholder(tf.float32, (2,), "x"), "y"))
    graph_def.node.add(name="strange", op="NoSuchOp")
    after, report = transformed(graph_def, ["x"], ["y"], "add_default_attributes")
    assert [node.op for node in after.node] == ["Placeholder", "Identity", "NoSuchOp"]
    assert reasons(report) == ["no op 'NoSuchOp' is registered"]


def test_keeps_the_producer_version():
    graph_def = build(lambda: tf.identity(tf.compat.v1.placeholder(tf.float32, (2,), "x"), "y"))
    after, _ = transformed(graph_def, ["x"], ["y"], "add_default_attributes")
    assert after.versions == graph_def.versions
