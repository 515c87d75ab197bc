"""The count of multiplications in a graph's contractions: by operation, at a batch, through shapes that it computes."""
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from graph_session import build, seeded, tf

from benchmark.targets.in_process.model_work import gigaflop, multiply_adds
from export import pipeline
from export.graph import Graph
from export.precision.work import CONTRACTIONS
from user_error import UserError

tf1 = tf.compat.v1


def graph(make: Callable[[Any], Any], shape: tuple[int | None, ...]) -> Graph:
    def made() -> None:
        tf.identity(make(tf1.placeholder(tf.float32, shape, "x")), "y")
    return Graph.from_graph_def(build(made), ["x"], ["y"])


def weights(*shape: int) -> Any:
    return tf.constant(seeded(shape))


@pytest.mark.parametrize(("make", "shape", "each"), [
    (lambda x: tf.nn.conv2d(x, weights(3, 3, 4, 8), 2, "SAME"), (None, 10, 10, 4), 5 * 5 * 8 * 3 * 3 * 4),
    (lambda x: tf.nn.conv2d(x, weights(3, 3, 4, 8), 1, "VALID", dilations=2), (None, 10, 10, 4), 6 * 6 * 8 * 3 * 3 * 4),
    (lambda x: tf.nn.conv2d(x, weights(3, 3, 2, 8), 1, "SAME"), (None, 6, 6, 4), 6 * 6 * 8 * 3 * 3 * 2),  # two groups
    (lambda x: tf.nn.conv3d(x, weights(2, 3, 3, 4, 8), [1] * 5, "SAME"), (None, 5, 6, 6, 4),
     5 * 6 * 6 * 8 * 2 * 3 * 3 * 4),
    (lambda x: tf.nn.depthwise_conv2d(x, weights(3, 3, 4, 2), [1, 1, 1, 1], "SAME"), (None, 6, 6, 4), 6 * 6 * 8 * 9),
    (lambda x: tf.nn.conv2d_transpose(x, weights(3, 3, 8, 4), [tf.shape(x)[0], 12, 12, 8], 2), (None, 6, 6, 4),
     6 * 6 * 4 * 3 * 3 * 8),
    (lambda x: tf.matmul(x, weights(7, 5)), (None, 7), 7 * 5),
    (lambda x: tf.matmul(x, weights(5, 7), transpose_b=True), (None, 7), 7 * 5),
    (lambda x: tf.matmul(x, x, transpose_b=True), (None, 6, 7), 6 * 6 * 7),
    (lambda x: tf.matmul(x, x, transpose_a=True), (None, 6, 7), 6 * 7 * 7),
    (lambda x: tf.einsum("bij,jk->bik", x, weights(7, 5)), (None, 6, 7), 6 * 7 * 5),
    (lambda x: tf.einsum("...ij,jk->...ik", x, weights(7, 5)), (None, 3, 6, 7), 3 * 6 * 7 * 5),
    # As Keras multiplies three-dimensional tensors: by a reshape to sizes that the graph computes.
    (lambda x: tf.tensordot(x, weights(7, 5), 1), (None, 6, 7), 6 * 7 * 5)])
@pytest.mark.parametrize("batch", [1, 8])
def test_each_contraction_is_counted(make: Callable[[Any], Any], shape: tuple[int | None, ...], each: int,
                                     batch: int) -> None:
    found = multiply_adds(graph(make, shape), batch)
    assert list(found.values()) == [each * batch]
    assert gigaflop(graph(make, shape), batch) == pytest.approx(2e-9 * each * batch)


def test_a_transposed_first_input_sums_over_its_rows() -> None:
    made = graph(lambda x: tf.matmul(weights(7, 5), x, transpose_a=True), (7, 3))
    assert list(multiply_adds(made, 1).values()) == [7 * 5 * 3]


def test_an_input_of_fixed_size_is_counted_as_it_is() -> None:
    made = graph(lambda x: tf.matmul(x, weights(7, 5)), (4, 7))
    assert list(multiply_adds(made, 100).values()) == [4 * 7 * 5]


def test_folding_changes_no_count_and_large_weights_are_not_needed() -> None:
    def make(x: Any) -> Any:
        x = tf.nn.conv2d(x, weights(3, 3, 8, 64), 1, "SAME") * seeded((64,))
        return tf.matmul(tf.reshape(tf.nn.relu(x), [-1, 6 * 6 * 64]), weights(6 * 6 * 64, 10))
    plain = graph(make, (None, 6, 6, 8))
    folded, _ = pipeline.run(plain, "default")
    assert sum(multiply_adds(plain, 3).values()) == sum(multiply_adds(folded, 3).values()) == 3 * (
        6 * 6 * 64 * 3 * 3 * 8 + 6 * 6 * 64 * 10)


def test_a_shape_that_depends_on_more_than_the_batch_is_refused_by_name() -> None:
    made = graph(lambda x: tf.nn.conv2d(x, weights(3, 3, 4, 8), 1, "SAME", name="wide"), (None, None, 10, 4))
    with pytest.raises(UserError, match=r"'wide' \(Conv2D\) cannot be counted: the shape of 'wide' depends on more"):
        multiply_adds(made, 1)


def test_a_graph_without_contractions_has_no_work() -> None:
    assert gigaflop(graph(lambda x: x + np.float32(1), (None, 3)), 5) == 0


def test_every_counted_operation_exists_in_tensorflow() -> None:
    from tensorflow.python.framework import op_def_registry
    assert not [op for op in CONTRACTIONS if op_def_registry.get(op) is None]
