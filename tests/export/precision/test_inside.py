"""An offset before a padding convolution becomes channels: equal in float32, and all in eight bits."""
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from graph_session import build, seeded, session_run, tf
from int8_simulation import Limits, Quantized, assert_as_simulated, assert_near_float, measured, quantized

from export.graph import Graph
from export.graph_file import as_graph_def, whole
from export.precision.inside import offset_inputs, offsets_as_channels

raw = tf.raw_ops
_FEEDS = {"x": seeded((3, 12, 12, 4), 5)}


def _conv(x: Any, name: str, size: int = 3, channels: int = 6, padding: Any = "SAME", bias: bool = True) -> Any:
    weights = seeded((size, size, int(x.shape[-1]), channels), len(name)) / (2 * size)
    made = tf.nn.conv2d(x, tf.constant(weights.astype(np.float32)), 1, padding, name=name)
    return tf.nn.bias_add(made, tf.constant(seeded((channels,), 3)), name=f"{name}/bias") if bias else made


def _between(between: Callable[[Any], Any], offset: Any = None, second: Callable[[Any], Any] | None = None,
             outputs: tuple[str, ...] = ("y",)) -> Graph:
    def make() -> None:
        h = between(_conv(tf.compat.v1.placeholder(tf.float32, (None, 12, 12, 4), "x"), "first"))
        h = tf.add(h, tf.constant(seeded((int(h.shape[-1]),), 8) if offset is None else offset), name="offset")
        tf.identity(second(h) if second else _conv(h, "second"), "y")
    return Graph.from_graph_def(build(make), ["x"], outputs)


def _moved(graph: Graph) -> tuple[Graph, float]:
    """The graph with channels, and its largest distance from the one without, as a share of the largest value."""
    after = offsets_as_channels(graph, measured(graph, _FEEDS))
    found, wanted = (session_run(as_graph_def(whole(each)), ["y"], _FEEDS)["y"] for each in (after, graph))
    return after, float(np.abs(found - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("between", [
    tf.nn.relu, lambda h: tf.nn.max_pool2d(tf.nn.relu(h), 2, 2, "VALID"),
    lambda h: tf.nn.relu(tf.nn.max_pool2d(h, 3, 2, "SAME")), lambda h: tf.nn.avg_pool2d(tf.nn.relu(h), 3, 2, "SAME"),
    lambda h: tf.identity(tf.nn.relu(h))])
@pytest.mark.parametrize("padding", ["SAME", [[0, 0], [2, 1], [0, 1], [0, 0]]])
def test_it_is_the_same_function(between: Callable[[Any], Any], padding: Any) -> None:
    graph = _between(between, second=lambda h: _conv(h, "second", padding=padding))
    after, error = _moved(graph)
    assert "offset" not in after.nodes
    assert error < 0.01  # what it adds is rounded to int8 steps of the weights
    assert offset_inputs(graph)


def test_all_in_eight_bits() -> None:
    graph = _between(lambda h: tf.nn.max_pool2d(tf.nn.relu(h), 2, 2, "VALID"))
    it = quantized(as_graph_def(whole(graph)), feeds=_FEEDS)
    assert it.ops["QuantizeV2"] == 1
    assert "AddV2" not in it.ops
    assert_as_simulated(it, 2.01, 0.05)
    assert_near_float(it)


def test_a_chain_of_them() -> None:
    """The second convolution of one is the first of the next."""
    def make() -> None:
        h = tf.nn.relu(_conv(tf.compat.v1.placeholder(tf.float32, (None, 12, 12, 4), "x"), "c0"))
        for number in range(1, 5):
            h = tf.nn.relu(_conv(h + tf.constant(seeded((6,), number)), f"c{number}"))
        tf.identity(h, "y")
    graph = Graph.from_graph_def(build(make), ["x"], ["y"])
    after, error = _moved(graph)
    assert not any(item.op == "AddV2" for item in after.nodes.values())
    assert error < 0.03
    it: Quantized = quantized(as_graph_def(whole(graph)), feeds=_FEEDS)
    assert it.ops["QuantizeV2"] == 1
    assert_as_simulated(it, 3.01, 0.1)


def test_weights_that_both_convolutions_share() -> None:
    def make() -> None:
        weights = tf.constant(seeded((3, 3, 4, 4)) / 6)
        x = tf.compat.v1.placeholder(tf.float32, (None, 12, 12, 4), "x")
        h = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, weights, 1, "SAME"), tf.constant(seeded((4,)))))
        tf.identity(tf.nn.conv2d(h + tf.constant(seeded((4,), 2)), weights, 1, "SAME"), "y")
    after, error = _moved(Graph.from_graph_def(build(make), ["x"], ["y"]))
    assert not any(item.op == "AddV2" for item in after.nodes.values())
    assert error < 0.02


