"""Sizes by their origin: equal ones are equal when the graph runs, and what is known before is what the shapes are."""
from fractions import Fraction

import encoder_models
import numpy as np
from graph_session import build, seeded, session_run, tf
from graph_strategies import drawn_graphs
from hypothesis import HealthCheck, given, settings

from export.graph import Graph
from export.graph_file import as_graph_def, whole
from export.pipeline import run
from export.sizes import Size, known_sizes
from export.vectors import Vectors

R, v1 = tf.raw_ops, tf.compat.v1


def check(graph_def, outputs, inputs, feeds):
    """Runs every float tensor's shape and compares the sizes that are said to be equal, or are numbers."""
    graph = Graph.from_graph_def(graph_def, inputs, outputs)
    known = {name: sizes for name, sizes in known_sizes(graph).items()
             if sizes is not None and graph.nodes[name].op not in ("Const", "NoOp", "Placeholder")}
    values = session_run(graph_def, list(known), feeds)
    seen = {}
    for name, sizes in known.items():
        assert len(sizes) == values[name].ndim, name
        for size, real in zip(sizes, values[name].shape, strict=True):
            assert seen.setdefault(size, real) == real if isinstance(size, Size) else size == real, name
    return known


@settings(max_examples=10, suppress_health_check=list(HealthCheck), derandomize=True, deadline=None, database=None)
@given(drawn_graphs())
def test_random_graphs(drawn):
    check(drawn.graph_def, drawn.outputs, ["x"], drawn.feeds(3))


def test_an_encoder():
    graph = run(Graph.from_graph_def(encoder_models.frozen(layers=1), ["ids", "mask"], ["Identity"]), "default")[0]
    graph_def = as_graph_def(whole(graph))
    known = check(graph_def, ["Identity"], ["ids", "mask"], encoder_models.feeds(3))
    batch = Size(Fraction(1), (("ids", 0),))
    rows = [sizes for sizes in known.values() if sizes and sizes[0] == Size(Fraction(16), (("ids", 0),))]
    assert (batch, 16, 64) in known.values()
    assert rows


def test_convolutions_of_unknown_images():
    """Two ways of halving meet again; a third that is no halving does not."""
    def make():
        x = v1.placeholder(tf.float32, (None, None, None, 2), "x")
        weights = tf.constant(seeded((1, 1, 2, 2)))
        tf.nn.conv2d(x, weights, 2, "VALID", name="a")
        tf.nn.relu(tf.nn.conv2d(tf.nn.conv2d(x, weights, 1, "VALID"), weights, 2, "VALID"), name="b")
        tf.nn.max_pool2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, "VALID", name="c")
    known = check(build(make), ["a", "b", "c"], ["x"], {"x": seeded((2, 7, 9, 2))})
    assert known["a"] == known["b"]
    assert known["a"][0] == known["c"][0]
    assert known["a"][1] != known["c"][1]


def test_the_batches_of_two_inputs_are_not_the_same():
    def make():
        a, b = (v1.placeholder(tf.float32, (None, 4), name) for name in "ab")
        tf.add(tf.matmul(a, tf.eye(4)), tf.tanh(b), "y")
    graph = Graph.from_graph_def(build(make), ["a", "b"], ["y"])
    known = known_sizes(graph)
    assert known["a"][0] != known["b"][0]
    assert known["y"][0] not in (known["a"][0], known["b"][0])


def test_vectors():
    def make():
        x = v1.placeholder(tf.float32, (None, 4, 6), "x")
        shape = tf.shape(x, name="shape")
        tf.stack([shape[0], shape[1] * shape[2]], name="packed")
        tf.concat([shape[1:], [7]], 0, name="joined")
        tf.gather(shape, [2, 1], name="gathered")
        R.Prod(input=shape[1:], axis=[0], name="product")
        R.Prod(input=shape, axis=[0], name="unknown")
        tf.cast(tf.reduce_sum(x, [1, 2]), tf.int32, name="data")
        tf.reverse(shape, [0], name="reversed")
        tf.gather(tf.constant([[1, 2], [3, 4]]), 1, name="of_a_matrix")
    graph = Graph.from_graph_def(build(make), ["x"], ["packed"])
    found = Vectors(graph.nodes, graph.shapes)
    assert {name: found.of(name) for name in ("shape", "packed", "joined", "gathered", "product", "unknown", "data",
                                              "reversed", "of_a_matrix")} == {
        "shape": [None, 4, 6], "packed": [None, 24], "joined": [4, 6, 7], "gathered": [6, 4], "product": [24],
        "unknown": [None], "data": None, "reversed": None, "of_a_matrix": None}
    assert Vectors(graph.nodes, graph.shapes, frozenset({"shape"})).of("packed") is None


def test_a_reshape_to_a_computed_shape_has_a_known_one():
    def make():
        x = v1.placeholder(tf.float32, (None, 4, 6), "x")
        tf.reshape(x, tf.stack([tf.shape(x)[0], 24]), name="y")
    graph_def = build(make)
    assert Graph.from_graph_def(graph_def, ["x"], ["y"]).shapes["y"] == (None, 24)
    assert session_run(graph_def, ["y"], {"x": np.zeros((5, 4, 6), np.float32)})["y"].shape == (5, 24)


def test_what_is_fed_has_sizes_of_its_own():
    def make():
        x = v1.placeholder(tf.float32, (None, 4), "x")
        tf.add(tf.nn.relu(x, name="inner"), x, "y")
    graph_def = build(make)
    plain, fed = (known_sizes(Graph.from_graph_def(graph_def, inputs, ["y"])) for inputs in (["x"], ["x", "inner"]))
    assert plain["inner"] == plain["x"]
    assert fed["inner"] != fed["x"]
