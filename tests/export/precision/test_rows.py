"""Which operations treat examples separately. Each claim is checked by running the graph on examples one by one."""
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from graph_session import build, seeded, session_run
from graph_strategies import Drawn, drawn_graphs
from hypothesis import given, settings

from export.graph import Graph
from export.precision.rows import State, follow
from export.runtime import tf
from export.tensors import Array

IMAGE = (None, 4, 4, 3)
raw = tf.raw_ops


def graph_of(make: Callable[[Any], Any], shape: tuple[int | None, ...] | None = IMAGE) -> Any:
    def nodes() -> None:
        tf.identity(make(tf.compat.v1.placeholder(tf.float32, shape, "x")), "y")
    return build(nodes)


def state(graph_def: Any, ref: str = "y") -> State:
    return follow(Graph.from_graph_def(graph_def, ["x"], [ref]))[ref]


def size(x: Any) -> Any:
    return tf.shape(x)[0]


SEPARATE: dict[str, Callable[[Any], Any]] = {
    "pointwise": lambda x: tf.nn.relu(tf.exp(-x) + 2.0) * tf.constant(seeded((3,))),
    "one row for all": lambda x: x + tf.constant(seeded((1, 4, 4, 3))),
    "convolution": lambda x: tf.nn.bias_add(tf.nn.conv2d(x, seeded((3, 3, 3, 2)), 1, "SAME"), seeded((2,))),
    "depthwise": lambda x: tf.nn.depthwise_conv2d(x, seeded((3, 3, 3, 1)), [1] * 4, "SAME"),
    "pooling": lambda x: tf.nn.max_pool2d(tf.nn.avg_pool2d(x, 2, 1, "SAME"), 2, 2, "VALID"),
    "norm": lambda x: tf.compat.v1.nn.fused_batch_norm(x, *(np.abs(seeded((3,), n)) + 1 for n in range(4)),
                                                       is_training=False)[0],
    "flat": lambda x: tf.matmul(tf.reshape(x, [-1, 48]), seeded((48, 5))),
    "flat by count": lambda x: tf.reshape(x, tf.stack([size(x), -1])),
    "flat by shape": lambda x: tf.reshape(x, tf.concat([tf.shape(x)[:1], [48]], 0)),
    "blocks": lambda x: tf.reshape(tf.matmul(tf.reshape(x, [-1, 3]), seeded((3, 2))), [-1, 4, 4, 2]),
    "blocks by count": lambda x: tf.reshape(tf.reshape(x, [-1, 3]) * 2.0, tf.stack([size(x), 16, 3])),
    "mean": lambda x: tf.reduce_mean(x, [1, -2]),
    "softmax": lambda x: tf.nn.softmax(tf.reduce_sum(x, [1, 2])),
    "concat": lambda x: tf.concat([x, x * 2.0], -1),
    "pack": lambda x: tf.stack([x, x + 1.0], 1),
    "split": lambda x: tf.split(x, 3, -1)[1],
    "unpack": lambda x: tf.unstack(x, axis=2, num=4)[3],
    "pad": lambda x: tf.pad(x, [[0, 0], [1, 2], [0, 0], [0, 0]]),
    "transpose": lambda x: tf.transpose(x, [0, 3, 1, 2]),
    "squeeze": lambda x: tf.squeeze(tf.expand_dims(x, 2), [2]),
    "slice": lambda x: tf.slice(x[:, 1:, ..., 0], [0, 0, 1], [-1, 2, 2]),
    "ellipsis": lambda x: x[..., :2],
    "tile": lambda x: tf.tile(x, [1, 2, 1, 1]),
    "attention": lambda x: tf.matmul(tf.nn.softmax(tf.matmul(x, x, transpose_b=True)), x),
    "weights on the right": lambda x: tf.matmul(x, tf.constant(seeded((3, 5)))),
    "einsum": lambda x: tf.einsum("bhwc,cd->bdhw", x, seeded((3, 2))),
    "einsum of two": lambda x: tf.einsum("bhwc,bhwd->bcd", x, x),
    "embedding": lambda x: tf.gather(seeded((9, 5)), tf.cast(tf.abs(x), tf.int32)),
    "columns": lambda x: tf.gather(x, [2, 0], axis=-1),
    "one hot": lambda x: tf.one_hot(tf.argmax(x, -1), 3),
    "zeros": lambda x: tf.concat([x, tf.fill(tf.stack([size(x), 4, 4, 1]), 3.0)], 3),
    "resize": lambda x: raw.ResizeBilinear(images=x, size=[8, 8]),
    "choice": lambda x: tf.where(x > 0.0, x, x * 0.1),
    "quantized": lambda x: raw.Dequantize(**dict(zip(("input", "min_range", "max_range"), raw.QuantizeV2(
        input=x, min_range=-3.0, max_range=3.0, T=tf.qint8, mode="SCALED"), strict=True)), mode="SCALED"),
}

