"""Whole graphs in int8: near the float32 graph, free of conversions, and whatever else they hold is as it was."""
import contextlib
from typing import Any

import numpy as np
import pytest
from graph_session import build, seeded, session_run, tf, v1_control_flow
from graph_strategies import Drawn, drawn_graphs
from hypothesis import HealthCheck, given, settings
from int8_layers import Build, conv, depthwise, images, padded, sum_of
from int8_simulation import Limits, assert_as_simulated, assert_near_float, eight_bit_gaps, measured, quantized
from odd_graphs import ODD_LAYERS, odd_feeds, odd_graphs

from export.graph import Graph, producer
from export.graph_file import as_graph_def, whole
from export.precision.guard import guarded
from export.precision.int8 import quantize, wanted_tensors
from export.precision.layer import counted

v1 = tf.compat.v1


def test_no_range_keeps_the_layer() -> None:
    it = images(lambda x: conv(tf.nn.relu(conv(x)), seed=2))
    ranges = {ref: limits for ref, limits in it.ranges.items() if ref != "Relu"}
    _, layers = quantize(it.graph, ranges)
    assert [layer.reason for layer in layers] == ["no range was measured for 'Relu'"] * 2


def test_kept_layers_stay_and_are_read_as_float() -> None:
    it = images(lambda x: conv(tf.nn.relu(conv(tf.nn.relu(conv(x)), seed=2)), seed=3), keep=frozenset({"Conv2D_1"}))
    assert counted(it.layers) == {"int8": 2, "float32": 1}
    assert it.reasons() == {"Conv2D_1": "kept in float32"}
    assert it.ops["Conv2D"] == 1
    assert_as_simulated(it, 2.01, 0.05)


def test_outputs_in_the_middle_and_float_readers() -> None:
    def make(x: Any) -> Any:
        first = tf.nn.relu(conv(x), name="first")
        pooled = tf.nn.max_pool2d(first, 2, 2, "SAME", name="pooled")
        tf.nn.softmax(pooled, name="beside")
        return tf.nn.relu(conv(pooled, seed=2))
    it = images(make, outputs=("y", "first", "pooled", "beside"))
    assert eight_bit_gaps(it.result) == []
    assert it.ops["QuantizeV2"] == 1
    for ref in ("first", "pooled"):
        assert it.result.nodes[ref].op == "Dequantize"
    assert_as_simulated(it, 2.01, 0.05)


def test_shape_readers_need_no_float() -> None:
    def make(x: Any) -> Any:
        first = tf.nn.relu(conv(x))
        batch = tf.shape(first)[0]
        return tf.reshape(conv(tf.reshape(first, tf.stack([batch, 9, 9, 4])), seed=2), tf.stack([batch, -1]))
    it = images(make)
    assert it.ops["Dequantize"] == 1
    assert_as_simulated(it, 2.01, 0.05)


def test_control_inputs_stay() -> None:
    def make(x: Any) -> Any:
        with tf.control_dependencies([v1.assert_less(tf.reduce_max(x), 1e3, name="limit")]):
            return tf.nn.relu(conv(x))
    it = images(make)
    contraction = next(item for item in it.result.nodes.values() if item.op == "_FusedQuantizedConv2D")
    assert contraction.controls
    with pytest.raises(tf.errors.InvalidArgumentError, match="limit"):
        it.run({"x": np.full((1, 9, 9, 4), 2e3, np.float32)})


def test_two_signatures_share_nodes() -> None:
    def make() -> None:
        a = v1.placeholder(tf.float32, (None, 9, 9, 4), "a")
        b = v1.placeholder(tf.float32, (None, 5), "b")
        trunk = tf.nn.relu(conv(a), name="trunk")
        tf.identity(conv(trunk, seed=2), "image")
        tf.identity(tf.matmul(tf.reduce_mean(trunk, [1, 2]), tf.constant(seeded((4, 3)))), "head")
        tf.identity(tf.matmul(b, tf.constant(seeded((5, 2)))), "other")
    it = quantized(make, ("image", "head", "other"), feeds={"a": seeded((2, 9, 9, 4)), "b": seeded((4, 5))})
    assert counted(it.layers) == {"int8": 4}
    assert_as_simulated(it, 2.01, 0.05)
    alone = session_run(it.graph_def, ["other"], {"b": it.feeds["b"]})  # the other signature's input is not fed
    np.testing.assert_array_equal(alone["other"], it.run()["other"])


