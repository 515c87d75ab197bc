import numpy as np
import pytest
from graph_session import build, compared, ops, reasons, seeded, tf, transformed

v1 = tf.compat.v1
GAMMA, BETA = seeded((6,)) + 1.5, seeded((6,), 1)


def norm(write, shape=(None, 5, 6), axis=-1, dtype=tf.float32, keepdims=True):
    """y = what `write` makes of x, its mean and its variance plus epsilon."""
    def make():
        x = v1.placeholder(dtype, shape, "x")
        mean = tf.reduce_mean(x, axis, keepdims=keepdims, name="mean")
        variance = tf.reduce_mean(tf.math.squared_difference(x, mean), axis, keepdims=keepdims)
        tf.identity(write(x, mean, variance + tf.constant(1e-6, dtype), *(tf.constant(one, dtype) for one in
                                                                         (GAMMA, BETA))), "y")
    return build(make)


def keras(x, mean, variance, gamma, beta):
    scale = tf.math.rsqrt(variance) * tf.reshape(gamma, [1, 1, 6])
    return x * scale + (-mean * scale + tf.reshape(beta, [1, 1, 6]))


def nn(x, mean, variance, gamma, beta):
    scale = tf.math.rsqrt(variance) * gamma
    return x * scale + (beta - mean * scale)


def textbook(x, mean, variance, gamma, beta):
    return (x - mean) / tf.sqrt(variance) * gamma + beta


def plain(x, mean, variance, gamma, beta):
    return (x - mean) * tf.math.rsqrt(variance)


def biased(x, mean, variance, gamma, beta):
    return tf.nn.bias_add((x - mean) * tf.math.rsqrt(variance), beta)


@pytest.mark.parametrize("shape", [(None, 5, 6), (None, 6), (None, None, 6)])
@pytest.mark.parametrize("write", [keras, nn, textbook, plain, biased])
def test_one_kernel(write, shape):
    if write is keras and len(shape) == 2:
        shape = (None, 1, 6)
    graph_def = norm(write, shape)
    after, report = transformed(graph_def, ["x"], ["y"], "fold_constants fuse_layer_norm strip_unused_nodes")
    assert report.steps[1].applied == 1
    assert set(ops(after)) <= {"Placeholder", "_MklLayerNorm", "Const", "Identity"}
    for batch in (1, 4):
        x = seeded([batch if size is None else size for size in shape]) * 3 + 40
        assert compared(graph_def, after, ["y"], {"x": x}).equal


@pytest.mark.parametrize(("rest", "op"), [
    (lambda y, x: tf.nn.relu(y * 2.0 + x), "AddV2"), (lambda y, x: y * x, "Mul"), (lambda y, x: y * tf.exp(x), "Mul")])
def test_the_last_whole_norm_is_taken(rest, op):
    """A factor and an offset after the norm are taken in; anything else stays after it."""
    graph_def = norm(lambda *args: rest(textbook(*args), args[0]))
    after, _ = transformed(graph_def, ["x"], ["y"], "fuse_layer_norm")
    assert {"_MklLayerNorm", op} <= set(ops(after))
    assert "Sqrt" not in ops(after)
    assert compared(graph_def, after, ["y"], {"x": seeded((2, 5, 6))}).equal


def test_several_readers():
    graph_def = norm(lambda *args: tf.tanh(textbook(*args)) + tf.nn.relu(textbook(*args)))
    after, report = transformed(graph_def, ["x"], ["y"], "merge_duplicate_nodes fuse_layer_norm")
    assert report.steps[1].applied == 1
    assert compared(graph_def, after, ["y"], {"x": seeded((2, 5, 6))}).equal


NO_NORM = "what is made of mean and variance is no layer norm with constant gamma and beta"


@pytest.mark.parametrize(("reason", "graph_def", "outputs"), [
    ("its type is not float32", norm(textbook, dtype=tf.float64), ["y"]),
    ("the input's rank is not 2 or 3, or its last size is unknown", norm(textbook, (None, 2, 5, 6)), ["y"]),
    ("the input's rank is not 2 or 3, or its last size is unknown", norm(plain, (None, 5, None)), ["y"]),
    ("the mean is not over the last axis", norm(textbook, (None, 6, 6), axis=1), ["y"]),
    ("the mean is not over the last axis", norm(textbook, (None, 6, 6), axis=[1, 2]), ["y"]),
    ("'mean' is itself a requested input or output", norm(textbook), ["y", "mean"]),
    (NO_NORM, norm(lambda x, mean, variance, *_: (x - 2.0 * mean) * tf.math.rsqrt(variance)), ["y"]),
    (NO_NORM, norm(lambda x, mean, variance, *_: (x + mean) * tf.math.rsqrt(variance)), ["y"]),
    (NO_NORM, norm(lambda x, mean, variance, *_: (x - mean) * tf.sqrt(variance)), ["y"]),
])
def test_refuses(reason, graph_def, outputs):
    after, report = transformed(graph_def, ["x"], outputs, "fuse_layer_norm")
    assert reasons(report) == [reason]
    assert after == graph_def


def test_gamma_per_row_is_no_layer_norm():
    """A constant for the rows, not for the last axis."""
    graph_def = norm(lambda x, mean, variance, *_: (x - mean) * tf.math.rsqrt(variance) * np.float32([[2.0]] * 5))
    after, report = transformed(graph_def, ["x"], ["y"], "fuse_layer_norm")
    # The norm itself is fused; the factor of each row stays after it.
    assert report.steps[0].applied == 1
    assert "Mul" in ops(after)
    assert compared(graph_def, after, ["y"], {"x": seeded((2, 5, 6))}).equal


def test_a_variance_of_something_else():
    def make():
        x = v1.placeholder(tf.float32, (None, 6), "x")
        mean = tf.reduce_mean(x, -1, keepdims=True)
        variance = tf.reduce_mean(tf.math.squared_difference(x * 2.0, mean), -1, keepdims=True)
        tf.identity((x - mean) * tf.math.rsqrt(variance + 1e-3), "y")
    graph_def = build(make)
    assert transformed(graph_def, ["x"], ["y"], "fuse_layer_norm")[0] == graph_def


def test_a_fed_gamma_is_what_the_request_says():
    graph_def = norm(lambda x, mean, variance, *_: (x - mean) * tf.math.rsqrt(variance) * tf.constant(
        GAMMA, name="gamma"))
    after, _ = transformed(graph_def, ["x", "gamma"], ["y"], "fuse_layer_norm")
    feeds = {"x": seeded((2, 5, 6)), "gamma": np.full(6, 7, np.float32)}
    assert compared(graph_def, after, ["y"], feeds).equal


def test_a_gamma_with_more_axes_than_x_is_left():
    graph_def = norm(lambda x, mean, variance, *_: (x - mean) * tf.math.rsqrt(variance) * np.full((1, 1, 6), 2.0, "f"),
                     (None, 6))
    after, _ = transformed(graph_def, ["x"], ["y"], "fuse_layer_norm")
    assert compared(graph_def, after, ["y"], {"x": seeded((2, 6))}).equal