MIXED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "mean": (lambda x: tf.reduce_mean(x, 0), "Mean"),
    "all axes": (lambda x: x - tf.reduce_max(x, [0, 1, 2, 3]), "Max"),
    "a value for each row": (lambda x: x + tf.constant(seeded((2, 1, 1, 1))), "AddV2"),
    "matrix of rows": (lambda x: tf.matmul(x[:, 0, 0], x[:, 1, 1], transpose_b=True), "MatMul"),
    "transposed": (lambda x: tf.matmul(tf.reshape(x, [-1, 48]), seeded((2, 3)), transpose_a=True), "MatMul"),
    "norm of the batch": (lambda x: tf.compat.v1.nn.fused_batch_norm(x, np.ones(3, "f"), np.ones(3, "f"))[0],
                          "FusedBatchNormV3"),
    "axis 0": (lambda x: tf.concat([x, x], 0), "ConcatV2"),
    "stack": (lambda x: tf.stack([x, x]), "Pack"),
    "order": (lambda x: tf.reverse(x, [0]), "ReverseV2"),
    "sums so far": (lambda x: tf.cumsum(x, 0), "Cumsum"),
    "transpose": (lambda x: tf.transpose(x, [1, 0, 2, 3]), "Transpose"),
    "first": (lambda x: x[:1], "StridedSlice"),
    "backwards": (lambda x: x[::-1], "StridedSlice"),
    "pad": (lambda x: tf.pad(x, [[1, 0], [0, 0], [0, 0], [0, 0]]), "Pad"),
    "tile": (lambda x: tf.tile(x, [2, 1, 1, 1]), "Tile"),
    "broadcast between ranks": (lambda x: x[:, 0, 0, :] + x[:, 1, 1, 1], "AddV2"),
    "softmax over examples": (lambda x: tf.nn.softmax(x[:, 0, 0, 0]), "Softmax"),
    "gather": (lambda x: tf.gather(x, [0, 0]), "GatherV2"),
    "a size counted from the end": (lambda x: x * tf.cast(tf.shape(x)[-4], tf.float32), "StridedSlice"),
    "the count": (lambda x: x * tf.cast(size(x), tf.float32), "Mul"),
    "flat to one": (lambda x: tf.reshape(x, [3, -1]), "Reshape"),
    "rows that cross examples": (lambda x: tf.reshape(x, [-1, 32]), "Reshape"),
    "batch to space": (lambda x: tf.batch_to_space(tf.tile(x, [4, 1, 1, 1]), [2, 2], [[0, 0], [0, 0]]), "Tile"),
    "random": (lambda x: x + tf.random.uniform([4, 4, 3]), "RandomUniform"),
    "einsum over examples": (lambda x: tf.einsum("bhwc,bd->dhwc", x, tf.reduce_sum(x, [1, 2])), "Einsum"),
    "where": (lambda x: tf.where(x > 0.0), "Where"),
}


def each_alone(graph_def: Any, x: Array) -> tuple[Array, Array]:
    whole = session_run(graph_def, ["y"], {"x": x})["y"]
    return whole, np.concatenate([session_run(graph_def, ["y"], {"x": x[at:at + 1]})["y"] for at in range(len(x))])


@pytest.mark.parametrize("kind", SEPARATE)
def test_examples_are_separate(kind: str) -> None:
    graph_def = graph_of(SEPARATE[kind])
    assert (state(graph_def).kind, state(graph_def).block) == ("rows", 1)
    np.testing.assert_allclose(*each_alone(graph_def, seeded((2, 4, 4, 3))), atol=1e-5)


@pytest.mark.parametrize("kind", MIXED)
def test_examples_may_mix(kind: str) -> None:
    make, op = MIXED[kind]
    found = state(graph_of(make))
    assert found.kind == "other"
    assert f"({op}) is not known to compute each example by itself" in found.reason


def test_rows_of_several_blocks_are_told() -> None:
    assert state(graph_of(lambda x: tf.reshape(x, [-1, 3]))).block == 16


def test_what_does_not_depend_on_the_examples_is_whole() -> None:
    assert state(graph_of(lambda x: tf.shape(x)[1:] * 2)).kind == "whole"
    assert state(graph_of(lambda x: tf.constant(1.0) + 2.0)).kind == "whole"
    assert state(graph_of(lambda x: x + 1.0, (2, 3))).kind == "whole"
    assert state(graph_of(size)).kind == "count"


def test_an_unknown_rank_is_named() -> None:
    assert state(graph_of(lambda x: x + 1.0, None)).reason == "the rank of the input 'x' is not known"


@given(drawn_graphs())
@settings(max_examples=15, deadline=None)
def test_drawn_graphs_are_followed_to_their_end(drawn: Drawn) -> None:
    found = follow(Graph.from_graph_def(drawn.graph_def, ["x"], drawn.outputs))
    assert [found[ref].kind for ref in drawn.outputs] == ["rows"] * len(drawn.outputs)
