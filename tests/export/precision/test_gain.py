import pytest
from graph_session import build, seeded, tf

from export.graph import Graph
from export.precision.gain import multiply_adds

R, v1 = tf.raw_ops, tf.compat.v1


def image(size=8, channels=4):
    return v1.placeholder(tf.float32, (None, size, size, channels), "x")


@pytest.mark.parametrize(("make", "expected"), [
    (lambda: tf.nn.conv2d(image(), tf.constant(seeded((3, 3, 4, 6))), 2, "SAME", name="y"), 4 * 4 * 3 * 3 * 4 * 6),
    (lambda: tf.nn.conv2d(image(None), tf.constant(seeded((3, 3, 4, 6))), 2, "SAME", name="y"), 3 * 3 * 4 * 6),
    (lambda: R.DepthwiseConv2dNative(input=image(), filter=tf.constant(seeded((3, 3, 4, 2))), strides=[1] * 4,
                                     padding="SAME", name="y"), 8 * 8 * 3 * 3 * 4 * 2),
    (lambda: tf.nn.conv2d_transpose(image(), tf.constant(seeded((2, 2, 6, 4))), (2, 16, 16, 6), 2, name="y"),
     8 * 8 * 2 * 2 * 4 * 6),
    (lambda: tf.matmul(v1.placeholder(tf.float32, (None, 5)), tf.constant(seeded((7, 5))), transpose_b=True, name="y"),
     5 * 7),
    (lambda: R.BatchMatMulV2(x=v1.placeholder(tf.float32, (None, 2, 5, 3)), y=v1.placeholder(
        tf.float32, (None, 2, 7, 3)), adj_y=True, name="y"), 2 * 5 * 7 * 3),
    (lambda: R.Einsum(inputs=[v1.placeholder(tf.float32, (None, 5, 6)), tf.constant(seeded((6, 2, 3)))],
                      equation="abc,cde->abde", name="y"), 5 * 6 * 2 * 3),
])
def test_multiply_adds_of_one_example(make, expected):
    graph = Graph.from_graph_def(build(make), [], [])
    assert multiply_adds(graph.nodes["y"], graph.shapes) == expected
