import numpy as np
import pytest
from differential import against_tool
from graph_session import build, compared, ops, reasons, seeded, session_run, tf, transformed
from graph_strategies import Drawn, drawn_graphs
from hypothesis import given, settings

from export.graph import Graph
from export.pipeline import run

v1 = tf.compat.v1


@settings(max_examples=12)
@given(drawn_graphs())
def test_gives_what_the_tool_gives(drawn: Drawn):
    _, _, comparison = against_tool(drawn, "fold_constants(ignore_errors=true)")
    assert comparison.equal, comparison.summary()


def chain():
    x = v1.placeholder(tf.float32, [2], "x")
    c = tf.constant([3.0, 4.0], name="c")
    tf.add(x, tf.sqrt(tf.identity(c, "read") * 2.0, name="root"), name="y")


def test_a_chain_of_constants_becomes_one():
    before = build(chain)
    after, _ = transformed(before, ["x"], ["y"], "fold_constants")
    assert ops(after) == {"Placeholder": 1, "Const": 1, "AddV2": 1}
    assert compared(before, after, ["y"], {"x": [1.0, 2.0]}).equal


def test_a_requested_constant_keeps_its_name():
    before = build(chain)
    after, _ = transformed(before, ["x"], ["y", "root"], "fold_constants")
    assert {item.name: item.op for item in after.node}["root"] == "Const"
    assert compared(before, after, ["y", "root"], {"x": [1.0, 2.0]}).equal


def test_an_identity_shares_the_bytes_of_its_constant():
    def make():
        tf.add(v1.placeholder(tf.float32, [2], "x"), tf.identity(tf.constant([3.0, 4.0], name="c"), "read"), name="y")
    graph = Graph.from_graph_def(build(make), ["x"], ["y"])
    after, _ = run(graph, "fold_constants")
    assert after.nodes["read"].op == "Const"
    assert after.nodes["read"].attrs["value"] is graph.nodes["c"].attrs["value"]


def test_excluded_ops_and_nodes_stay():
    before = build(chain)
    by_op, _ = transformed(before, ["x"], ["y"], "fold_constants(exclude_op=Sqrt)")
    assert ops(by_op) == {"Placeholder": 1, "Const": 1, "Sqrt": 1, "AddV2": 1}
    by_name, _ = transformed(before, ["x"], ["y"], "fold_constants(exclude_node=root, exclude_node=read)")
    assert ops(by_name)["Sqrt"] == ops(by_name)["Identity"] == 1


def test_a_large_result_stays_computed():
    def make():
        x = v1.placeholder(tf.float32, [], "x")
        tf.add(x, tf.reduce_sum(tf.fill([1000], 2.0)), name="y")
        tf.add(x, tf.fill([1000], 2.0, name="filled"), name="z")
    before = build(make)
    after, report = transformed(before, ["x"], ["y", "z"], "fold_constants(max_constant_size_in_bytes=100)")
    assert ops(after)["Fill"] == 1
    assert "Sum" not in ops(after)
    assert report.steps[0].skipped == [("filled", "its value is larger than 100 bytes")]
    assert compared(before, after, ["y", "z"], {"x": 1.0}).equal


@pytest.mark.parametrize("listed", [True, False])
def test_a_placeholder_with_default_is_never_folded(listed):
    def make():
        scale = v1.placeholder_with_default(np.float32(2), [], "scale")
        tf.multiply(v1.placeholder(tf.float32, [2], "x"), tf.sqrt(scale), name="y")
    before = build(make)
    inputs = ["x", "scale"] if listed else ["x"]
    after, _ = transformed(before, inputs, ["y"], "default")
    assert {item.name: item.op for item in after.node}["scale"] == "PlaceholderWithDefault"
    for feeds in ({"x": [1.0, 2.0]}, {"x": [1.0, 2.0], "scale": 9.0}):
        assert compared(before, after, ["y"], feeds).equal


def test_a_listed_input_is_never_folded():
    before = build(chain)
    after, _ = transformed(before, ["x", "read"], ["y"], "fold_constants")
    assert compared(before, after, ["y"], {"x": [1.0, 2.0], "read": [16.0, 25.0]}).equal


def test_random_and_stateful_ops_stay():
    def make():
        x = v1.placeholder(tf.float32, [3], "x")
        tf.add(x, tf.random.normal([3]) + v1.random_uniform([3]), name="y")
        tf.add(x, tf.cast(tf.timestamp(), tf.float32), name="z")
    before = build(make)
    after, _ = transformed(before, ["x"], ["y", "z"], "default")
    for op in ("RandomStandardNormal", "RandomUniform", "Timestamp"):
        assert ops(after)[op] == 1


