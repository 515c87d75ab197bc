import numpy as np
import pytest
from graph_session import build, compared, ops, reasons, seeded, session_run, tf, transformed, v1_control_flow

from export import saved_model

v1 = tf.compat.v1
RANDOM = {"RandomUniform", "RandomStandardNormal", "StatelessRandomUniformV2", "StatelessRandomNormalV2", "Fill",
          "GreaterEqual", "SelectV2", "Select", "RealDiv", "Floor", "Mul", "AddV2"}


def x_of(*shape, dtype=tf.float32):
    return v1.placeholder(dtype, shape, "x")


def simplified(make, outputs=("y",), dtype=np.float32, x=None):
    """The graph after the default pipeline, once it is sure that the answers are the same to the last bit."""
    before = build(make)
    after, report = transformed(before, ["x"], list(outputs), "default")
    x = seeded([3, 4], dtype=dtype) if x is None else x
    x = x.copy()
    x.flat[:2] = np.nan, -np.inf
    for one in outputs:
        was, now = (session_run(graph, [one], {"x": x})[one] for graph in (before, after))
        assert was.dtype == now.dtype
        np.testing.assert_array_equal(was.astype(np.float64), now.astype(np.float64))
    return after, report


def floor_dropout(x, keep, noise_shape=None):
    """As tf.nn.dropout was before TensorFlow 1.14, and as stochastic depth still is."""
    shape = tf.shape(x) if noise_shape is None else noise_shape
    return tf.realdiv(x, keep) * tf.floor(keep + tf.random.uniform(shape, dtype=x.dtype))


def alpha_dropout(x, rate):
    kept = tf.cast(tf.greater_equal(tf.random.uniform(tf.shape(x)), rate), x.dtype)
    alpha = -1.7580993408473766
    scale = ((1 - rate) * (1 + rate * alpha ** 2)) ** -0.5
    return scale * (x * kept + alpha * (1 - kept)) + -scale * alpha * rate


def gaussian_dropout(x, rate):
    return x * tf.random.normal(tf.shape(x), mean=1.0, stddev=tf.sqrt(rate / (1.0 - rate)))


def selected_by_vector(x, rate):
    kept = tf.random.uniform([3]) >= rate
    return v1.where(kept, x, tf.zeros_like(x))


FORMS = {
    "v2": lambda x, zero: tf.nn.dropout(x, rate=zero),
    "v1 keep_prob": lambda x, zero: v1.nn.dropout(x, keep_prob=1 - zero),
    "stateless": lambda x, zero: tf.nn.experimental.stateless_dropout(x, rate=zero, seed=[1, 2]),
    "per feature": lambda x, zero: tf.nn.dropout(x, rate=zero, noise_shape=[1, 4]),
    "per example": lambda x, zero: tf.nn.dropout(x, rate=zero, noise_shape=[tf.shape(x)[0], 1]),
    "floor": lambda x, zero: floor_dropout(x, 1 - zero),
    "stochastic depth": lambda x, zero: floor_dropout(x, 1 - zero, [tf.shape(x)[0], 1]),
    "mask times x": lambda x, zero: tf.cast(tf.random.uniform(tf.shape(x)) < 1 - zero, x.dtype) * x,
    "inverted": lambda x, zero: tf.where(tf.random.uniform(tf.shape(x)) < zero, tf.zeros_like(x), x),
    "alpha": alpha_dropout,
    "gaussian": gaussian_dropout,
    "gaussian noise": lambda x, zero: x + zero * tf.random.truncated_normal(tf.shape(x)),
    "after relu": lambda x, zero: tf.nn.dropout(tf.nn.relu(x), rate=zero, noise_shape=tf.shape(x)),
    "two": lambda x, zero: tf.nn.dropout(tf.nn.dropout(x, rate=zero), rate=zero),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_rate_of_zero_removes_the_dropout(form):
    after, _ = simplified(lambda: tf.identity(FORMS[form](x_of(None, 4), tf.constant(0.0)), "y"))
    assert not ops(after).keys() & RANDOM, ops(after)
    assert set(ops(after)) <= {"Placeholder", "Identity", "Relu"}


def test_select_of_tensorflow_1_takes_a_vector_of_conditions():
    after, _ = simplified(lambda: tf.identity(selected_by_vector(x_of(3, 4), 0.0), "y"))
    assert set(ops(after)) == {"Placeholder", "Identity"}


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float64])
@pytest.mark.parametrize("form", ["v2", "floor", "stateless"])
def test_every_float_type(form, dtype):
    after, _ = simplified(lambda: tf.identity(FORMS[form](x_of(None, 4, dtype=dtype), tf.constant(0.0, dtype)), "y"),
                          dtype=dtype.as_numpy_dtype)
    assert set(ops(after)) == {"Placeholder", "Identity"}