def test_fed_tensors_inside() -> None:
    """A signature feeds a tensor that another one computes: what follows must read the fed numbers."""
    it = images(lambda x: conv(tf.nn.relu(conv(x), name="fed"), seed=2), inputs=("x", "fed"),
                 ranges={"BiasAdd_1": Limits(-6, 6)})
    feeds = {"fed": np.clip(np.abs(seeded((2, 9, 9, 4), 9)), 0, it.ranges["fed"].high)}

    def make() -> None:
        tf.identity(conv(v1.placeholder(tf.float32, (None, 9, 9, 4), "fed"), seed=2), "y")
    found = session_run(it.graph_def, ["y"], feeds)["y"]
    wanted = session_run(build(make), ["y"], feeds)["y"]
    assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()


@pytest.mark.parametrize("shape", [(2, 9, 7, 4), (2, 9, 9, 3), (2, 9, 4)])
def test_a_fed_tensor_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    """The kernel that adds into another buffer compares no sizes, and a server does not check what it is fed."""
    def make(x: Any) -> Any:
        return tf.nn.relu(conv(padded(x, 0, 1, 0, 1), 2, padding="VALID", stride=2) + conv(x, 1, stride=2, seed=2))
    graph_def = as_graph_def(whole(guarded(images(make).result)))
    for node in graph_def.node:  # in C++ the placeholder's shape is not compared; in Python it is
        if node.op == "Placeholder":
            node.attr["shape"].shape.Clear()
            node.attr["shape"].shape.unknown_rank = True
    with pytest.raises(tf.errors.InvalidArgumentError, match="compatible"):
        session_run(graph_def, ["y"], {"x": seeded(shape)})


@pytest.mark.parametrize("make", [
    sum_of(relu=True, projected=True), sum_of(relu=False, chain=2), lambda x: depthwise(x, 1),
    lambda x: tf.matmul(tf.nn.relu(tf.matmul(tf.reshape(x, [-1, 324]), tf.constant(seeded((324, 4))))),
                        tf.constant(seeded((4, 4))))],
    ids=["sum", "negative sum", "depthwise", "products"])
def test_a_guarded_graph_survives_an_empty_batch(make: Build) -> None:
    """A convolution hands on the shape of its input then, in float32 too, so that the next one may refuse it."""
    it = images(make)
    graph_def = as_graph_def(whole(guarded(it.result)))
    with contextlib.suppress(tf.errors.InvalidArgumentError):
        assert session_run(graph_def, ["y"], {"x": seeded((0, 9, 9, 4))})["y"].size == 0
    np.testing.assert_array_equal(session_run(graph_def, ["y"], it.feeds)["y"], it.run()["y"])


def test_loops_and_conditions_of_tensorflow_1() -> None:
    weights = tf.constant

    def dense(x: Any, seed: int) -> Any:
        return tf.matmul(x, weights(seeded((4, 4), seed) / 2))

    def make() -> None:
        x = v1.placeholder(tf.float32, (None, 4), "x")
        chosen = v1.cond(tf.reduce_sum(x) > 0, lambda: tf.nn.relu(dense(x, 1) + 1.0), lambda: dense(-x, 2))
        looped = v1.while_loop(lambda i, _: i < 3, lambda i, h: (i + 1, tf.nn.relu(dense(h, 3))), [0, chosen])[1]
        tf.identity(dense(looped, 4), "y")
    with v1_control_flow():
        graph_def = build(make)
    x = np.abs(seeded((6, 4), 3))
    ranges = dict.fromkeys(wanted_tensors(Graph.from_graph_def(graph_def, ["x"], ["y"])), Limits(-8, 8))
    graph = Graph.from_graph_def(graph_def, ["x"], ["y"])
    result, layers = quantize(graph, ranges)
    assert counted(layers) == {"int8": 3, "float32": 1}
    assert [layer.reason for layer in layers if layer.reason] == ["it is inside a while loop"]
    for sign in (1, -1):
        found = session_run(as_graph_def(whole(result)), ["y"], {"x": sign * x})["y"]
        wanted = session_run(graph_def, ["y"], {"x": sign * x})["y"]
        assert np.abs(found - wanted).max() < 0.15 * np.abs(wanted).max()


