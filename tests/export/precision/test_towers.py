"""Two towers: the answers of the whole graph at every batch size, and a refusal wherever examples may mix."""
from collections.abc import Callable
from pathlib import Path
from typing import Any

import encoder_models
import numpy as np
import pytest
import small_classifier
from graph_session import build, runtime_graph, seeded, session_run
from graph_strategies import LAYERS, Drawn, drawn_graphs
from hypothesis import given, settings
from int8_graphs import Int8Graph, written

from export import pipeline, saved_model
from export.freeze import freeze
from export.graph import Graph
from export.graph_file import as_graph_def, whole
from export.precision.alive import proven_alive
from export.precision.guard import guarded
from export.precision.towers import NotSplitError, ends_of, two_towers
from export.runtime import tf
from export.tensors import Array

BATCHES = (0, 1, 2, 3, 4, 5, 8, 17)
SHAPE = (None, 8, 8, 4)
v1 = tf.compat.v1


def graph_of(make: Callable[..., Any], *inputs: str, outputs: tuple[str, ...] = ("y",),
             shape: tuple[int | None, ...] | None = SHAPE) -> Graph:
    def nodes() -> None:
        made = make(*(v1.placeholder(tf.float32, shape, name) for name in inputs or ("x",)))
        for name, tensor in zip(outputs, made if isinstance(made, tuple) else (made,), strict=True):
            tf.identity(tensor, name)
    return Graph.from_graph_def(build(nodes), inputs or ["x"], outputs)


def layers(x: Any) -> Any:
    x = tf.nn.relu(tf.nn.conv2d(x, seeded((3, 3, 4, 6)), 2, "SAME"))
    return tf.nn.softmax(tf.matmul(tf.reshape(x, [-1, 96]), seeded((96, 5), 1) / 10))


def image(batch: int, seed: int = 0) -> Array:
    return seeded((batch, 8, 8, 4), seed)


def run(graph: Graph, **feeds: Array) -> dict[str, Array]:
    return session_run(as_graph_def(whole(graph)), graph.outputs, feeds)


def one_signature(graph: Graph) -> Graph:
    return two_towers(graph, [(graph.inputs, graph.outputs)])


def test_every_batch_size_has_the_answers_of_one_tower() -> None:
    def split(x: Any) -> Any:
        # The first convolution keeps the channels: TensorFlow's empty result has its input's shape.
        logits = tf.reduce_mean(tf.nn.conv2d(tf.nn.conv2d(x, seeded((3, 3, 4, 4)), 1, "SAME"), seeded((1, 1, 4, 4)), 1,
                                             "SAME"), [1, 2])
        return logits, tf.nn.softmax(logits)
    graph = graph_of(split, outputs=("logits", "scores"))
    towers = one_signature(graph)
    assert (towers.inputs, towers.outputs) == (graph.inputs, graph.outputs)
    for batch in BATCHES:
        expected, found = (run(one, x=image(batch)) for one in (graph, towers))
        for name in graph.outputs:
            assert found[name].shape == (batch, 4)
            np.testing.assert_allclose(found[name], expected[name], atol=1e-6)


def test_weights_are_shared_and_the_whole_graph_is_gone() -> None:
    graph = graph_of(layers)
    towers = one_signature(graph)
    ops = [item.op for item in towers.nodes.values()]
    assert [ops.count(op) for op in ("Conv2D", "MatMul", "Softmax")] == [2, 2, 2]
    assert sum(item.op == "Const" and len(item.shape) > 1 for item in towers.nodes.values()) == 2


def test_a_single_example_goes_through_one_tower() -> None:
    towers = one_signature(graph_of(layers))
    loaded = tf.Graph()
    with loaded.as_default():
        tf.import_graph_def(as_graph_def(whole(towers)), name="")
    with v1.Session(graph=loaded) as session:
        for batch in (1, 2, 9):
            ran = v1.RunMetadata()
            session.run("y:0", {"x:0": image(batch)}, v1.RunOptions(trace_level=v1.RunOptions.FULL_TRACE), ran)
            names = {node.node_name for device in ran.step_stats.dev_stats for node in device.node_stats}
            assert any(name.startswith("tower_1/") for name in names)
            assert any(name.startswith("tower_2/") for name in names) == (batch >= 2)


def test_tensorflow_still_fuses_the_layers_of_both_towers() -> None:
    ran = runtime_graph(as_graph_def(whole(one_signature(graph_of(lambda x: tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(
        x, seeded((3, 3, 4, 6)), 1, "SAME"), seeded((6,)))))))), "y", {"x": image(4)})
    assert [item.op for item in ran.node].count("_MklNativeFusedConv2D") == 2


def test_several_signatures_and_inputs() -> None:
    def make(a: Any, b: Any, c: Any) -> Any:
        return layers(a) + layers(b), layers(a) * 2.0, layers(c), tf.constant(seeded((3,)))
    graph = graph_of(make, "a", "b", "c", outputs=("sum", "twice", "other", "fixed"))
    ends = [(("a", "b"), ("sum", "fixed")), (("a", "b"), ("twice",)), (("c",), ("other",))]
    towers = two_towers(graph, ends)
    for batch in (1, 5):
        feeds = {name: image(batch, seed) for seed, name in enumerate("abc")}
        expected, found = (run(one, **feeds) for one in (graph, towers))
        for name in graph.outputs:
            np.testing.assert_allclose(found[name], expected[name], atol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError):
        run(towers, a=image(4), b=image(3), c=image(1))


