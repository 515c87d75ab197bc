import numpy as np
import pytest
from graph_session import build, compared, ops, reasons, runtime_graph, seeded, tf, transformed

R, v1 = tf.raw_ops, tf.compat.v1
ROOT = float(np.sqrt(0.5))


def gelu(dtype=tf.float32, half=0.5, root=ROOT, bias=True, other=False, swapped=False, matrix=True):
    """Keras 3's exact GELU after a dense layer; `other`: the halved factor is of another tensor."""
    def make():
        x = v1.placeholder(dtype, (None, 6), "x")
        inside = tf.matmul(x, tf.constant(seeded((6, 6)), dtype)) if matrix else tf.nn.relu(x)
        if bias:
            inside = tf.nn.bias_add(inside, tf.constant(seeded((6,)), dtype), name="bias")
        factor = tf.constant(half, dtype) * (x if other else inside)
        erfc = tf.math.erfc(R.Mul(x=-inside, y=tf.constant(root, dtype)))
        R.Mul(x=erfc if swapped else factor, y=factor if swapped else erfc, name="y")
    return build(make)


@pytest.mark.parametrize("swapped", [False, True])
def test_tensorflow_merges_it(swapped):
    graph_def = gelu(swapped=swapped)
    after, report = transformed(graph_def, ["x"], ["y"], "restore_gelu")
    assert report.steps[0].applied == 1
    assert "Erfc" not in ops(after)
    feeds = {"x": seeded((50, 6)) * 3}
    assert compared(graph_def, after, ["y"], feeds).equal
    merged = [node.attr["fused_ops"].list.s for node in runtime_graph(after, "y", feeds).node
              if "fused_ops" in node.attr]
    assert [list(one) for one in merged] == [[b"BiasAdd", b"GeluExact"]]


@pytest.mark.parametrize(("reason", "options"), [
    ("its type is not float32", {"dtype": tf.float64}),
    ("the two factors are of different tensors", {"other": True}),
    ("a factor is not 0.5000", {"half": 0.25}),
    ("a factor is not 0.7071", {"root": 0.7}),
    ("it does not follow a MatMul and its bias", {"bias": False}),
    ("it does not follow a MatMul and its bias", {"matrix": False}),
])
def test_refuses(reason, options):
    graph_def = gelu(**options)
    after, report = transformed(graph_def, ["x"], ["y"], "restore_gelu")
    assert reasons(report) == [reason]
    assert after == graph_def


def test_refuses_if_something_else_reads_the_bias():
    graph_def = gelu()
    _, report = transformed(graph_def, ["x"], ["y", "bias"], "restore_gelu")
    assert reasons(report) == ["'bias' is also used elsewhere"]
