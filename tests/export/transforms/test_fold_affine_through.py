import numpy as np
import pytest
from affine_models import CHANNELS, constant, conv2d, fused, keras_norm, positive, v1
from folding_checks import ADDITIONS, GONE, feed, folded, refused
from graph_session import seeded, tf

PASSAGES = {
    "relu_positive": (lambda x: tf.nn.relu(x * positive([CHANNELS], 1)), 0),
    "leaky_relu": (lambda x: tf.nn.leaky_relu(x * positive([CHANNELS], 1)), 0),
    "preactivation": (lambda x: tf.nn.relu(x * positive([CHANNELS], 1) + constant([CHANNELS], 2)), 1),
    "max_pool": (lambda x: tf.nn.max_pool2d(x * positive([CHANNELS], 1) + constant([CHANNELS], 2), 2, 2, "SAME"), 1),
    "avg_pool": (lambda x: tf.nn.avg_pool2d(keras_norm(x, 3), 2, 2, "SAME"), 1),
    "pad": (lambda x: tf.pad(x * constant([CHANNELS], 1), [[0, 0], [1, 1], [2, 0], [0, 0]]), 0),
    "pad_keeps_offset": (lambda x: tf.pad(keras_norm(x, 3), [[0, 0], [1, 1], [2, 0], [0, 0]]), 1),
    "mirror_pad": (lambda x: tf.pad(keras_norm(x, 3), [[0, 0], [1, 1], [2, 0], [0, 0]], "REFLECT"), 1),
    "transpose": (lambda x: tf.transpose(tf.transpose(keras_norm(x, 3), [0, 3, 1, 2]), [0, 2, 3, 1]), 1),
    "concat_one_normed": (lambda x: tf.concat([keras_norm(x, 3), x], 3), 1),
    "concat_both_normed": (lambda x: tf.concat([keras_norm(x, 3), keras_norm(x, 9)], 3), 1),
    "concat_rows": (lambda x: keras_norm(tf.concat([x, tf.nn.relu(x)], 1), 3), 1),
    "space_to_batch": (lambda x: tf.space_to_batch(x * constant([CHANNELS], 1), [2, 2], [[1, 1], [1, 1]]), 0),
    "resize": (lambda x: tf.raw_ops.ResizeNearestNeighbor(images=keras_norm(x, 3), size=[9, 11]), 1),
    "reshape": (lambda x: tf.reshape(keras_norm(x, 3), [-1, 4, 9, CHANNELS]), 1),
}


@pytest.mark.parametrize("passage", PASSAGES)
def test_through_ops_into_the_contraction_after_them(passage):
    through, additions = PASSAGES[passage]

    def make():
        x = v1.placeholder(tf.float32, [None, 6, 6, CHANNELS], "x")
        conv2d(through(x), 20, padding="VALID", size=2, name="y")
    counts, _ = folded(make, ["y"], feed((None, 6, 6, CHANNELS)), "default")
    assert not set(GONE) & set(counts), counts
    assert sum(counts.get(op, 0) for op in ADDITIONS) <= additions, counts


BACK = {
    "batch_to_space": lambda y: fused(3)(tf.batch_to_space(
        conv2d(tf.space_to_batch(y, [2, 2], [[2, 2], [2, 2]]), 9, padding="VALID"), [2, 2], [[0, 0], [0, 0]]), 3),
    "resize": lambda y: keras_norm(tf.raw_ops.ResizeNearestNeighbor(images=y, size=[9, 11]), 1),
    "bilinear": lambda y: keras_norm(tf.raw_ops.ResizeBilinear(images=y, size=[9, 11]), 1),
    "max_pool": lambda y: tf.nn.max_pool2d(y, 2, 2, "SAME") * positive([CHANNELS], 1) + constant([CHANNELS], 2),
    "avg_pool": lambda y: keras_norm(tf.nn.avg_pool2d(y, 2, 2, "VALID"), 1),
    "transpose": lambda y: tf.transpose(y, [0, 3, 1, 2]) * constant([CHANNELS, 1, 1], 1),
    "mean": lambda y: keras_norm(tf.reduce_mean(y, [1, 2]), 1),
    "squeeze": lambda y: tf.squeeze(tf.reduce_mean(y, [1, 2], keepdims=True), [1, 2]) * constant([CHANNELS], 1),
    "flatten": lambda y: tf.reshape(y, [-1, 36 * CHANNELS]) * np.tile(seeded([CHANNELS], 4), 36),
    "mirror_pad": lambda y: keras_norm(tf.pad(y, [[0, 0], [1, 1], [2, 0], [0, 0]], "SYMMETRIC"), 1),
}


@pytest.mark.parametrize("passage", BACK)
def test_through_ops_into_the_contraction_before_them(passage):
    def make():
        x = v1.placeholder(tf.float32, [None, 6, 6, 3], "x")
        tf.identity(BACK[passage](conv2d(x)), "y")
    counts, _ = folded(make, ["y"], feed((None, 6, 6, 3)), "default")
    assert not set(GONE) & set(counts), counts
    assert sum(counts.get(op, 0) for op in ADDITIONS) <= 1, counts


def test_back_through_a_concatenation_each_branch_gets_its_part():
    def make():
        x = v1.placeholder(tf.float32, [None, 6, 6, 3], "x")
        tf.nn.relu(keras_norm(tf.concat([conv2d(x, 1), conv2d(x, 2)], 3), 3), name="y")
    counts, _ = folded(make, ["y"], feed((None, 6, 6, 3)), "default")
    assert not set(GONE) & set(counts), counts
    assert counts["BiasAdd"] == 2


def test_the_relu_offset_stays_and_its_scale_goes_back():
    def make():
        x = v1.placeholder(tf.float32, [None, 6, 6, 3], "x")
        tf.identity(tf.nn.relu(conv2d(x)) * positive([CHANNELS], 1) + constant([CHANNELS], 2), "y")
    counts, _ = folded(make, ["y"], feed((None, 6, 6, 3)), "default")
    assert "Mul" not in counts
    assert counts["AddV2"] == 1


@pytest.mark.parametrize(("through", "reason"), [
    (lambda x: tf.nn.relu(x * tf.constant([1.0, -2.0, 3.0])), "needs a positive scale"),
    (lambda x: tf.nn.relu6(x * 2.0), "takes in no constant"),
    (lambda x: tf.nn.max_pool2d(x * tf.constant([1.0, -2.0, 3.0]), 2, 1, "VALID"), "needs a positive scale"),
    (lambda x: tf.reshape(x * constant([3], 1), [-1, 9, 4, 3])[:, :, ::-1], "takes in no constant"),
    (lambda x: tf.reshape(tf.transpose(x * constant([3], 1), [0, 3, 1, 2]), [-1, 6, 6, 3]), "mixes the channels"),
    (lambda x: tf.pad(x * constant([3], 1), [[0, 0]] * 3 + [[0, 1]])[..., :3], "pads the axis"),
    (lambda x: tf.pad(x * 2.0, [[0, 0], [1, 0], [0, 0], [0, 0]], constant_values=3.0), "something else than 0"),
])
def test_refuses_maps_that_an_op_does_not_pass_on(through, reason):
    def make():
        x = v1.placeholder(tf.float32, [None, 6, 6, 3], "x")
        conv2d(through(x), name="y")
    refused(make, ["y"], reason, transforms="fold_constants fold_affine_through", feeds=feed((None, 6, 6, 3)))
