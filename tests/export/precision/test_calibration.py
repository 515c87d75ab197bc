"""The values of a graph's tensors for samples, measured in a separate process."""
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from graph_session import build, seeded, session_run, tf, v1_control_flow

from export import saved_model
from export.freeze import freeze
from export.graph import Graph, normal
from export.precision import calibration
from export.precision.calibration import calibrate, computed, piece
from export.prepared import content
from export.saved_model import GRAPH_LIMIT, Content
from user_error import UserError


def two_layers() -> None:
    x = tf.compat.v1.placeholder(tf.float32, (None, 6, 6, 3), "x")
    first = tf.nn.relu(tf.nn.conv2d(x, tf.constant(seeded((3, 3, 3, 4))), 1, "SAME"), "first")
    tf.matmul(tf.reshape(first, [-1, 144]), tf.constant(seeded((144, 5), 1)), name="logits")
    other = tf.compat.v1.placeholder(tf.float32, (None, 2), "other")
    tf.square(other, "squared")


def two_layers_content() -> Content:
    graph = Graph.from_graph_def(build(two_layers), ["x", "other"], ["logits", "squared"])
    return Content(graph, {})


def test_it_measures_what_a_session_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    made = two_layers_content()
    images = seeded((13, 6, 6, 3), 2)
    asked = [{"x:0": images[:5]}, {"x:0": images[5:10]}, {"x:0": images[10:]}]
    monkeypatch.setattr(calibration, "_MEMORY", 1000)  # each tensor is a group of its own
    found = calibrate(made, asked, ["x:0", "first", "logits", "first", "squared"])
    assert list(found) == ["x", "first", "logits"], "no sample feeds what 'squared' needs"
    expected = session_run(build(two_layers), ["x", "first", "logits"], {"x": images})
    for name, one in found.items():
        assert one.values == expected[name].size
        assert (one.minimum, one.maximum) == pytest.approx((expected[name].min(), expected[name].max()), rel=1e-5)
    assert found["first"].zeros == pytest.approx(int((expected["first"] == 0).sum()), abs=3)


def test_the_size_of_the_requests_makes_no_difference() -> None:
    made = two_layers_content()
    images = seeded((8, 6, 6, 3), 2)
    whole = calibrate(made, [{"x": images}], ["x"])["x"]
    single = calibrate(made, [{"x": images[number:number + 1]} for number in range(8)], ["x"])["x"]
    assert whole.spread().counts.tolist() == single.spread().counts.tolist()
    assert whole.range("mse") == single.range("mse")


def test_each_request_measures_what_it_computes() -> None:
    made = two_layers_content()
    asked = [{"x": seeded((3, 6, 6, 3))}, {"x": seeded((1, 6, 6, 3))}, {"other": seeded((2, 2))}]
    found = calibrate(made, asked, ["logits", "squared"])
    assert found["squared"].values == 4
    assert found["logits"].values == 20


def test_large_tensors_are_asked_in_small_pieces() -> None:
    def make() -> None:
        x = tf.compat.v1.placeholder(tf.float32, (None, 1024, 1024, 16), "x")
        tf.nn.relu(x, "y")
    graph = Graph.from_graph_def(build(make), ["x"], ["y"])
    assert piece(graph, ["x"]) == 4
    assert piece(graph, ["x", "y"]) == 2
    assert piece(graph, []) == 32


def test_a_sample_that_gives_nan_names_the_tensor() -> None:
    made = two_layers_content()
    images = seeded((2, 6, 6, 3))
    images[1, 2, 2, 0] = np.nan
    found = calibrate(made, [{"x": images}], ["x", "logits"])
    assert found["x"].nans == 1
    with pytest.raises(UserError, match="tensor 'logits': the samples give NaN"):
        found["logits"].range()


def test_an_error_of_the_graph_is_one_line() -> None:
    def make() -> None:
        x = tf.compat.v1.placeholder(tf.float32, (None, 2), "x")
        tf.reshape(x, [4], name="y")
    graph = Graph.from_graph_def(build(make), ["x"], ["y"])
    with pytest.raises(UserError, match="does not answer a request of the samples: Input to reshape") as raised:
        calibrate(Content(graph, {}), [{"x": seeded((5, 2))}], ["y"])
    assert "\n" not in str(raised.value)


