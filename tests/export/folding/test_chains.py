"""Affine maps by constants are folded into the contractions around them, and the outputs do not change."""
import pytest
from affine_models import CHANNELS, CONTRACTIONS, constant, conv2d, keras_norm, norms_for, positive, v1
from folding_checks import ADDITIONS, GONE, ONE_LAYER, feed, folded
from graph_session import build, compared, ops, seeded, tf, transformed, v1_control_flow
from graph_strategies import Drawn, drawn_graphs
from hypothesis import given, settings


@pytest.mark.parametrize("contraction", CONTRACTIONS)
def test_every_norm_after_every_contraction_is_folded(contraction):
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


def test_the_reference_model_keeps_only_additions_that_padding_requires():
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
        rows = tf.reshape(value, [2, 4])  # the shape of a loop variable is not known
        return i + 1, tf.matmul(tf.nn.relu(rows * positive([4], 1) + constant([4], 2)), constant([4, 4], 3))

    def make():
        loop = v1.while_loop(lambda i, _: i < 3, step, [0, v1.placeholder(tf.float32, [2, 4], "x")])
        tf.identity(loop[1], "y")
    with v1_control_flow():
        before = build(make)
    after, _ = transformed(before, ["x"], ["y"], "default")
    assert "Mul" not in ops(after)
    assert compared(before, after, ["y"], {"x": seeded([2, 4])}).equal
