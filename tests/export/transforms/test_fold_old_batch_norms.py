from affine_models import CHANNELS, constant, conv2d, fused, positive, v1
from folding_checks import GONE, feed, folded, refused
from graph_session import seeded, tf


def test_refuses_training_mode():
    def make():
        x = v1.placeholder(tf.float32, [None, 6, 6, 3], "x")
        norm = tf.raw_ops.FusedBatchNormV3(
            x=conv2d(x), scale=constant([CHANNELS], 1), offset=constant([CHANNELS], 2), mean=tf.constant([]),
            variance=tf.constant([]), is_training=True)
        tf.identity(norm.y, "y")
    refused(make, ["y"], "training mode", feeds=feed((None, 6, 6, 3)))


def test_refuses_statistics_that_are_fed():
    def make():
        x = v1.placeholder(tf.float32, [None, 6, 6, 3], "x")
        mean = v1.placeholder_with_default(seeded([CHANNELS], 1), [CHANNELS], "mean")
        tf.identity(tf.raw_ops.FusedBatchNormV3(
            x=conv2d(x), scale=constant([CHANNELS], 1), offset=constant([CHANNELS], 2), mean=mean,
            variance=positive([CHANNELS], 3), is_training=False).y, "y")
    refused(make, ["y"], "not constant", feeds=feed((None, 6, 6, 3)))


def test_refuses_another_output_of_the_norm():
    def make():
        x = v1.placeholder(tf.float32, [None, 6, 6, 3], "x")
        norm = tf.raw_ops.FusedBatchNormV3(
            x=conv2d(x), scale=constant([CHANNELS], 1), offset=constant([CHANNELS], 2), mean=constant([CHANNELS], 3),
            variance=positive([CHANNELS], 3), is_training=False)
        tf.identity(norm.y, "y")
        tf.identity(norm.batch_mean, "mean")
    refused(make, ["y", "mean"], "further output of it is used", feeds=feed((None, 6, 6, 3)))


def test_float_version_one_norm_of_old_graphs():
    """fused(1) and BatchNormWithGlobalNormalization of graphs older than their removal."""
    def make():
        x = v1.placeholder(tf.float32, [None, 6, 6, 3], "x")
        tf.identity(fused(1)(conv2d(x), 3), "y")
    counts, _ = folded(make, ["y"], feed((None, 6, 6, 3)), "fold_old_batch_norms")
    assert counts["BiasAdd"] == 1
    assert "FusedBatchNorm" not in counts


def test_old_norms_after_a_concatenation_or_an_atrous_convolution():
    """As the tool's own fold_old_batch_norms, without the transform that passes other ops."""
    def make():
        x = v1.placeholder(tf.float32, [None, 8, 8, 3], "x")
        tf.identity(fused(3)(tf.concat([conv2d(x, 1), conv2d(x, 2)], 3), 3), "y")
        blocks = tf.space_to_batch(x, [2, 2], [[2, 2], [2, 2]])
        tf.identity(fused(2)(tf.batch_to_space(conv2d(blocks, 4, padding="VALID"), [2, 2], [[0, 0], [0, 0]]), 5), "z")
    counts, _ = folded(make, ["y", "z"], feed((None, 8, 8, 3)), "fold_old_batch_norms")
    assert not set(GONE) & set(counts)
    assert counts["BiasAdd"] == 3
