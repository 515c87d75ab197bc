"""Affine maps by constants go into the contractions around them, and the outputs stay what they were."""
import numpy as np
import pytest
from affine_models import CHANNELS, CONTRACTIONS, constant, conv2d, fused, keras_norm, norms_for, positive, v1
from graph_session import build, compared, ops, reasons, seeded, transformed, v1_control_flow
from graph_strategies import Drawn, drawn_graphs
from hypothesis import given, settings

from export.runtime import tf

ONE_LAYER = "fold_constants fold_batch_norms fold_old_batch_norms fold_constants"
GONE = ("Mul", "Sub", "Div", "RealDiv", "Rsqrt", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
ADDITIONS = ("Add", "AddV2", "BiasAdd")


def folded(make, outputs, feeds, transforms=ONE_LAYER):
    """The op counts and skip reasons after the transforms; the outputs are checked to be equal."""
    before = build(make)
    after, report = transformed(before, list(feeds), outputs, transforms)
    comparison = compared(before, after, outputs, feeds)
    assert comparison.equal, str(comparison)
    return ops(after), reasons(report)


def feed(shape):
    return {"x": seeded([3 if size is None else size for size in shape], 99)}


@pytest.mark.parametrize("contraction", CONTRACTIONS)
def test_every_norm_after_every_contraction_is_gone(contraction):
    shape, contract = CONTRACTIONS[contraction]
    norms = norms_for(len(shape))

    def make():
        x = v1.placeholder(tf.float32, shape, "x")
        for seed, (name, norm) in enumerate(norms.items()):
            tf.identity(norm(contract(x), 100 * seed), name)
    counts, _ = folded(make, list(norms), feed(shape))
    assert not set(GONE) & set(counts), counts
    assert sum(counts.get(op, 0) for op in ADDITIONS) <= len(norms)


@pytest.mark.parametrize("contraction", CONTRACTIONS)
def test_every_norm_before_every_contraction_keeps_at_most_one_addition(contraction):
    shape, contract = CONTRACTIONS[contraction]
    norms = norms_for(len(shape))

    def make():
        x = v1.placeholder(tf.float32, shape, "x")
        for seed, (name, norm) in enumerate(norms.items()):
            tf.identity(contract(norm(x, 100 * seed)), name)
    counts, why = folded(make, list(norms), feed(shape))
    if contraction == "matmul_transpose_a":
        assert any("transposed" in reason for reason in why), why
        return
    assert not set(GONE) & set(counts), counts
    assert sum(counts.get(op, 0) for op in ADDITIONS) <= len(norms)


def test_the_result_has_the_name_of_the_last_node_it_replaces():
    def make():
        x = v1.placeholder(tf.float32, [None, 7, 7, 3], "x")
        tf.multiply(conv2d(x), constant([CHANNELS], 3), name="scaled")
    before = build(make)
    after, _ = transformed(before, ["x"], ["scaled"], ONE_LAYER)
    assert {item.name: item.op for item in after.node}["scaled"] == "Conv2D"
    assert compared(before, after, ["scaled"], feed((None, 7, 7, 3))).equal


def test_the_reference_model_keeps_only_what_padding_forbids():
    def make():
        x = v1.placeholder(tf.float32, [None, 8, 8, 1], "x")
        for layer in range(3):
            x = tf.nn.relu(tf.nn.bias_add(conv2d(x, layer), constant([CHANNELS], layer + 9)))
            x = tf.nn.max_pool2d(x, 2, 2, "SAME")
            x = tf.nn.batch_normalization(x, constant([CHANNELS], layer), positive([CHANNELS], layer + 1),
                                          constant([CHANNELS], layer + 2), positive([CHANNELS], layer + 3), 1e-3)
        rows = tf.reshape(x, [-1, CHANNELS])
        tf.identity(tf.nn.bias_add(tf.matmul(rows, constant([CHANNELS, 4], 30)), constant([4], 31)), "logits")
    counts, why = folded(make, ["logits"], feed((None, 8, 8, 1)), "default")
    assert counts["BiasAdd"] == 4
    assert counts["AddV2"] == 2
    assert not set(GONE) & set(counts)
    assert any("SAME padding puts zeros beside the offset" in reason for reason in why)


@pytest.mark.parametrize("fast", [True, False])
def test_a_flattened_norm_goes_into_the_dense_layer(fast):
    """Whether the shape is constant or computed from the batch, as Keras does it."""
    def make():
        x = v1.placeholder(tf.float32, [None, 3, 3, CHANNELS], "x")
        normed = keras_norm(tf.nn.relu(x), 5)
        shape = [-1, 9 * CHANNELS] if fast else tf.stack([tf.shape(normed)[0], 9 * CHANNELS])
        tf.matmul(tf.reshape(normed, shape), constant([9 * CHANNELS, 4], 6), name="y")
    counts, _ = folded(make, ["y"], feed((None, 3, 3, CHANNELS)), "default")
    assert not set(GONE) & set(counts)
    assert counts.get("BiasAdd", 0) + counts.get("AddV2", 0) == 1


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


def test_shared_weights_are_copied_for_the_contraction_that_changes():
    def make():
        x = v1.placeholder(tf.float32, [None, 5], "x")
        weights = constant([5, CHANNELS], 1)
        tf.multiply(tf.matmul(x, weights), constant([CHANNELS], 2), name="y")
        tf.matmul(x, weights, name="z")
    counts, _ = folded(make, ["y", "z"], feed((None, 5)))
    assert "Mul" not in counts
    assert counts["MatMul"] == 2


def test_nchw_channels_are_told_from_columns():
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


def refused(make, outputs, reason, inputs=("x",), transforms=ONE_LAYER, feeds=None):
    before = build(make)
    after, report = transformed(before, inputs, outputs, transforms)
    assert any(reason in text for text in reasons(report)), reasons(report)
    # What was left alone is exactly what it was: only constants may have been computed.
    kinds = ("Mul", "MatMul", "Conv2D", "FusedBatchNormV3", "AddV2")
    assert [item for item in before.node if item.op in kinds] == [item for item in after.node if item.op in kinds]
    if feeds is not None:
        assert compared(before, after, outputs, feeds).equal


def dense_times(scale, weights=None, x_shape=(None, 5)):
    def make():
        x = v1.placeholder(tf.float32, x_shape, "x")
        weights_ = constant([5, CHANNELS], 1) if weights is None else tf.constant(weights)
        tf.multiply(tf.matmul(x, weights_, name="product"), scale(), name="y")
    return make


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


def test_what_is_fed_is_no_constant():
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


def test_folds_double_precision():
    def make():
        x = v1.placeholder(tf.float64, [None, 5], "x")
        tf.multiply(tf.matmul(x, constant([5, CHANNELS], 1, np.float64)), constant([CHANNELS], 2, np.float64), name="y")
    counts, _ = folded(make, ["y"], {"x": seeded([3, 5], 3, np.float64)})
    assert "Mul" not in counts


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


def test_refuses_an_input_whose_channels_are_not_known():
    """One channel times [3] is three: the constant makes the channels that the convolution counts on."""
    def make():
        x = v1.placeholder(tf.float32, [None, 6, 6, None], "x")
        conv2d(tf.ensure_shape(x * constant([3], 1), [None, 6, 6, 3]), name="y")
    refused(make, ["y"], "an unknown number of", feeds={"x": seeded([2, 6, 6, 1])})


@pytest.mark.parametrize(("through", "reason"), [
    (lambda x: tf.nn.relu(x * tf.constant([1.0, -2.0, 3.0])), "needs a positive scale"),
    (lambda x: tf.nn.relu6(x * 2.0), "takes in no constant"),
    (lambda x: tf.nn.max_pool2d(x * tf.constant([1.0, -2.0, 3.0]), 2, 1, "VALID"), "needs a positive scale"),
    (lambda x: tf.reshape(x * constant([3], 1), [-1, 9, 4, 3])[:, :, ::-1], "takes in no constant"),
    (lambda x: tf.reshape(tf.transpose(x * constant([3], 1), [0, 3, 1, 2]), [-1, 6, 6, 3]), "mixes the channels"),
    (lambda x: tf.pad(x * constant([3], 1), [[0, 0]] * 3 + [[0, 1]])[..., :3], "pads the axis"),
    (lambda x: tf.pad(x * 2.0, [[0, 0], [1, 0], [0, 0], [0, 0]], constant_values=3.0), "something else than 0"),
])
def test_refuses_what_does_not_pass(through, reason):
    def make():
        x = v1.placeholder(tf.float32, [None, 6, 6, 3], "x")
        conv2d(through(x), name="y")
    refused(make, ["y"], reason, transforms="fold_constants fold_affine_through", feeds=feed((None, 6, 6, 3)))


def test_a_scale_of_zero_is_folded_but_never_divided_by():
    def make():
        x = v1.placeholder(tf.float32, [None, 6, 6, 3], "x")
        conv2d(x * tf.constant([1.0, 0.0, 3.0]) + constant([3], 1), name="y")
    counts, why = folded(make, ["y"], feed((None, 6, 6, 3)))
    assert counts["Mul"] == 1
    assert any("SAME padding" in reason for reason in why)


def test_float_version_one_norm_of_old_graphs():
    """fused(1) and BatchNormWithGlobalNormalization of graphs older than their removal."""
    def make():
        x = v1.placeholder(tf.float32, [None, 6, 6, 3], "x")
        tf.identity(fused(1)(conv2d(x), 3), "y")
    counts, _ = folded(make, ["y"], feed((None, 6, 6, 3)), "fold_old_batch_norms")
    assert counts["BiasAdd"] == 1
    assert "FusedBatchNorm" not in counts


@settings(max_examples=40, derandomize=True, deadline=None)
@given(drawn_graphs(max_layers=9, layers=(
    "conv", "depthwise", "bias", "mul", "normalise", "relu", "pool", "average", "concat", "identity", "add",
    "control")))
def test_generated_graphs_keep_their_outputs(drawn: Drawn):
    for transforms in (ONE_LAYER, "default"):
        after, _ = transformed(drawn.graph_def, ["x"], drawn.outputs, transforms)
        comparison = compared(drawn.graph_def, after, drawn.outputs, drawn.feeds())
        assert comparison.equal, comparison.summary()


def test_folds_within_a_v1_loop_and_stays_in_it():
    def step(i, value):
        shifted = tf.nn.relu(value * constant([4], 1) + constant([4], 2))
        return i + 1, keras_norm(tf.matmul(shifted, constant([4, 4], 3)), 5) * 0.5

    def make():
        loop = v1.while_loop(lambda i, _: i < 3, step, [0, v1.placeholder(tf.float32, [2, 4], "x")])
        tf.identity(loop[1], "y")
    with v1_control_flow():
        before = build(make)
    after, report = transformed(before, ["x"], ["y"], "default")
    assert sum(step.applied for step in report.steps if "fold" in step.transform) > 1
    assert ops(after)["Mul"] == 1  # before the relu: its scale has both signs
    assert compared(before, after, ["y"], {"x": seeded([2, 4])}).equal


def test_an_offset_left_in_a_v1_loop_stays_in_it():
    def step(i, value):
        rows = tf.reshape(value, [2, 4])  # what goes round a loop has no shape that is known
        return i + 1, tf.matmul(tf.nn.relu(rows * positive([4], 1) + constant([4], 2)), constant([4, 4], 3))

    def make():
        loop = v1.while_loop(lambda i, _: i < 3, step, [0, v1.placeholder(tf.float32, [2, 4], "x")])
        tf.identity(loop[1], "y")
    with v1_control_flow():
        before = build(make)
    after, _ = transformed(before, ["x"], ["y"], "default")
    assert "Mul" not in ops(after)
    assert compared(before, after, ["y"], {"x": seeded([2, 4])}).equal


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