def test_an_input_for_the_whole_request_reaches_both_towers() -> None:
    def nodes() -> None:
        x = v1.placeholder(tf.float32, SHAPE, "x")
        limit = v1.placeholder(tf.float32, (), "limit")
        tf.nn.relu(tf.reduce_max(x, [1, 2]) - limit, "y")
    graph = Graph.from_graph_def(build(nodes), ["x", "limit"], ["y"])
    expected, found = (run(one, x=image(5), limit=np.float32(0.5)) for one in (graph, one_signature(graph)))
    np.testing.assert_array_equal(found["y"], expected["y"])


def test_an_output_that_is_an_input_stays() -> None:
    graph = graph_of(lambda x: x * 2.0)
    towers = two_towers(graph, [(("x",), ("y", "x"))])
    assert towers.nodes["x"] == graph.nodes["x"]
    np.testing.assert_array_equal(run(towers, x=image(3))["y"], image(3) * 2)


def test_int8_layers_alone_and_at_once(tmp_path: Path) -> None:
    made = Int8Graph()
    first = made.conv(made.quantize(made.image("x", SHAPE)), seeded((3, 3, 4, 4)))
    second = made.conv(first, seeded((3, 3, 4, 4), 1))
    graph = guarded(made.graph(made.dequantize(made.conv(second, seeded((3, 3, 4, 4), 2), summand=first), "y")))
    towers = one_signature(graph)
    for batch in BATCHES:
        np.testing.assert_array_equal(*(run(one, x=np.abs(image(batch)))["y"] for one in (graph, towers)))
    version = written(towers, tmp_path / "1")
    proof = proven_alive(version, ["serve"], "serving_default", lambda batch: {"x": np.abs(image(batch))})
    assert set(proof.batches.values()) == {"answered"}


def test_a_classifier_splits(tmp_path: Path) -> None:
    frozen = freeze(saved_model.read(small_classifier.write(tmp_path / "1")))
    graph, _ = pipeline.run(frozen.graph, "default")
    towers = two_towers(graph, ends_of(frozen.signatures.values()))
    (feed,), (fetch,) = ends_of(frozen.signatures.values())[0]
    for batch in (1, 5):
        x = small_classifier.images(batch)
        before, after = (session_run(as_graph_def(whole(one)), [fetch], {feed: x})[fetch] for one in (graph, towers))
        np.testing.assert_allclose(after, before, atol=1e-6)


def test_a_transformer_splits() -> None:
    """Its first axis is the examples throughout, also where layers turn the rows of all of them into one matrix."""
    plain = Graph.from_graph_def(encoder_models.frozen(layers=1), ["ids", "mask"], ["Identity"])
    graph, _ = pipeline.run(plain, "default")
    towers = one_signature(graph)
    for batch in (1, 3):
        expected, found = (run(one, **encoder_models.feeds(batch))["Identity"] for one in (graph, towers))
        np.testing.assert_allclose(found, expected, atol=1e-5)


@given(drawn_graphs(layers=tuple(layer for layer in LAYERS if layer != "control")))
@settings(max_examples=15, deadline=None)
def test_drawn_graphs_have_the_same_answers(drawn: Drawn) -> None:
    graph = Graph.from_graph_def(drawn.graph_def, ["x"], drawn.outputs)
    towers = one_signature(graph)
    for batch in (1, 3):
        expected, found = (run(one, **drawn.feeds(batch)) for one in (graph, towers))
        for name in graph.outputs:
            np.testing.assert_allclose(found[name], expected[name], atol=1e-4 * np.abs(expected[name]).max())


def waiting(x: Any) -> Any:
    with tf.control_dependencies([tf.exp(x)]):
        return tf.identity(x)


@pytest.mark.parametrize(("make", "reason"), [
    (lambda x: x - tf.reduce_mean(x, 0), r"'Mean' \(Mean\) is not known to compute each example by itself"),
    (lambda x: tf.cumsum(x, 0), r"'Cumsum' \(Cumsum\) is not known"),
    (lambda x: tf.shape(x), "the output 'y' does not have one row per example"),
    (lambda x: tf.reshape(x, [-1, 4]), "the output 'y' does not have one row per example"),
    (waiting, r"'Identity' \(Identity\) waits for 'Exp'")])
def test_refuses_a_graph_that_may_mix_examples(make: Callable[[Any], Any], reason: str) -> None:
    with pytest.raises(NotSplitError, match=f"^no two towers: {reason}"):
        one_signature(graph_of(make))


@pytest.mark.parametrize(("shape", "reason"), [
    ((8, 8, 8, 4), "no input of x has a batch of any size as its first axis"),
    (None, "the rank of the input 'x' is not known")])
def test_refuses_inputs_without_a_batch(shape: tuple[int, ...] | None, reason: str) -> None:
    with pytest.raises(NotSplitError, match=reason):
        one_signature(graph_of(lambda x: x + 1.0, shape=shape))


def test_refuses_inputs_that_are_fed_with_different_others() -> None:
    graph = graph_of(lambda a, b: (a + b, a * 2.0), "a", "b", outputs=("sum", "twice"))
    with pytest.raises(NotSplitError, match="the input 'a' is fed together with different others"):
        two_towers(graph, [(("a", "b"), ("sum",)), (("a",), ("twice",))])


def test_refuses_inputs_whose_batches_may_differ() -> None:
    """The source answers three examples of one input and five of the other."""
    graph = graph_of(lambda a, b: (a * 3.0, b * 2.0), "a", "b", outputs=("first", "second"))
    with pytest.raises(NotSplitError, match="'a' and 'b' never come together, so their batches may differ"):
        two_towers(graph, [(("a", "b"), ("first", "second"))])


def test_inputs_come_together_over_several_outputs() -> None:
    graph = graph_of(lambda a, b, c: (a + b, b * c), "a", "b", "c", outputs=("first", "second"))
    made = two_towers(graph, [(("a", "b", "c"), ("first", "second"))])
    assert sum(item.op == "Switch" for item in made.nodes.values()) == 5