def test_a_node_whose_kernel_fails_is_not_folded():
    def make():
        x = v1.placeholder(tf.int32, [], "x")
        tf.math.floordiv(tf.constant(1), tf.constant(0), name="bad")
        tf.add(x, tf.constant(1) + tf.constant(2), name="y")
    before = build(make)
    after, report = transformed(before, ["x"], ["y", "bad"], "fold_constants")
    assert "its kernel fails" in reasons(report)[0]
    assert session_run(after, ["y"], {"x": 4})["y"] == 7


@pytest.mark.parametrize("dtype", [
    tf.float16, tf.bfloat16, tf.float64, tf.int8, tf.uint64, tf.complex64, tf.bool, tf.string])
def test_every_type_folds(dtype):
    values = {tf.bool: [True, False], tf.string: [b"a", b"\xff"]}.get(dtype, [1, 2])

    def make():
        x = v1.placeholder(dtype, [2], "x")
        tf.stack([x, tf.reverse(tf.constant(values, dtype), [0])], name="y")
    before = build(make)
    after, _ = transformed(before, ["x"], ["y"], "fold_constants")
    assert "ReverseV2" not in ops(after)
    feeds = {"x": np.array(values, dtype.as_numpy_dtype)}
    assert session_run(before, ["y"], feeds)["y"].tolist() == session_run(after, ["y"], feeds)["y"].tolist()


def test_zero_sized_constants():
    def make():
        x = v1.placeholder(tf.float32, [0, 3], "x")
        tf.concat([x, tf.sqrt(tf.zeros([0, 3]))], 0, name="y")
    before = build(make)
    after, _ = transformed(before, ["x"], ["y"], "fold_constants")
    assert "Sqrt" not in ops(after)
    assert session_run(after, ["y"], {"x": seeded([0, 3])})["y"].shape == (0, 3)


def test_several_outputs_become_several_constants():
    def make():
        a, b = tf.split(tf.constant([1.0, 2.0, 3.0, 4.0]), 2)
        tf.add(v1.placeholder(tf.float32, [2], "x") * b, a, name="y")
    before = build(make)
    after, _ = transformed(before, ["x"], ["y"], "fold_constants")
    assert "Split" not in ops(after)
    assert compared(before, after, ["y"], {"x": [1.0, 2.0]}).equal


def test_control_inputs_move_to_the_constant():
    def make():
        x = v1.placeholder(tf.float32, [], "x")
        with tf.control_dependencies([tf.raw_ops.Assert(condition=x > 0, data=[x])]):
            root = tf.sqrt(tf.constant(4.0, name="four"))
        tf.add(tf.constant(1.0), root, name="y")
    before = build(make)
    after, _ = transformed(before, ["x"], ["y"], "fold_constants")
    assert session_run(after, ["y"], {"x": 1.0})["y"] == 3
    with pytest.raises(tf.errors.InvalidArgumentError):
        session_run(after, ["y"], {"x": -1.0})


def test_constants_stay_in_their_loop(v1_loop):
    after, _ = transformed(v1_loop, ["x"], ["y"], "default")
    assert compared(v1_loop, after, ["y"], {"x": [1.0, 3.0]}).equal


def test_output_shapes_are_dropped_unless_kept():
    before = build(chain)
    before.node[0].attr["_output_shapes"].list.shape.add().dim.add(size=7)
    assert "_output_shapes" not in transformed(before, ["x"], ["y"], "fold_constants")[0].node[0].attr
    kept, _ = transformed(before, ["x"], ["y"], "fold_constants(clear_output_shapes=false)")
    assert "_output_shapes" in kept.node[0].attr


@pytest.mark.parametrize("dtype", [
    tf.bfloat16, tf.float16, tf.dtypes.experimental.float8_e4m3fn, tf.qint8, tf.bool, tf.complex64])
def test_values_of_every_type_are_computed(dtype):
    def make():
        value = tf.constant([0, 1, 2, 3], tf.float32)
        value = tf.quantization.quantize(value, 0.0, 3.0, tf.qint8)[0] if dtype == tf.qint8 else tf.cast(value, dtype)
        tf.identity(tf.reshape(value, [2, 2]), "y")
    before = build(make)
    after, report = transformed(before, [], ["y"], "fold_constants")
    assert ops(after) == {"Const": 1}, reasons(report)
    was, now = (session_run(graph, ["y"], {})["y"] for graph in (before, after))
    assert was.dtype == now.dtype
    assert was.tolist() == now.tolist()
