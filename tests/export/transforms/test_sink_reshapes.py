import numpy as np
import pytest
from graph_session import build, compared, ops, seeded, session_run, tf, transformed

R, v1 = tf.raw_ops, tf.compat.v1


def after_reshape(make_rest, to=(-1, 5, 4), shape=(None, 4)):
    """y = what `make_rest` computes from x [rows, 4], reshaped to [?, 5, 4]."""
    def make():
        x = v1.placeholder(tf.float32, shape, "x")
        tf.nn.l2_loss(x, name="unused")
        tf.identity(make_rest(tf.reshape(x, to, name="seen"), x), "y")
    return build(make)


def gelu(seen, x):
    return 0.5 * seen * tf.math.erfc(-seen * 0.70710678)


def bias(seen, x):
    return seen + tf.constant(seeded((4,)))


def heads(seen, x):
    """A bias of several axes, as of an attention's heads."""
    return tf.reshape(x, [-1, 5, 2, 2]) + tf.constant(seeded((2, 2)))


def bias_add(seen, x):
    return tf.nn.bias_add(seen, tf.constant(seeded((4,))))


def residual(seen, x):
    rows = tf.reshape(x * 2.0, [-1, 4])
    return seen + tf.reshape(tf.nn.relu(rows), [-1, 5, 4])


@pytest.mark.parametrize("make_rest", [gelu, bias, heads, bias_add, residual])
def test_a_reshape_comes_last(make_rest):
    graph_def = after_reshape(make_rest)
    after, report = transformed(graph_def, ["x"], ["y"], "merge_duplicate_nodes sink_reshapes strip_unused_nodes "
                                                         "remove_nodes(op=Identity)")
    assert report.steps[1].applied >= 1
    assert next(node for node in after.node if node.name == "y").op in ("Identity", "Reshape")
    assert next(node for node in after.node if node.op == "Reshape").input[0] != "x"
    assert ops(after)["Reshape"] == 1
    for batch in (1, 3):
        assert compared(graph_def, after, ["y"], {"x": seeded((batch * 5, 4))}).equal


def test_two_reshapes_become_one_or_none():
    def there_and_back(seen, x):
        return tf.reshape(tf.tanh(seen), [-1, 4]) + tf.reshape(tf.reshape(x, [-1, 2]), [-1, 10, 2])[:, 0, :1]
    graph_def = after_reshape(there_and_back, (-1, 5, 4))
    after, _ = transformed(graph_def, ["x"], ["y"], "sink_reshapes strip_unused_nodes")
    assert ops(after)["Reshape"] == 1
    feeds = {"x": seeded((5, 4))}
    assert session_run(after, ["y"], feeds)["y"].shape == session_run(graph_def, ["y"], feeds)["y"].shape


def test_a_residual_whose_rows_are_there_already():
    """(y + Dense(y)) of a sequence y: the addition is made on the rows, which the Dense layer reads."""
    def make():
        x = v1.placeholder(tf.float32, (None, 5, 4), "x")
        y = tf.tanh(x)
        rows = tf.matmul(tf.reshape(y, [-1, 4]), tf.constant(seeded((4, 4))))
        tf.identity(y + tf.reshape(rows, [-1, 5, 4]), "y")
    graph_def = build(make)
    after, report = transformed(graph_def, ["x"], ["y"], "sink_reshapes")
    assert report.steps[0].applied == 2
    added = next(node for node in after.node if node.op == "AddV2")
    assert "Tanh" not in added.input
    for batch in (1, 3):
        assert compared(graph_def, after, ["y"], {"x": seeded((batch, 5, 4))}).equal


@pytest.mark.parametrize("make_rest", [
    lambda seen, x: seen + tf.constant(seeded((5, 1))),  # broadcast over an axis that the rows do not have
    lambda seen, x: seen * tf.constant(seeded((4,))),  # only an addition becomes a BiasAdd
    lambda seen, x: seen + tf.constant(seeded((1, 1, 1, 4))),  # gives a further axis
    lambda seen, x: seen * tf.constant(np.float32([[[[2.0]]]])),
    lambda seen, x: seen + tf.reduce_sum(x),
    lambda seen, x: seen + tf.reshape(tf.tile(x[:1], [5, 1]), [-1, 5, 4]),  # one row for all: broadcast
    lambda seen, x: tf.nn.softmax(seen),  # not element by element
])
def test_refuses(make_rest):
    graph_def = after_reshape(make_rest)
    after, _ = transformed(graph_def, ["x"], ["y"], "sink_reshapes")
    assert [node.input[0] for node in after.node if node.name == "seen"] == ["x"]
    assert compared(graph_def, after, ["y"], {"x": seeded((10, 4))}).equal


def test_fed_and_fetched_nodes():
    graph_def = after_reshape(gelu)
    after, report = transformed(graph_def, ["seen"], ["y"], "sink_reshapes")
    assert report.steps[0].applied == 0
    after, _ = transformed(graph_def, ["x"], ["y", "seen"], "sink_reshapes")
    assert compared(graph_def, after, ["y", "seen"], {"x": seeded((10, 4))}).equal


def test_what_waits_stays():
    def waits(seen, x):
        with tf.control_dependencies([tf.no_op("before")]):
            return tf.nn.relu(seen)
    graph_def = after_reshape(waits)
    assert transformed(graph_def, ["x"], ["y"], "sink_reshapes")[1].steps[0].applied == 0


def test_a_fed_bias_is_what_the_request_says():
    graph_def = after_reshape(lambda seen, x: seen + tf.constant(seeded((4,), 3), name="bias"))
    after, _ = transformed(graph_def, ["x", "bias"], ["y"], "sink_reshapes")
    feeds = {"x": seeded((10, 4)), "bias": np.zeros(4, np.float32)}
    assert compared(graph_def, after, ["y"], feeds).equal