def _read_twice(h: Any) -> Any:
    return _conv(h, "second") + tf.reduce_mean(h)


def _another_bias(h: Any) -> Any:
    return tf.nn.bias_add(tf.nn.max_pool2d(h, 2, 2, "SAME"), tf.constant(seeded((6,), 1)))


@pytest.mark.parametrize(("between", "more"), [
    (tf.nn.relu, {"second": lambda h: _conv(h, "second", padding="VALID")}),  # belongs into the bias
    (tf.nn.relu, {"second": _read_twice}),
    (tf.nn.relu, {"outputs": ("y", "offset")}),
    (tf.nn.relu, {"outputs": ("y", "first/bias")}),
    (tf.nn.relu, {"offset": seeded((12, 12, 6))}),
    (tf.nn.relu, {"offset": np.full(6, np.nan, np.float32)}),
    (tf.nn.relu, {"offset": np.full(6, 1e4, np.float32)}),  # too many channels
    (tf.nn.relu, {"second": lambda h: tf.nn.conv2d(h, tf.constant(seeded((3, 3, 3, 4))), 1, "SAME")}),  # grouped
    (tf.nn.relu, {"second": lambda h: tf.nn.depthwise_conv2d(h, tf.constant(seeded((3, 3, 6, 1))), [1] * 4, "SAME")}),
    (lambda h: tf.nn.relu(_another_bias(h)), {}), (tf.tanh, {}), (lambda h: tf.reshape(h, [-1, 12, 12, 6]), {})])
def test_where_it_stays(between: Callable[[Any], Any], more: dict[str, Any]) -> None:
    graph = _between(between, **more)
    after = offsets_as_channels(graph, measured(graph, _FEEDS))
    assert after.nodes["offset"] == graph.nodes["offset"]
    assert after.nodes["first"] == graph.nodes["first"]


def test_kept_layers_and_unknown_ranges() -> None:
    graph = _between(tf.nn.relu)
    ranges = measured(graph, _FEEDS)
    assert offsets_as_channels(graph, {}) is graph
    assert offsets_as_channels(graph, ranges, frozenset({"second"})) is graph
    assert offsets_as_channels(graph, ranges, frozenset({"first"})) is graph
    assert offsets_as_channels(graph, {offset_inputs(graph)[0]: Limits(-1, 0)}) is graph
    assert offsets_as_channels(graph, {offset_inputs(graph)[0]: Limits(0, float("inf"))}) is graph


@pytest.mark.parametrize("largest", [127, 63])
def test_what_the_channels_multiply_is_whole_steps(largest: int) -> None:
    """Then quantizing the weights rounds nothing of the offset."""
    graph = _between(tf.nn.relu)
    after = offsets_as_channels(graph, measured(graph, _FEEDS), largest_weight=largest)
    weights = after.nodes[after.nodes["second"].data[1]].value.astype(np.float64)
    channels = graph.nodes[graph.nodes["second"].data[1]].shape[2]
    steps = weights[:, :, channels:] / (np.abs(weights[:, :, :channels]).max((0, 1, 2)) / largest)
    assert steps.size
    assert np.abs(steps).max() > 1
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
