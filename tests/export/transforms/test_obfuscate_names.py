from differential import against_tool
from graph_session import build, compared, seeded, tf, transformed
from graph_strategies import Drawn, drawn_graphs
from hypothesis import given, settings

from export.graph import Graph
from export.graph_file import as_graph_def, whole
from export.pipeline import run


@settings(max_examples=10)
@given(drawn_graphs())
def test_gives_the_names_that_the_tool_gives(drawn: Drawn):
    ours, tool, comparison = against_tool(drawn, "obfuscate_names")
    assert comparison.equal
    assert [node.name for node in ours.node] == [node.name for node in tool.node]


def test_names_beyond_the_digits():
    def make():
        x = tf.compat.v1.placeholder(tf.float32, (), "x")
        for number in range(70):
            x = tf.negative(x, f"long_name_{number}")
        tf.identity(x, "y")
    after, _ = transformed(build(make), ["x"], ["y"], "obfuscate_names")
    names = [node.name for node in after.node]
    assert names[0] == "x"
    assert names[-1] == "y"
    assert names[1:12] == list("0123456789a")
    # "x" and "y" are taken.
    assert names[59:63] == ["Y", "Z", "10", "11"]


def test_an_output_with_a_port_keeps_its_name_and_is_not_given_to_another():
    def make():
        x = tf.compat.v1.placeholder(tf.float32, (4,), "x")
        first, second = tf.split(x, 2, name="0")
        tf.subtract(second, first, name="long")
    graph_def = build(make)
    graph_def.node[-1].input.append("^0")
    graph_def.node[-1].attr["_class"].list.s.append(b"loc:@0")
    after, _ = transformed(graph_def, ["x:0"], ["0:1", "long"], "obfuscate_names")
    assert [node.name for node in after.node if node.op == "Split"] == ["0"]
    assert compared(graph_def, after, ["0:1", "long"], {"x": seeded((4,))}).equal


def test_colocation_follows():
    def make():
        x = tf.nn.relu(tf.compat.v1.placeholder(tf.float32, (4,), "x"), "relu")
        tf.identity(x, "y")
    graph_def = build(make)
    graph_def.node[-1].attr["_class"].list.s.append(b"loc:@relu")
    after, _ = transformed(graph_def, ["x"], ["y"], "obfuscate_names")
    assert list(after.node[-1].attr["_class"].list.s) == [b"loc:@0"]


def _with_effect():
    @tf.function(input_signature=[tf.TensorSpec((2,), tf.float32)])
    def inner(secret_argument):
        tf.print(secret_argument, output_stream="file:///dev/null", name="secret_print")
        return tf.add(secret_argument, 1.0, name="secret_sum")

    return build(lambda: tf.identity(inner(tf.compat.v1.placeholder(tf.float32, (2,), "x")), "y"))


def test_function_bodies_too_except_nodes_that_a_caller_waits_for():
    graph_def = _with_effect()
    after, _ = transformed(graph_def, ["x"], ["y"], "obfuscate_names")
    (before,), (body,) = graph_def.library.function, after.library.function
    waited_for = set(before.control_ret.values())
    assert waited_for
    assert body.control_ret == before.control_ret
    assert not any("secret" in node.name for node in body.node_def if node.name not in waited_for)
    assert compared(graph_def, after, ["y"], {"x": seeded((2,))}).equal


def test_debug_notes_of_the_old_names_are_dropped():
    graph_def = build(lambda: tf.identity(tf.compat.v1.placeholder(tf.float32, (2,), "x"), "y"))
    graph_def.node[0].experimental_debug_info.original_node_names.append("the/old/name")
    graph, _ = run(Graph.from_graph_def(graph_def, ["x"], ["y"]), "obfuscate_names")
    assert b"the/old/name" not in as_graph_def(whole(graph)).SerializeToString()
