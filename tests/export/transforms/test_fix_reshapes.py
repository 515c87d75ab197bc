import numpy as np
import pytest
from graph_session import build, compared, ops, reasons, seeded, session_run, tf, transformed, v1_control_flow

R, v1 = tf.raw_ops, tf.compat.v1


def reshaped(make_shape, shape=(None, 4, 6), fed=False):
    """y = x in the shape that `make_shape(x)` computes."""
    def make():
        x = v1.placeholder(tf.float32, shape, "x")
        wanted = make_shape(x)
        tf.nn.relu(tf.reshape(x, tf.identity(wanted, "wanted") if fed else wanted), name="y")
    return build(make)


def packed(x):
    return tf.stack([tf.shape(x)[0], 24])


def tensordot(x):
    """The rows of keras' Tensordot."""
    shape = tf.shape(x)
    return tf.stack([tf.reduce_prod(tf.gather(shape, [0, 1])), tf.reduce_prod(tf.gather(shape, [2]))])


def joined(x):
    return tf.concat([tf.shape(x)[:1], [2, 2], tf.shape(x)[2:]], 0)


def multiplied(x):
    return tf.stack([tf.shape(x)[0] * tf.shape(x)[1], 6])


@pytest.mark.parametrize("make_shape", [packed, tensordot, joined, multiplied])
def test_one_unknown_size_is_left_to_the_reshape(make_shape):
    graph_def = reshaped(make_shape)
    after, report = transformed(graph_def, ["x"], ["y"], "fix_reshapes")
    assert report.steps[0].applied == 1
    assert set(ops(after)) == {"Placeholder", "Const", "Reshape", "Relu"}
    for batch in (1, 5):
        assert compared(graph_def, after, ["y"], {"x": seeded((batch, 4, 6))}).equal
    empty = {"x": np.zeros((0, 4, 6), np.float32)}
    assert session_run(after, ["y"], empty)["y"].shape == session_run(graph_def, ["y"], empty)["y"].shape


def test_no_unknown_size():
    graph_def = reshaped(packed, (3, 4, 6))
    after, report = transformed(graph_def, ["x"], ["y"], "fix_reshapes")
    assert report.steps[0].applied == 1
    assert compared(graph_def, after, ["y"], {"x": seeded((3, 4, 6))}).equal


@pytest.mark.parametrize(("graph_def", "reason"), [
    (reshaped(lambda x: tf.stack([tf.shape(x)[1], tf.shape(x)[0] * 6]), (None, None, 6)), "more than one size"),
    (reshaped(lambda x: tf.stack([tf.shape(x)[0], -1])), "more than one size"),
    (reshaped(lambda x: tf.stack([tf.shape(x)[0], 24 + tf.cast(tf.reduce_min(x) * 0.0, tf.int32)])), "not computed"),
    (reshaped(lambda x: tf.stack([tf.shape(x)[0], 0]), (None, 0)), "a size is 0"),
    (reshaped(tf.shape, None), "not computed"),
    (reshaped(packed, (None, None)), "another number of elements"),
    (reshaped(packed, (None, None, 24)), "another number of elements"),
])
def test_refuses(graph_def, reason):
    after, report = transformed(graph_def, ["x"], ["y"], "fix_reshapes")
    assert reason in reasons(report)[0]
    assert after == graph_def


def test_a_request_that_the_source_refuses_is_refused():
    """Pictures of a size for which the flattened rows would be parts of an example."""
    def make():
        x = v1.placeholder(tf.float32, (None, None, None, 3), "x")
        pooled = tf.nn.max_pool2d(x, 4, 4, "SAME")
        tf.identity(tf.reshape(pooled, tf.stack([tf.shape(pooled)[0], 12])), "y")
    graph_def = build(make)
    after, _ = transformed(graph_def, ["x"], ["y"], "default")
    assert compared(graph_def, after, ["y"], {"x": seeded((2, 8, 8, 3))}).equal
    with pytest.raises(tf.errors.InvalidArgumentError):
        session_run(after, ["y"], {"x": seeded((1, 16, 16, 3))})


def test_rows_of_sequences_of_any_length():
    graph_def = reshaped(lambda x: tf.stack([tf.shape(x)[0] * tf.shape(x)[1], 6]), (None, None, 6))
    after, report = transformed(graph_def, ["x"], ["y"], "fix_reshapes")
    assert report.steps[0].applied == 1
    assert compared(graph_def, after, ["y"], {"x": seeded((2, 5, 6))}).equal


def test_a_fed_shape_is_what_the_request_says():
    graph_def = reshaped(packed, fed=True)
    after, report = transformed(graph_def, ["x", "wanted"], ["y"], "fix_reshapes")
    assert report.steps[0].applied == 0
    assert session_run(after, ["y"], {"x": seeded((2, 4, 6)), "wanted": [6, 8]})["y"].shape == (6, 8)


def test_in_a_v1_loop():
    def make():
        x = v1.placeholder(tf.float32, (None, 4), "x")

        def body(i, value):
            value = tf.tanh(tf.reshape(value, [-1, 4]))
            return i + 1, tf.reshape(tf.reshape(value, tf.stack([tf.shape(value)[0], 2, 2])), [-1, 4])
        tf.identity(v1.while_loop(lambda i, _: i < 3, body, [0, x])[1], "y")
    with v1_control_flow():
        graph_def = build(make)
    after, report = transformed(graph_def, ["x"], ["y"], "fix_reshapes")
    assert report.steps[0].applied == 1
    assert compared(graph_def, after, ["y"], {"x": seeded((2, 4))}).equal