def test_a_constant_seed_and_shape_make_the_condition_a_constant():
    after, _ = simplified(lambda: tf.identity(FORMS["stateless"](x_of(3, 4), tf.constant(0.0)), "y"))
    assert set(ops(after)) == {"Placeholder", "Identity"}


def test_a_dropout_that_is_an_output_keeps_its_name():
    after, _ = simplified(lambda: FORMS["v2"](x_of(None, 4), tf.constant(0.0)), ["dropout/SelectV2"])
    assert {item.name: item.op for item in after.node} == {"x": "Placeholder", "dropout/SelectV2": "Identity"}


@pytest.mark.parametrize("taken", [True, False])
def test_a_branch_of_tensorflow_1(taken):
    def make():
        x = x_of(None, 4)
        rate = tf.constant(0.0)
        tf.identity(v1.cond(tf.reduce_sum(x) > 0, lambda: tf.nn.dropout(x, rate=rate), lambda: x * 3.0), "y")
    with v1_control_flow():
        before = build(make)
    after, _ = transformed(before, ["x"], ["y"], "default")
    assert "RandomUniform" not in ops(after)
    x = np.abs(seeded([3, 4])) * (1 if taken else -1)
    assert compared(before, after, ["y"], {"x": x}).equal


def test_a_loop_of_tensorflow_1():
    def make():
        x = x_of(None, 4)
        tf.identity(v1.while_loop(
            lambda i, y: i < 3, lambda i, y: (i + 1, tf.nn.dropout(y, rate=tf.constant(0.0)) * 2.0), (0, x))[1], "y")
    with v1_control_flow():
        before = build(make)
    after, _ = transformed(before, ["x"], ["y"], "default")
    assert "RandomUniform" not in ops(after)
    assert compared(before, after, ["y"], {"x": seeded([3, 4])}).equal


def test_the_cells_of_a_recurrent_network_of_tensorflow_1():
    """Its loop carries the rate in from outside."""
    def make():
        x, keep = x_of(None, 4), tf.constant(1.0, name="keep_prob")
        tf.identity(v1.while_loop(
            lambda i, y: i < 3, lambda i, y: (i + 1, v1.nn.dropout(y, keep_prob=keep) * 2.0), (0, x))[1], "y")
    with v1_control_flow():
        before = build(make)
    after, _ = transformed(before, ["x"], ["y"], "default")
    assert not ops(after).keys() & {"RandomUniform", "RealDiv", "SelectV2", "Fill"}
    assert compared(before, after, ["y"], {"x": seeded([3, 4])}).equal


def test_a_certain_tensor_in_a_loop_becomes_a_fill():
    def make():
        x, keep, shape = x_of(None, 4), tf.constant(1.0), v1.placeholder(tf.int32, [None], "shape")
        tf.identity(v1.while_loop(
            lambda i, y: i < 3, lambda i, y: (i + 1, y * tf.floor(tf.random.uniform(shape) + keep) * 2.0), (0, x),
            shape_invariants=(tf.TensorShape([]), tf.TensorShape(None)))[1], "y")
    with v1_control_flow():
        before = build(make)
    after, _ = transformed(before, ["x", "shape"], ["y"], "default")
    assert (ops(after)["Fill"], "RandomUniform" in ops(after)) == (1, False)
    assert compared(before, after, ["y"], {"x": seeded([3, 4]), "shape": [3, 1]}).equal


def test_the_body_of_a_function():
    @tf.function
    def step(x):
        return tf.nn.dropout(x, rate=tf.constant(0.0)) + 1.0

    def make():
        tf.identity(tf.while_loop(lambda y: tf.reduce_sum(y) < 0, lambda y: [step(y)], [x_of(None, 4)])[0], "y")
    before = build(make)
    after, _ = transformed(before, ["x"], ["y"], "remove_nodes(op=Identity) fold_constants remove_dropout")
    assert not [item.op for body in after.library.function for item in body.node_def if item.op == "RandomUniform"]
    assert compared(before, after, ["y"], {"x": -np.abs(seeded([3, 4]))}).equal


def test_a_certain_tensor_of_an_unknown_shape_becomes_a_fill():
    """Its shape may add sizes to x by broadcasting, so something of that shape stays."""
    def make():
        shape = v1.placeholder(tf.int32, [None], "shape")
        tf.multiply(x_of(None, 4), tf.floor(1.0 + tf.random.uniform(shape)), name="y")
    before = build(make)
    after, report = transformed(before, ["x", "shape"], ["y"], "default")
    assert reasons(report) == ["the shape of 'random_uniform/RandomUniform' is not known to fit that of 'x'"]
    assert ops(after) == {"Placeholder": 2, "Const": 1, "Fill": 1, "Mul": 1}
    feeds = {"x": seeded([3, 4]), "shape": [2, 3, 4]}
    was, now = (session_run(graph, ["y"], feeds)["y"] for graph in (before, after))
    assert was.shape == (2, 3, 4)
    np.testing.assert_array_equal(was, now)


