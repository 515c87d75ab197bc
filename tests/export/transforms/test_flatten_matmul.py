import numpy as np
import pytest
from graph_session import (
    build,
    compared,
    ops,
    reasons,
    runtime_graph,
    seeded,
    session_run,
    tf,
    transformed,
    v1_control_flow,
)

R, v1 = tf.raw_ops, tf.compat.v1


def dense(shape=(None, 5, 6), bias=True, **attrs):
    """y = relu(x @ W + b) of rows in a tensor of any rank."""
    def make():
        x = v1.placeholder(tf.float32, shape, "x")
        weights = tf.constant(seeded((4, 6) if attrs.get("adj_y") else (6, 4)))
        product = R.BatchMatMulV2(x=x, y=weights, name="product", **attrs)
        tf.nn.relu(tf.nn.bias_add(product, tf.constant(seeded((4,)))) if bias else product, name="y")
    return build(make)


@pytest.mark.parametrize(("shape", "attrs"), [
    ((None, 5, 6), {}), ((None, 5, 6), {"adj_y": True}), ((2, 5, 6), {}), ((None, None, 6), {}),
    ((None, None, None, 6), {}), ((None, 3, None, 6), {"adj_y": True}), ((None, 6), {}), ((2, 3, 4, 5, 6), {})])
def test_rows_are_multiplied(shape, attrs):
    graph_def = dense(shape, **attrs)
    after, report = transformed(graph_def, ["x"], ["y"], "flatten_matmul")
    assert report.steps[0].applied == 1
    assert "BatchMatMulV2" not in ops(after)
    for unknown in (1, 3):
        feeds = {"x": seeded([unknown if size is None else size for size in shape])}
        assert compared(graph_def, after, ["y"], feeds).equal


def test_an_empty_batch():
    after, _ = transformed(dense(), ["x"], ["y"], "flatten_matmul")
    assert session_run(after, ["y"], {"x": np.zeros((0, 5, 6), np.float32)})["y"].shape == (0, 5, 4)


def test_tensorflow_merges_bias_and_activation():
    graph_def = dense()
    after, _ = transformed(graph_def, ["x"], ["y"], "default")
    merged = [[one.decode() for one in node.attr["fused_ops"].list.s]
              for node in runtime_graph(after, "y", {"x": seeded((2, 5, 6))}).node if "fused_ops" in node.attr]
    assert merged == [["BiasAdd", "Relu"]]
    assert "fused_ops" not in str(runtime_graph(graph_def, "y", {"x": seeded((2, 5, 6))}))


@pytest.mark.parametrize(("reason", "graph_def"), [
    ("the input is transposed", dense((None, 6, 5), bias=False, adj_x=True)),
    ("the input's rank or last size is unknown", dense(None, bias=False)),
    ("the input's rank or last size is unknown", dense((None, 5, None), bias=False)),
])
def test_refuses(reason, graph_def):
    after, report = transformed(graph_def, ["x"], ["y"], "flatten_matmul")
    assert reasons(report) == [reason]
    assert after == graph_def


def test_other_products_stay():
    def make():
        x = v1.placeholder(tf.float32, (None, 5, 6), "x")
        R.BatchMatMulV2(x=R.BatchMatMulV2(x=x, y=x, adj_y=True), y=tf.constant(seeded((1, 5, 6))), name="y")
    graph_def = build(make)
    assert transformed(graph_def, ["x"], ["y"], "flatten_matmul")[0] == graph_def


def test_a_fed_product_stays():
    graph_def = dense()
    assert transformed(graph_def, ["x", "product"], ["y"], "flatten_matmul")[0] == graph_def


def test_a_transpose_that_moves_nothing_goes():
    def make():
        x = v1.placeholder(tf.float32, (None, 5, 6), "x")
        tf.nn.relu(tf.transpose(tf.transpose(x, [0, 1, 2]), [0, 2, 1]), name="y")
    graph_def = build(make)
    after, report = transformed(graph_def, ["x"], ["y"], "flatten_matmul")
    assert (report.steps[0].applied, ops(after)["Transpose"]) == (1, 1)
    assert compared(graph_def, after, ["y"], {"x": seeded((2, 5, 6))}).equal


def test_in_a_v1_loop():
    def make():
        x = v1.placeholder(tf.float32, (None, 3, 4), "x")

        def body(i, value):
            with tf.control_dependencies([i]):
                weights = tf.constant(seeded((4, 4)) * 0.3)
            return i + 1, tf.tanh(R.BatchMatMulV2(x=tf.reshape(value, [-1, 3, 4]), y=weights))
        tf.identity(v1.while_loop(lambda i, _: i < 3, body, [0, x])[1], "y")
    with v1_control_flow():
        graph_def = build(make)
    after, report = transformed(graph_def, ["x"], ["y"], "flatten_matmul")
    assert report.steps[0].applied == 1
    assert compared(graph_def, after, ["y"], {"x": seeded((2, 3, 4))}).equal


@pytest.mark.parametrize(("reason", "dtype", "shape"), [
    ("its numbers are no floats", tf.complex64, (None, 5, 6)), ("its numbers are no floats", tf.int16, (None, 5, 6)),
    ("a size is 0", tf.float32, (None, 0, 6))])
def test_types_and_sizes_that_matmul_or_reshape_lack(reason, dtype, shape):
    def make():
        x = v1.placeholder(tf.float32, shape, "x")
        product = R.BatchMatMulV2(x=tf.cast(x, dtype), y=tf.constant(seeded((4, 6)).astype(dtype.as_numpy_dtype)),
                                  adj_y=True)
        tf.identity(tf.cast(tf.math.real(product) if dtype.is_complex else product, tf.float32), "y")
    graph_def = build(make)
    after, report = transformed(graph_def, ["x"], ["y"], "flatten_matmul")
    assert reasons(report) == [reason]
    assert after == graph_def


def test_fed_weights_stay():
    graph_def = dense()
    weights = next(node.name for node in graph_def.node if node.op == "Const" and len(
        node.attr["value"].tensor.tensor_shape.dim) == 2)
    after, _ = transformed(graph_def, ["x", weights], ["y"], "default")
    feeds = {"x": seeded((2, 5, 6)), weights: seeded((6, 4), 8)}
    assert compared(graph_def, after, ["y"], feeds).equal
