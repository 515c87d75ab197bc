"""Weights stored smaller: what is stored, how far the answers move, and what stays float32."""
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from graph_session import build, ops, runtime_graph, seeded, session_run, v1_control_flow
from graph_strategies import Drawn, drawn_graphs
from hypothesis import given, settings

from export.graph import Graph, make_const
from export.graph_file import as_graph_def, whole
from export.precision import storage
from export.precision.storage import KINDS, Kind, kind_of, stored_as
from export.runtime import tf
from export.tensors import FLOAT, HALF, INT8, Array
from user_error import UserError

v1 = tf.compat.v1
# The largest change of a weight, as a share of the largest one that has the same scale.
BOUND = {"float16": 2.0 ** -11, "int8": 0.5 / 127}


def graph_of(make: Callable[[Any], Any], shape: tuple[int | None, ...] = (None, 64), dtype: Any = tf.float32) -> Graph:
    def nodes() -> None:
        tf.identity(make(v1.placeholder(dtype, shape, "x")), "y")
    return Graph.from_graph_def(build(nodes), ["x"], ["y"])


def weights(value: Array, name: str = "w") -> Any:
    return tf.constant(value, name=name)


def run(graph: Graph, x: Array) -> Array:
    return session_run(as_graph_def(whole(graph)), ["y"], {"x": x})["y"]


def dense() -> Graph:
    return graph_of(lambda x: tf.matmul(x, weights(seeded((64, 32)) * np.logspace(0, 3, 32, dtype=np.float32))))


@pytest.mark.parametrize(("kind", "dtype", "bytes_"), [
    ("float16", HALF, 64 * 32 * 2), ("int8", INT8, 64 * 32 + 32 * 4)])
def test_a_weight_is_smaller_and_each_column_keeps_its_scale(kind: Kind, dtype: int, bytes_: int) -> None:
    graph = dense()
    made, stored = stored_as(graph, kind)
    assert made.nodes["w/stored"].get("dtype") == dtype
    assert (stored.constants, stored.bytes_before, stored.bytes_after) == (1, 64 * 32 * 4, bytes_)
    assert 0 < stored.error <= BOUND[kind]
    before = graph.nodes["w"].value
    after = session_run(as_graph_def(whole(made)), ["w"], {})["w"]
    assert (np.abs(after - before).max(0) <= BOUND[kind] * np.abs(before).max(0) * 1.001).all()


@pytest.mark.parametrize("kind", KINDS)
def test_answers_stay_within_the_rounding_of_the_weights(kind: Kind) -> None:
    graph = dense()
    made, _ = stored_as(graph, kind)
    x = seeded((5, 64), 1)
    before, after = run(graph, x), run(made, x)
    most = BOUND[kind] * np.abs(x).sum(1, keepdims=True) * np.abs(graph.nodes["w"].value).max(0) * 1.01
    assert (np.abs(after - before) <= most).all()
    assert not np.array_equal(before, after)


@pytest.mark.parametrize("kind", ["depthwise", "transposed convolution", "transposed matrix", "convolution"])
def test_each_output_channel_has_a_scale(kind: str) -> None:
    """One channel has weights a thousand times as large as the others, whose answers must not suffer."""
    large = np.where(np.arange(16) == 3, 1000.0, 1.0).astype(np.float32)
    image, shape = (None, 4, 4, 16), (3, 3, 16, 16)
    graph = {
        "depthwise": lambda: graph_of(lambda x: tf.nn.depthwise_conv2d(
            x, weights(seeded((9, 9, 16, 1)) * large[:, None]), [1] * 4, "SAME"), image),
        "convolution": lambda: graph_of(lambda x: tf.nn.conv2d(x, weights(seeded(shape) * large), 1, "SAME"), image),
        "transposed convolution": lambda: graph_of(lambda x: tf.nn.conv2d_transpose(
            x, weights(seeded(shape) * large[:, None]), tf.stack([tf.shape(x)[0], 4, 4, 16]), 1), image),
        "transposed matrix": lambda: graph_of(lambda x: tf.matmul(
            x, weights(seeded((16, 64)) * large[:, None]), transpose_b=True))}[kind]()
    made, stored = stored_as(graph, "int8")
    assert stored.constants == 1
    x = np.abs(seeded((2, *(size or 0 for size in graph.shapes["x"][1:])), 1))  # type: ignore[index]
    before, after = run(graph, x), run(made, x)
    assert np.abs(after - before)[..., 4:].max() < 0.02 * np.abs(before)[..., 4:].max()


def test_of_a_looked_up_table_only_the_rows_are_computed_back() -> None:
    table = seeded((400, 8))
    graph = graph_of(lambda ids: tf.gather(weights(table), ids), (None, 3), tf.int32)
    ids = np.random.default_rng(0).integers(0, 400, (5, 3)).astype(np.int32)
    for kind in KINDS:
        made, stored = stored_as(graph, kind)
        assert "w" not in made.nodes
        assert stored.bytes_after < stored.bytes_before * 0.6
        np.testing.assert_allclose(run(made, ids), table[ids], atol=BOUND[kind] * np.abs(table).max() * 1.001)