def test_a_random_output_that_is_certain_becomes_a_fill():
    after, _ = simplified(lambda: tf.greater_equal(tf.random.uniform(tf.shape(x_of(None, 4))), 0.0, name="y"))
    assert ops(after) == {"Placeholder": 1, "Shape": 1, "Const": 1, "Fill": 1}


def wider_noise():
    x = x_of(3, 1)
    tf.identity(tf.nn.relu(x) * tf.floor(1.0 + tf.random.uniform([3, 5])), "y")


def wider_alternative():
    x = x_of(3, 4)
    tf.where(tf.random.uniform([3, 4]) >= 0.0, x, tf.zeros([2, 3, 4]), name="y")


def wider_constant():
    x = x_of(3, 4)
    tf.multiply(x, tf.floor(tf.random.uniform([3, 4]) + tf.ones([2, 1, 1])), name="y")


@pytest.mark.parametrize(("make", "shape", "reason"), [
    (wider_noise, [3, 1], "the shape of 'random_uniform/RandomUniform' is not known to fit that of 'Relu'"),
    (wider_alternative, [3, 4], "'zeros' may be larger than 'x'"),
    (wider_constant, [3, 4], "'ones' may be larger than 'x'")])
def test_what_adds_a_size_stays(make, shape, reason):
    _, report = simplified(make, x=seeded(shape))
    assert reason in reasons(report)


def test_a_constant_of_another_shape_leaves_the_numbers_random():
    _, report = transformed(build(wider_constant), ["x"], ["y"], "remove_dropout")
    assert "it stays random, since a constant gives it another shape than what was drawn" in reasons(report)


@pytest.mark.parametrize(("rate", "reason"), [
    (0.25, "its outcome is random: it compares with 0.25, such as a dropout's rate"),
    (2.0 ** -23, "its outcome is random: it compares with 1.19209e-07, such as a dropout's rate")])
def test_another_rate_stays(rate, reason):
    before = build(lambda: tf.identity(tf.nn.dropout(x_of(None, 4), rate=tf.constant(rate)), "y"))
    after, report = transformed(before, ["x"], ["y"], "default")
    assert reason in reasons(report)
    assert ops(after)["RandomUniform"] == ops(after)["SelectV2"] == 1


@pytest.mark.parametrize(("rate", "left"), [(0.0, set()), (0.5, {"RandomUniform"})])
def test_a_rate_that_is_a_variable_of_the_model(rate, left, tmp_path, run):
    """Frozen, it is a constant. Keras layers in training mode end in the same operations."""
    class Model(tf.Module):
        def __init__(self):
            self.rate = tf.Variable(rate)
            self.weights = tf.Variable(seeded([4, 2]))

        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "x")])
        def serve(self, x):
            return {"y": tf.nn.dropout(x, rate=self.rate, seed=3) @ self.weights}
    model = Model()
    tf.saved_model.save(model, str(tmp_path / "from/1"), signatures=model.serve)
    run("optimize", tmp_path / "from", "--to", tmp_path / "to", "--batch", "2",
        *(["--allow-random", "serving_default"] if left else []))
    drawing = {node.op for node in saved_model.read(tmp_path / "to").meta_graph.graph_def.node} & RANDOM
    assert drawing & {"RandomUniform", "SelectV2"} == left | ({"SelectV2"} if left else set())


def test_a_rate_that_is_no_constant_stays():
    def make():
        tf.identity(tf.nn.dropout(x_of(None, 4), rate=v1.placeholder(tf.float32, [], "rate")), "y")
    after, report = transformed(build(make), ["x", "rate"], ["y"], "default")
    assert "it depends on 'rate', which is not constant" in reasons(report)
    assert ops(after)["RandomUniform"] == 1


def test_a_fed_rate_and_a_fed_draw_stay():
    def make():
        tf.identity(tf.nn.dropout(x_of(None, 4), rate=tf.constant(0.0, name="rate")), "y")
    for fed in ("rate", "dropout/random_uniform/RandomUniform", "dropout/GreaterEqual"):
        after, _ = transformed(build(make), ["x", fed], ["y"], "remove_dropout")
        assert ops(after)["SelectV2"] == 1


def test_two_random_numbers_are_not_compared_ahead():
    def make():
        shape = tf.shape(x_of(None, 4))
        tf.greater_equal(tf.random.uniform(shape), tf.random.uniform(shape) - 1.0, name="y")
    _, report = transformed(build(make), ["x"], ["y"], "remove_dropout")
    assert reasons(report) == ["it compares two random numbers"]


@pytest.mark.parametrize("constant", [np.inf, 3e38])
def test_a_range_that_may_overflow_is_not_followed(constant):
    """normal * inf * 0 may be NaN."""
    def make():
        tf.multiply(tf.random.normal(tf.shape(x_of(None, 4)), stddev=constant) * constant, 0.0, name="y")
    after, _ = transformed(build(make), ["x"], ["y"], "remove_dropout")
    assert ops(after)["RandomStandardNormal"] == 1
