import pytest
from graph_session import build, compared, ops, reasons, seeded, tf, transformed, v1_control_flow
from transform_oracle import ORACLE


def _loop():
    """The squares of x's rows, collected by a v1 loop."""
    def make():
        x = tf.compat.v1.placeholder(tf.float32, (4, 2), "x")
        rows = tf.TensorArray(tf.float32, 4).unstack(x)
        squares = tf.TensorArray(tf.float32, 4)
        _, squares = tf.compat.v1.while_loop(
            lambda i, _: i < 4, lambda i, made: (i + 1, made.write(i, rows.read(i) ** 2)), [0, squares])
        tf.identity(squares.stack(), "y")
        tf.identity(squares.size(), "size")
    with v1_control_flow():
        return build(make)


def _straight():
    def make():
        x = tf.compat.v1.placeholder(tf.float32, (4, 2), "x")
        array = tf.TensorArray(tf.float32, 4).unstack(x)
        tf.add(array.read(1), array.gather([3])[0], name="y")
    with v1_control_flow():
        return build(make)


def _v3(graph_def):
    return [op for op in ops(graph_def) if op.startswith("TensorArray") and op.endswith("V3")]


def test_without_a_loop_as_the_tool_does():
    graph_def = _straight()
    after, report = transformed(graph_def, ["x"], ["y"], "backport_tensor_array_v3")
    tool = ORACLE.transform(graph_def, ["x"], ["y"], "backport_tensor_array_v3")
    assert report.steps[0].applied == 1
    assert {node.name: node.op for node in after.node} == {node.name: node.op for node in tool.node}
    assert _v3(after) == []
    assert compared(graph_def, after, ["y"], {"x": seeded((4, 2))}).equal


def test_in_a_loop_where_the_tools_graph_does_not_load():
    graph_def = _loop()
    after, report = transformed(graph_def, ["x"], ["y", "size"], "backport_tensor_array_v3")
    assert report.steps[0].applied == 2
    assert _v3(after) == []
    assert compared(graph_def, after, ["y", "size"], {"x": seeded((4, 2))}).equal
    tool = ORACLE.transform(graph_def, ["x"], ["y", "size"], "backport_tensor_array_v3")
    with pytest.raises(ValueError, match=r"string.*resource|resource.*string"):
        compared(graph_def, tool, ["y"], {"x": seeded((4, 2))})


def test_gradients():
    def make():
        x = tf.compat.v1.placeholder(tf.float32, (4, 2), "x")
        array = tf.TensorArray(tf.float32, 4).unstack(x)
        tf.identity(tf.compat.v1.gradients(array.read(1) ** 2 + array.read(2), x)[0], "y")
    with v1_control_flow():
        graph_def = build(make)
    after, _ = transformed(graph_def, ["x"], ["y"], "backport_tensor_array_v3")
    assert ops(after)["TensorArrayGradV2"]
    assert _v3(after) == []
    assert compared(graph_def, after, ["y"], {"x": seeded((4, 2))}).equal


def test_the_producer_version_is_the_last_that_allows_them():
    graph_def = _straight()
    after, _ = transformed(graph_def, ["x"], ["y"], "backport_tensor_array_v3")
    assert after.versions.producer == 25
    graph_def.versions.producer = 21
    after, _ = transformed(graph_def, ["x"], ["y"], "backport_tensor_array_v3")
    assert after.versions.producer == 21


def test_nothing_to_do_leaves_the_version():
    graph_def = build(lambda: tf.identity(tf.compat.v1.placeholder(tf.float32, (), "x"), "y"))
    after, _ = transformed(graph_def, ["x"], ["y"], "backport_tensor_array_v3")
    assert after == graph_def


@pytest.mark.parametrize("port", [0, 1])
def test_refuses_a_requested_handle_or_flow(port):
    graph_def = _straight()
    array = next(node.name for node in graph_def.node if node.op == "TensorArrayV3")
    after, report = transformed(graph_def, ["x"], ["y", f"{array}:{port}"], "backport_tensor_array_v3")
    assert "requested" in reasons(report)[0]
    assert after == graph_def


def test_refuses_a_handle_that_goes_elsewhere():
    def make():
        x = tf.compat.v1.placeholder(tf.float32, (4, 2), "x")
        array = tf.TensorArray(tf.float32, 4).unstack(x)
        array.read(0, name="y")
        tf.raw_ops.IdentityN(input=[array.handle], name="elsewhere")
    with v1_control_flow():
        graph_def = build(make)
    after, report = transformed(graph_def, ["x"], ["y"], "backport_tensor_array_v3")
    assert reasons(report) == ["a handle goes into 'elsewhere' (IdentityN), which has no counterpart for V2"]
    assert after == graph_def