def test_bodies_of_functions_are_named() -> None:
    def make() -> None:
        x = v1.placeholder(tf.float32, (None, 4), "x")
        looped = tf.while_loop(lambda i, _: i < 2, lambda i, h: (
            i + 1, tf.ensure_shape(tf.matmul(h, tf.constant(seeded((4, 4)))), (None, 4))), [0, x])[1]
        tf.identity(tf.matmul(looped, tf.constant(seeded((4, 4)))), "y")
    it = quantized(make, feeds={"x": seeded((3, 4))})
    assert counted(it.layers) == {"int8": 1, "float32": 1}
    assert "in the body of the function" in next(iter(it.reasons().values()))


def test_what_has_no_kernel() -> None:
    def make() -> None:
        x = v1.placeholder(tf.float32, (None, 6, 6, 4), "x")
        up = tf.nn.conv2d_transpose(x, tf.constant(seeded((2, 2, 4, 4))), [2, 12, 12, 4], 2)
        tf.identity(tf.matmul(up, up, transpose_b=True), "y")
    it = quantized(make, feeds={"x": seeded((2, 6, 6, 4))})
    assert sorted(it.reasons().values()) == ["there is no int8 kernel for BatchMatMulV2",
                                             "there is no int8 kernel for Conv2DBackpropInput"]


def test_the_graph_itself_is_unchanged() -> None:
    def make() -> None:
        tf.identity(conv(v1.placeholder(tf.float32, (None, 9, 9, 4), "x")), "y")
    graph = Graph.from_graph_def(build(make), ["x"], ["y"])
    before = dict(graph.nodes)
    quantize(graph, measured(graph, {"x": seeded((1, 9, 9, 4))}))
    assert graph.nodes == before


@settings(max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(drawn_graphs(max_layers=7))
def test_drawn_graphs(drawn: Drawn) -> None:
    it = quantized(drawn.graph_def, drawn.outputs, feeds=drawn.feeds(5))
    assert eight_bit_gaps(it.result) == []
    for layer in it.layers:
        assert (layer.precision == "int8") or layer.reason
    if {"conv", "depthwise"} & set(drawn.layers):
        assert "int8" in counted(it.layers)
    assert_near_float(it, 0.25)
    for batch in range(1, 5):
        feeds = {"x": drawn.feeds(5)["x"][:batch]}
        for ref, value in it.run(feeds).items():
            np.testing.assert_array_equal(value, it.run()[ref][:batch])


@settings(max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(odd_graphs(max_layers=6, layers=tuple(layer for layer in ODD_LAYERS if layer != "gather")))
def test_odd_graphs(drawn: Drawn) -> None:
    """v1 loops and conditions, functions, other types, NaN: what is quantized answers, the rest is as it was.

    Without "gather", which makes integers of activations: a small error then chooses another row.
    """
    feeds = odd_feeds(1)
    graph = Graph.from_graph_def(drawn.graph_def, ["x"], drawn.outputs)
    ranges = {}
    for ref in wanted_tensors(graph):
        with contextlib.suppress(tf.errors.InvalidArgumentError, ValueError):  # inside of loops nothing can be fetched
            value = session_run(drawn.graph_def, [ref], feeds)[ref]
            ranges[ref] = Limits(float(value.min()), float(value.max()))
    assert bool(ranges) == bool(wanted_tensors(graph))
    result, layers = quantize(graph, ranges)
    assert all(layer.precision == "int8" or layer.reason for layer in layers)
    found = session_run(as_graph_def(whole(result)), graph.outputs, feeds)
    for ref, value in session_run(drawn.graph_def, graph.outputs, feeds).items():
        assert found[ref].dtype == value.dtype
        if value.dtype == np.float32 and np.isfinite(value).all():
            assert np.sqrt(np.mean((found[ref] - value) ** 2)) <= 0.1 * max(float(np.std(value)), 1e-12)


def test_every_tensor_that_is_wanted_is_in_the_graph() -> None:
    it = images(sum_of(relu=True, projected=True))
    for ref in wanted_tensors(it.graph):
        assert producer(ref) in it.graph.nodes
