import pytest
from graph_session import build, compared, ops, reasons, seeded, tf, transformed

R, v1 = tf.raw_ops, tf.compat.v1


def scores(order=(0, 1, 3, 2), dtype=tf.float32, other=False, **attrs):
    """y = the transposed product of two tensors made from x."""
    def make():
        x = v1.placeholder(tf.float32, (None, 2, 5, 5), "x")
        left, right = tf.cast(x, dtype), tf.cast(tf.tanh(x), dtype)
        product = R.BatchMatMulV2(x=left, y=right, name="product", **attrs)
        if other:
            tf.identity(product, "other")
        tf.identity(tf.math.real(tf.transpose(product, order)), "y")
    return build(make)


@pytest.mark.parametrize("adj_x", [False, True])
@pytest.mark.parametrize("adj_y", [False, True])
def test_the_operands_are_exchanged(adj_x, adj_y):
    graph_def = scores(adj_x=adj_x, adj_y=adj_y)
    after, report = transformed(graph_def, ["x"], ["y"], "fold_transposes")
    assert report.steps[0].applied == 1
    assert "Transpose" not in ops(after)
    assert compared(graph_def, after, ["y"], {"x": seeded((3, 2, 5, 5))}).equal


@pytest.mark.parametrize(("reason", "graph_def", "outputs"), [
    ("it does not only exchange the last two axes", scores((0, 2, 1, 3)), ["y"]),
    ("it does not only exchange the last two axes", scores((1, 0, 3, 2)), ["y"]),
    ("'product' is also read by 'other'", scores(other=True), ["y", "other"]),
    ("'product' is itself a requested input or output", scores(), ["y", "product"]),
    ("its numbers are no floats: an adjoint matrix of complex ones is more than transposed",
     scores(dtype=tf.complex64), ["y"]),
])
def test_refuses(reason, graph_def, outputs):
    after, report = transformed(graph_def, ["x"], outputs, "fold_transposes")
    assert reasons(report) == [reason]
    assert after == graph_def
