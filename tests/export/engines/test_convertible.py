"""Which signatures can be converted: every refusal, and what 64-bit integers may do."""
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import tensorflow as tf
from graph_session import build

from export.engines.convertible import Ends, convertible, index_limits, only, wide_integers
from export.graph import Graph
from export.signatures import signature

v1 = tf.compat.v1
FLOAT, LONG = tf.float32, tf.int64


def made(nodes: Callable[[], None], inputs: Mapping[str, str], outputs: Mapping[str, str]) -> tuple[Any, Graph]:
    graph = Graph.from_graph_def(build(nodes), inputs.values(), outputs.values())
    return signature(graph, inputs, outputs), graph


def reason(nodes: Callable[[], None], inputs: Mapping[str, str], outputs: Mapping[str, str]) -> str:
    one, graph = made(nodes, inputs, outputs)
    return convertible({"key": one}, graph).left.get("key", "")


def doubled() -> None:
    x = v1.placeholder(FLOAT, [None, 3], "x")
    v1.placeholder(FLOAT, [None], "idle")
    v1.placeholder(tf.string, [None], "words")
    tf.multiply(x, 2.0, "y")
    tf.as_string(x, name="text")


def test_the_tensors_of_a_signature_each_once_and_in_the_order_of_the_keys() -> None:
    one, graph = made(doubled, {"a": "x"}, {"first": "y", "second": "y:0"})
    found = convertible({"serving_default": one}, graph)
    assert found.ends == {"serving_default": Ends(("x:0",), ("y:0",))}
    assert not found.left
    assert sorted(only(graph, found.ends["serving_default"]).nodes) == ["x", "y", "y/y"]


@pytest.mark.parametrize(("inputs", "outputs", "words"), [
    ({"a": "words"}, {"b": "y"}, "input 'a' holds strings"),
    ({"a": "x"}, {"b": "text"}, "output 'b' holds strings"),
    ({"a": "x", "idle": "idle"}, {"b": "y"}, "input 'idle' has no effect on its outputs"),
    ({"a": "x", "again": "x"}, {"b": "y"}, "two of its inputs are the same tensor"),
    ({}, {"b": "y"}, "it has no inputs"),
    ({"a": "x"}, {}, "it has no outputs"),
])
def test_what_cannot_be_converted(inputs: Mapping[str, str], outputs: Mapping[str, str], words: str) -> None:
    assert words in reason(doubled, inputs, outputs)


def stateful() -> None:
    x = v1.placeholder(FLOAT, [None, 3], "x")
    handle = tf.raw_ops.VarHandleOp(dtype=FLOAT, shape=[3], name="state")
    tf.add(x, tf.raw_ops.ReadVariableOp(resource=handle, dtype=FLOAT), "y")


def test_a_signature_that_keeps_values_is_left_out() -> None:
    words = reason(stateful, {"x": "x"}, {"y": "y"})
    assert words == "it keeps or looks up values in 'state' (VarHandleOp), and engines have no state"


def _wide(make: Callable[[Any], Any], dtype: Any = LONG) -> str:
    def nodes() -> None:
        x = v1.placeholder(dtype, [None, 3], "x")
        tf.identity(make(x), "y")
    graph = Graph.from_graph_def(build(nodes), ["x"], ["y"])
    return wide_integers(graph)


def looked_up(x: Any) -> Any:
    return tf.gather(tf.ones([9, 2]), tf.reshape(tf.expand_dims(x, 1), [-1]))


@pytest.mark.parametrize("make", [looked_up, lambda x: tf.ones(tf.shape(x, out_type=LONG) * 3)],
                         ids=["gather", "shape"])
def test_64_bit_integers_that_are_only_indices_fit_in_32_bits(make: Callable[[Any], Any]) -> None:
    assert _wide(make) == ""


def test_places_in_a_tensor_fit_in_32_bits() -> None:
    assert _wide(lambda x: tf.argmax(x, 1), FLOAT) == ""
    assert _wide(lambda x: tf.cast(x, LONG), tf.int32) == ""


@pytest.mark.parametrize(("make", "dtype", "words"), [
    (lambda x: x + 1, LONG, "computes with 64-bit integers"),
    (lambda x: tf.cast(x, FLOAT), LONG, "(Cast) computes with 64-bit integers"),
    (lambda x: tf.gather(x, [0, 1]), LONG, "(GatherV2) computes with 64-bit integers"),
    (lambda x: tf.reshape(x, [-1]), LONG, "output 'y' is a 64-bit integer of an input"),
    (lambda x: tf.cast(x, LONG), FLOAT, "(Cast) makes 64-bit integers"),
    (lambda x: tf.gather(tf.constant([1 << 40], LONG), x), tf.int32, "(GatherV2) makes 64-bit integers"),
    (lambda x: tf.cast(x, tf.int32), tf.uint64, "(Cast) computes with 64-bit integers"),
    (lambda x: tf.one_hot(x, 5), LONG, "(OneHot) computes with 64-bit integers"),
    (lambda x: looked_up(x[:, 1:]), LONG, "(StridedSlice) computes with 64-bit integers"),
    (lambda x: tf.gather(v1.placeholder(FLOAT, [None, 2]), x), LONG, "(GatherV2) computes with 64-bit integers"),
], ids=["add", "cast", "table", "output", "from_float", "wide_table", "uint64", "one_hot", "slice", "unknown_size"])
def test_64_bit_integers_that_may_be_large_are_refused(make: Callable[[Any], Any], dtype: Any, words: str) -> None:
    assert words in _wide(make, dtype)


def test_the_size_of_the_smallest_table_limits_an_index() -> None:
    def nodes() -> None:
        ids, other, free = (v1.placeholder(tf.int32, [None, 3], name) for name in ("ids", "other", "free"))
        rows = tf.gather(tf.ones([9, 2]), tf.reshape(ids, [-1]))
        columns = tf.gather(tf.ones([2, 5]), tf.concat([ids, other], 0), axis=1)
        sliced = tf.gather(tf.ones([4, 2]), other[:, 1:])
        counted = tf.cast(free, FLOAT)
        tf.add_n([tf.reduce_sum(one) for one in (rows, columns, sliced, counted)], "y")
    graph = Graph.from_graph_def(build(nodes), ["ids", "other", "free"], ["y"])
    assert index_limits(graph) == {"ids:0": 5, "other:0": 5}


def test_an_input_has_no_default_for_an_engine() -> None:
    def nodes() -> None:
        scale = v1.placeholder_with_default(tf.constant(2.0), [], "scale")
        tf.multiply(v1.placeholder(FLOAT, [None, 3], "x"), scale, "y")
    one, graph = made(nodes, {"x": "x", "scale": "scale"}, {"y": "y"})
    part = only(graph, convertible({"key": one}, graph).ends["key"])
    assert {item.name: (item.op, item.inputs) for item in part.nodes.values() if item.op == "Placeholder"} == {
        "x": ("Placeholder", ()), "scale": ("Placeholder", ())}
    assert len(part.nodes) == 3


def test_what_says_how_to_move_is_no_index() -> None:
    """The sizes that a client sends for a reshape are not looked up, though what is reshaped is."""
    def nodes() -> None:
        ids, sizes = v1.placeholder(tf.int32, [None], "ids"), v1.placeholder(tf.int32, [2], "sizes")
        tf.gather(tf.ones([9, 2]), tf.reshape(ids, sizes), name="y")
    graph = Graph.from_graph_def(build(nodes), ["ids", "sizes"], ["y"])
    assert index_limits(graph) == {"ids:0": 9}
