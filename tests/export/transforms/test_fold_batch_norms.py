import numpy as np
import pytest
from affine_models import CHANNELS, constant, conv2d, v1
from folding_checks import ONE_LAYER, feed, folded, refused
from graph_session import build, compared, ops, reasons, seeded, tf, transformed


def dense_times(scale, weights=None, x_shape=(None, 5)):
    def make():
        x = v1.placeholder(tf.float32, x_shape, "x")
        weights_ = constant([5, CHANNELS], 1) if weights is None else tf.constant(weights)
        tf.multiply(tf.matmul(x, weights_, name="product"), scale(), name="y")
    return make


def test_folds_a_scale_and_an_offset_into_a_dense_layer():
    def make():
        x = v1.placeholder(tf.float32, [None, 5], "x")
        product = tf.matmul(x, constant([5, CHANNELS], 1))
        tf.add(product * constant([CHANNELS], 2), constant([CHANNELS], 3), name="y")
    counts, why = folded(make, ["y"], feed((None, 5)), "fold_batch_norms")
    assert counts == {"Placeholder": 1, "Const": 2, "MatMul": 1, "BiasAdd": 1}
    assert why == []


def test_shared_weights_are_copied_for_the_contraction_that_changes():
    def make():
        x = v1.placeholder(tf.float32, [None, 5], "x")
        weights = constant([5, CHANNELS], 1)
        tf.multiply(tf.matmul(x, weights), constant([CHANNELS], 2), name="y")
        tf.matmul(x, weights, name="z")
    counts, _ = folded(make, ["y", "z"], feed((None, 5)))
    assert "Mul" not in counts
    assert counts["MatMul"] == 2


def test_nchw_channels_are_distinguished_from_columns():
    """Width equals channels: [C] multiplies columns, [C,1,1] channels."""
    def make():
        x = v1.placeholder(tf.float32, [2, 3, 4, 4], "x")
        conv = tf.nn.conv2d(x, constant([1, 1, 3, 4], 1), 1, "SAME", data_format="NCHW")
        tf.multiply(conv, constant([4], 2), name="columns")
        other = tf.nn.conv2d(x, constant([1, 1, 3, 4], 1), 1, "SAME", data_format="NCHW")
        tf.multiply(other, constant([4, 1, 1], 3), name="channels")
    before = build(make)
    after, report = transformed(before, ["x"], ["columns", "channels"], ONE_LAYER)
    nodes = {item.name: item for item in after.node}
    assert nodes["columns"].op == "Mul"
    assert nodes["channels"].op == "Conv2D"
    assert "not along the output channels of 'Conv2D'" in reasons(report)[0]
    feeds = {"x": seeded([2, 3, 4, 4], 4)}
    assert compared(before, after, ["columns", "channels"], feeds).equal


def test_refuses_a_requested_output_in_between():
    refused(dense_times(lambda: constant([CHANNELS], 2)), ["y", "product"], "itself a requested input or output",
            feeds=feed((None, 5)))


def test_refuses_a_contraction_with_another_reader():
    def make():
        dense_times(lambda: constant([CHANNELS], 2))()
        tf.nn.relu(v1.get_default_graph().get_tensor_by_name("product:0"), name="z")
    refused(make, ["y", "z"], "is also read by 'z'", feeds=feed((None, 5)))


def test_refuses_a_contraction_that_something_waits_for():
    def make():
        dense_times(lambda: constant([CHANNELS], 2))()
        with tf.control_dependencies([v1.get_default_graph().get_operation_by_name("product")]):
            tf.constant(1.0, name="z")
    refused(make, ["y", "z"], "is also read by 'z'", feeds=feed((None, 5)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_refuses_weights_and_scales_that_are_not_finite(bad):
    weights = seeded([5, CHANNELS], 1)
    weights[2, 3] = bad
    refused(dense_times(lambda: constant([CHANNELS], 2), weights), ["y"], "NaN or inf")
    scale = seeded([CHANNELS], 1)
    scale[2] = bad
    refused(dense_times(lambda: tf.constant(scale)), ["y"], "NaN or infinite")


def test_refuses_a_scale_that_weights_cannot_hold():
    weights = seeded([5, CHANNELS], 1) * 9
    refused(dense_times(lambda: tf.constant(np.float32(3e38)), weights), ["y"], "would be infinite")


def test_refuses_a_constant_that_changes_the_shape():
    refused(dense_times(lambda: constant([2, 1, CHANNELS], 2)), ["y"], "changes the shape", feeds=feed((None, 5)))


def test_refuses_a_constant_that_is_not_per_channel():
    refused(dense_times(lambda: constant([3, CHANNELS], 2)), ["y"], "not one float per channel", feeds=feed((None, 5)))


def test_refuses_a_constant_wider_than_the_channels():
    weights = seeded([5, 1], 3)
    refused(dense_times(lambda: constant([4], 2), weights), ["y"], "4 entries along an axis", feeds=feed((None, 5)))


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_refuses_half_precision(dtype):
    def make():
        x = v1.placeholder(dtype, [None, 5], "x")
        product = tf.matmul(x, tf.cast(constant([5, CHANNELS], 1), dtype))
        tf.multiply(product, tf.cast(constant([CHANNELS], 2), dtype), name="y")
    refused(make, ["y"], "rounded a second time")


def test_refuses_an_input_whose_channels_are_not_known():
    """One channel times a constant of shape [3] is three channels, which the convolution needs."""
    def make():
        x = v1.placeholder(tf.float32, [None, 6, 6, None], "x")
        conv2d(tf.ensure_shape(x * constant([3], 1), [None, 6, 6, 3]), name="y")
    refused(make, ["y"], "an unknown number of", feeds={"x": seeded([2, 6, 6, 1])})


def test_a_fed_node_does_not_count_as_a_constant():
    def make():
        x = v1.placeholder(tf.float32, [None, 5], "x")
        product = tf.matmul(x, constant([5, CHANNELS], 1))
        tf.multiply(product, tf.constant(2.0, name="scale"), name="y")
        tf.multiply(tf.matmul(x, tf.constant(seeded([5, CHANNELS], 3), name="weights")), 3.0, name="z")
    before = build(make)
    after, _ = transformed(before, ["x", "scale", "weights"], ["y", "z"], "default")
    feeds = feed((None, 5)) | {"scale": np.float32(7), "weights": seeded([5, CHANNELS], 8)}
    assert compared(before, after, ["y", "z"], feeds).equal
    assert ops(after)["Mul"] == 2


def test_folds_double_precision():
    def make():
        x = v1.placeholder(tf.float64, [None, 5], "x")
        tf.multiply(tf.matmul(x, constant([5, CHANNELS], 1, np.float64)), constant([CHANNELS], 2, np.float64), name="y")
    counts, _ = folded(make, ["y"], {"x": seeded([3, 5], 3, np.float64)})
    assert "Mul" not in counts


def test_a_scale_of_zero_is_folded_without_division():
    def make():
        x = v1.placeholder(tf.float32, [None, 6, 6, 3], "x")
        conv2d(x * tf.constant([1.0, 0.0, 3.0]) + constant([3], 1), name="y")
    counts, why = folded(make, ["y"], feed((None, 6, 6, 3)))
    assert counts["Mul"] == 1
    assert any("SAME padding" in reason for reason in why)