def test_a_large_table_is_stored_and_a_large_matrix_is_not() -> None:
    """Over 10 MB, TensorFlow would compute the matrix back at every run."""
    table = np.broadcast_to(np.float32(1), (3000, 1000)) * seeded((1, 1000))
    looked_up = graph_of(lambda ids: tf.gather(weights(table), ids), (None,), tf.int32)
    multiplied = graph_of(lambda x: tf.matmul(x, weights(table)), (None, 3000))
    assert stored_as(looked_up, "float16")[1].constants == 1
    made, stored = stored_as(multiplied, "float16")
    assert made.nodes == multiplied.nodes
    assert stored.left == {"w": "it has 12.0 MB: over 10 MB TensorFlow computes it back at every run"}
    assert stored.lines() == [
        "0 constants in float16: 0.00 MB -> 0.00 MB, weights changed by at most 0 of the largest",
        "  'w' stays float32: it has 12.0 MB: over 10 MB TensorFlow computes it back at every run"]


@pytest.mark.parametrize("kind", KINDS)
def test_tensorflow_computes_small_weights_back_at_load(kind: Kind) -> None:
    ran = runtime_graph(as_graph_def(whole(stored_as(dense(), kind)[0])), "y", {"x": seeded((1, 64))})
    assert not {"Cast", "Mul"} & set(ops(ran))


@pytest.mark.parametrize(("value", "reason"), [
    (np.full((64, 32), 1e6, np.float32) * seeded((64, 32)), "its values are too large or too small for float16"),
    (seeded((64, 32)) * np.float32(1e-7), "its values are too large or too small for float16"),
    (np.where(seeded((64, 32)) > 3, np.nan, 1).astype(np.float32), "it holds NaN or infinity"),
    (seeded((64, 32)).astype(np.float64), "it is double, not float")])
def test_refuses_values_that_it_cannot_hold(value: Array, reason: str) -> None:
    graph = graph_of(lambda x: tf.matmul(tf.cast(x, value.dtype), weights(value)))
    made, stored = stored_as(graph, "float16")
    assert (made.nodes, stored.left) == (graph.nodes, {"w": reason})
    assert stored.to_json()["left"] == {"w": reason}


def test_refuses_a_constant_that_is_an_output_or_small_already() -> None:
    graph = dense()
    kept = Graph(graph.nodes, ("x",), ("y", "w"))
    assert stored_as(kept, "int8")[1].left == {"w": "it is itself a requested input or output"}
    repeated = make_const("w", np.ones((64, 32), np.float32)).with_attrs(value=tf.make_tensor_proto(
        1.0, tf.float32, (64, 32)))
    made, stored = stored_as(graph.with_nodes([*(item for item in graph.nodes.values() if item.name != "w"), repeated]),
                             "int8")
    assert stored.left == {"w": "it takes less than 1 byte per value already"}
    assert made.nodes["w"].get("dtype") == FLOAT


def test_small_constants_stay() -> None:
    small = graph_of(lambda x: tf.matmul(x, weights(seeded((64, 15)))))
    assert stored_as(small, "int8")[1].constants == 0


def test_refuses_another_kind() -> None:
    assert [kind_of(kind) for kind in KINDS] == list(KINDS)
    with pytest.raises(UserError, match="weights are stored as float16 or int8, not as 'int4'"):
        kind_of("int4")


def test_in_a_loop_the_parts_stay_in_its_frame() -> None:
    with v1_control_flow():
        def nodes() -> None:
            x = v1.placeholder(tf.float32, (None, 32), "x")
            tf.identity(tf.while_loop(lambda turn, value: turn < 3, lambda turn, value: (
                turn + 1, tf.tanh(tf.matmul(value, tf.constant(seeded((32, 32)))))), [0, x])[1], "y")
        graph = Graph.from_graph_def(build(nodes), ["x"], ["y"])
    made, stored = stored_as(graph, "int8")
    assert stored.constants == 1
    np.testing.assert_allclose(run(made, seeded((2, 32))), run(graph, seeded((2, 32))), atol=0.3)


@given(drawn_graphs())
@settings(max_examples=10, deadline=None)
def test_drawn_graphs_move_little(drawn: Drawn) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "MINIMUM_SIZE", 1)
        _moves_little(drawn)


def _moves_little(drawn: Drawn) -> None:
    graph = Graph.from_graph_def(drawn.graph_def, ["x"], drawn.outputs)
    made, _ = stored_as(graph, "float16")
    before, after = (session_run(as_graph_def(whole(one)), drawn.outputs, drawn.feeds()) for one in (graph, made))
    for name in drawn.outputs:
        assert np.abs(after[name] - before[name]).max() <= 0.02 * np.abs(before[name]).max()
