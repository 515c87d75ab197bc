"""A region is made from the multiplications per converted element on that were asked for, not one fewer."""
import pytest
from graph_session import build, seeded, tf

from export.graph import Graph
from export.precision.bfloat16 import to_bfloat16

R, v1 = tf.raw_ops, tf.compat.v1


def fed(*shape):
    return v1.placeholder(tf.float32, (None, *shape))


def precisions(make, least_work):
    graph = Graph.from_graph_def(build(make), [], ["y"])
    return [layer.precision for layer in to_bfloat16(graph, least_work=least_work)[1]]


def two_layers():
    """The tensor between two layers is not converted."""
    middle = tf.nn.relu(tf.matmul(fed(4), tf.constant(seeded((4, 100)))))
    return tf.matmul(middle, tf.constant(seeded((100, 4))), name="y")


@pytest.mark.parametrize(("make", "multiplications", "elements"), [
    (lambda: tf.nn.conv2d(fed(8, 8, 4), tf.constant(seeded((3, 3, 4, 6))), 2, "SAME", name="y"),
     4 * 4 * 3 * 3 * 4 * 6, 8 * 8 * 4 + 4 * 4 * 6),
    # Of an image whose size is unknown one place is counted, in both.
    (lambda: tf.nn.conv2d(fed(None, None, 4), tf.constant(seeded((3, 3, 4, 6))), 2, "SAME", name="y"),
     3 * 3 * 4 * 6, 4 + 6),
    (lambda: R.DepthwiseConv2dNative(input=fed(8, 8, 4), filter=tf.constant(seeded((3, 3, 4, 2))), strides=[1] * 4,
                                     padding="SAME", name="y"), 8 * 8 * 3 * 3 * 4 * 2, 8 * 8 * 4 + 8 * 8 * 8),
    (lambda: tf.matmul(fed(5), tf.constant(seeded((7, 5))), transpose_b=True, name="y"), 5 * 7, 5 + 7),
    (lambda: R.BatchMatMulV2(x=fed(2, 5, 3), y=fed(2, 7, 3), adj_y=True, name="y"),
     2 * 5 * 7 * 3, 2 * 5 * 3 + 2 * 7 * 3 + 2 * 5 * 7),
    (lambda: R.Einsum(inputs=[fed(5, 6), tf.constant(seeded((6, 2, 3)))], equation="abc,cde->abde", name="y"),
     5 * 6 * 2 * 3, 5 * 6 + 5 * 2 * 3),
    (two_layers, 2 * 400, 4 + 4),
])
def test_multiplications_per_element(make, multiplications, elements):
    enough = precisions(make, multiplications / elements)
    assert set(enough) == {"bfloat16"}
    assert set(precisions(make, multiplications / elements * 1.001)) == {"float32"}


def test_an_einsum_of_one_tensor_of_unknown_rank():
    def make():
        R.Einsum(inputs=[v1.placeholder(tf.float32, None)], equation="...ij->...ji", name="y")
    assert precisions(make, 1.0) == ["float32"]