def test_an_unknown_tensor_is_refused_by_name() -> None:
    made = two_layers_content()
    with pytest.raises(UserError, match="the graph has no tensor 'nowhere'"):
        calibrate(made, [{"x": seeded((1, 6, 6, 3))}], ["nowhere"])


def test_nothing_wanted_starts_nothing() -> None:
    assert calibrate(two_layers_content(), [{"x": seeded((1, 6, 6, 3))}], []) == {}


def test_what_needs_a_placeholder_that_is_not_fed_is_left_out() -> None:
    graph = two_layers_content().graph
    assert computed(graph, frozenset({"x"}), ["first", "squared", "x"]) == ["first", "x"]
    assert computed(graph, frozenset({"first"}), ["first", "logits", "x"]) == ["first", "logits"]


def branches_and_loops() -> None:
    x = tf.compat.v1.placeholder(tf.float32, (None, 4), "x")
    with v1_control_flow():
        y = tf.compat.v1.cond(tf.reduce_sum(x) > 0, lambda: tf.square(x, "yes"), lambda: tf.compat.v1.cond(
            tf.reduce_sum(x) > -9, lambda: tf.sin(x, "perhaps"), lambda: tf.cos(x, "no")))
        tf.negative(y, "after")
        ends = tf.compat.v1.while_loop(
            lambda i, _: i < 3, lambda i, h: (i + 1, tf.tanh(tf.compat.v1.cond(
                i > 1, lambda: tf.exp(h, "deep"), lambda: h), "inside")), (0, y), name="loop")
        tf.negative(ends[1], "end")


def test_branches_and_loops_of_tensorflow_1_are_left_out() -> None:
    """They cannot be fetched; what comes after them can."""
    graph_def = build(branches_and_loops)
    graph = Graph.from_graph_def(graph_def, ["x"], ["after", "end"])
    inner = [node.name for node in graph_def.node if node.name.split("/")[-1] in (
        "yes", "perhaps", "no", "inside", "deep")]
    assert len(inner) == 5
    found = calibrate(Content(graph, {}), [{"x": np.full((2, 4), value, np.float32)} for value in (1, -1, -9)],
                      [*inner, "after", "end", "x"])
    assert list(found) == ["after", "end", "x"]
    assert found["after"].values == 24


def test_tables_and_assets_are_loaded(source: Callable[[str], Path]) -> None:
    model = saved_model.read(source("table"))
    frozen = freeze(model)
    words = np.array([b"the", b"cat", b"unheard"], object)
    vectors = frozen.signatures["serving_default"].outputs["vectors"].name
    fed = normal(frozen.signatures["serving_default"].inputs["words"].name)
    found = calibrate(content(model, frozen, frozen.graph, GRAPH_LIMIT), [{fed: words}], [vectors])
    (one,) = found.values()
    assert one.values == 9
    assert one.minimum < 0 < one.maximum


def test_a_tensor_inside_what_the_runtime_merges() -> None:
    """Grappler makes one node of bias, Sigmoid and Mul, and forgets that the bias is fetched."""
    def swish() -> None:
        x = tf.compat.v1.placeholder(tf.float32, (None, 6, 6, 3), "x")
        y = tf.nn.bias_add(tf.nn.conv2d(x, tf.constant(seeded((3, 3, 3, 4))), 1, "SAME"), tf.ones([4]), name="bias")
        tf.multiply(tf.sigmoid(y), y, name="y")
    graph = Graph.from_graph_def(build(swish), ["x"], ["y"])
    found = calibrate(Content(graph, {}),
                      [{"x": seeded((2, 6, 6, 3), 1)}], ["bias", "y"])
    assert found["bias"].values == found["y"].values == 2 * 6 * 6 * 4


def test_a_tensor_without_elements_is_fetched_too() -> None:
    """It may be the first one of its group, and takes no memory."""
    def make() -> None:
        x = tf.compat.v1.placeholder(tf.float32, (None, 4), "x")
        tf.identity(tf.concat([tf.nn.relu(x[:, :0], "nothing"), tf.nn.relu(x, "all")], 1), "y")
    graph = Graph.from_graph_def(build(make), ["x"], ["y"])
    found = calibrate(Content(graph, {}), [{"x": seeded((3, 4))}], ["nothing", "all"])
    assert found["all"].values == 12
    assert "nothing" not in found or not found["nothing"].values
