import numpy as np
import pytest
from graph_session import build, compared, ops, reasons, seeded, session_run, tf, transformed
from hypothesis import given, settings
from hypothesis import strategies as st
from transform_oracle import ORACLE

from export.transform import TransformError

R = tf.raw_ops
NAME = "sparsify_gather"


def sparse(rows=50, seed=0, share=0.7, dtype=np.float32):
    weights = seeded((rows, 1), seed, dtype)
    weights[np.random.default_rng(seed).random(rows) < share] = 0
    return weights


def _graph(weights, op="Gather", ids=tf.int64, identity=True, axis=0, keep="", **attrs):
    def make():
        indices = tf.compat.v1.placeholder(ids, None, "ids")
        made = tf.constant(weights, name="W")
        if identity:
            made = tf.identity(made, "W/read")
        if keep:
            tf.nn.relu(made, keep)
        if op == "Gather":
            R.Gather(params=made, indices=indices, name="y")
        else:
            R.GatherV2(params=made, indices=indices, axis=axis, name="y", **attrs)
    return build(make)


@settings(max_examples=15)
@given(st.integers(0, 2**16), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from(["Gather", "GatherV2"]),
       st.lists(st.integers(0, 49), max_size=6))
def test_as_the_tool_looks_up(seed: int, share: float, op: str, ids: list[int]):
    graph_def = _graph(sparse(50, seed, share), op)
    after, report = transformed(graph_def, ["ids"], ["y"], NAME)
    tool = ORACLE.transform(graph_def, ["ids"], ["y"], NAME)
    assert report.steps[0].applied == 1
    feeds = {"ids": np.array(ids, np.int64)}
    original, ours = session_run(graph_def, ["y"], feeds)["y"], session_run(after, ["y"], feeds)["y"]
    np.testing.assert_array_equal(ours, original)
    theirs = session_run(tool, ["y"], feeds, before=["group_deps"])["y"]
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    promised = {"W/HashTable", "W/InitializeTable", "W/indices", "W/values", "y", "y/LookupTableFind", "group_deps"}
    assert promised <= {node.name for node in after.node} & {node.name for node in tool.node}


def test_with_and_without_its_initialiser():
    graph_def = _graph(sparse())
    after, _ = transformed(graph_def, ["ids"], ["y"], NAME)
    feeds = {"ids": np.arange(50).reshape(5, 10)}
    expected = session_run(graph_def, ["y"], feeds)["y"]
    np.testing.assert_array_equal(session_run(after, ["y"], feeds, before=["group_deps"])["y"], expected)
    np.testing.assert_array_equal(session_run(after, ["y"], feeds)["y"], expected)


def test_the_graphs_initialiser_keeps_its_inputs():
    graph_def = _graph(sparse())
    graph_def.node.add(name="init", op="NoOp", input=["^ids"])
    after, _ = transformed(graph_def, ["ids"], ["y", "init"], f"{NAME}(group_init_node=init)")
    assert list(next(node for node in after.node if node.name == "init").input) == ["^ids", "^W/InitializeTable"]


def test_an_initialiser_that_is_not_a_noop_is_an_error():
    with pytest.raises(TransformError, match="'ids' is Placeholder, not NoOp"):
        transformed(_graph(sparse()), ["ids"], ["y"], f"{NAME}(group_init_node=ids)")


def test_small_weights_stay():
    """The tool takes those below 1e-5 for zero."""
    weights = np.array([[1e-6], [0], [-3e-7], [1]], np.float32)
    after, _ = transformed(_graph(weights), ["ids"], ["y"], NAME)
    np.testing.assert_array_equal(session_run(after, ["y"], {"ids": [0, 1, 2, 3]})["y"], weights)


@pytest.mark.parametrize("ids", [tf.int32, tf.int64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("identity", [True, False])
def test_types_with_or_without_identity(ids, dtype, identity):
    graph_def = _graph(sparse(dtype=dtype), "GatherV2", ids, identity)
    after, report = transformed(graph_def, ["ids"], ["y"], NAME)
    assert report.steps[0].applied == 1
    assert compared(graph_def, after, ["y"], {"ids": [[3, 4], [5, 49]]}).equal


def test_weights_that_other_nodes_read():
    """The tool removes such weights."""
    def make():
        ids = tf.compat.v1.placeholder(tf.int32, (None,), "ids")
        weights = tf.identity(tf.constant(sparse()), "read")
        tf.add(tf.gather(weights, ids), tf.gather(weights, ids + 1), name="y")
        tf.reduce_sum(weights, name="z")
    graph_def = build(make)
    after, report = transformed(graph_def, ["ids"], ["y", "z"], NAME)
    assert report.steps[0].applied == 2
    assert compared(graph_def, after, ["y", "z"], {"ids": [3, 4, 40]}).equal


def test_control_inputs_stay():
    graph_def = _graph(sparse())
    graph_def.node.add(name="early", op="NoOp")
    for node in graph_def.node:
        if node.name in ("y", "W/read"):
            node.input.append("^early")
    after = {node.name: node for node in transformed(graph_def, ["ids"], ["y"], NAME)[0].node}
    assert "^early" in after["y"].input
    assert "^early" in after["y/LookupTableFind"].input


@pytest.mark.parametrize(("reason", "graph"), [
    ("it gathers over another axis than the first, or in batches", {"op": "GatherV2", "axis": 1}),
    ("there are no tables of half", {"weights": sparse(dtype=np.float16)}),
    ("there are no tables of int32", {"weights": np.ones((4, 1), np.int32)}),
    ("its weights are not one column", {"weights": seeded((50, 2))}),
    ("its weights are not one column", {"weights": seeded((50,))}),
    ("its weights hold NaN or infinity", {"weights": np.array([[np.nan], [0]], np.float32)}),
])
def test_refuses(reason, graph):
    graph_def = _graph(**{"weights": sparse()} | graph)
    after, report = transformed(graph_def, ["ids"], ["y"], NAME)
    assert reasons(report) == [reason]
    assert after == graph_def


def test_refuses_weights_in_a_loop():
    graph_def = _graph(sparse())
    next(node for node in graph_def.node if node.name == "W").input.append("^ids")
    after, report = transformed(graph_def, ["ids"], ["y"], NAME)
    assert reasons(report) == ["its weights wait for another node, perhaps in a loop"]
    assert after == graph_def


@pytest.mark.parametrize(("inputs", "reason"), [
    (["ids", "W"], "it does not gather from a constant"), (["ids", "W/read"], "it does not gather from a constant"),
    (["ids", "y"], "it is fed from outside")])
def test_refuses_what_is_fed(inputs, reason):
    graph_def = _graph(sparse())
    after, report = transformed(graph_def, inputs, ["y"], NAME)
    assert reasons(report) == [reason]
    assert after == graph_def


def test_batches_are_refused():
    def make():
        ids = tf.compat.v1.placeholder(tf.int32, (2, 1), "ids")
        R.GatherV2(params=tf.constant([[1.0], [2.0]]), indices=ids, axis=1, batch_dims=1, name="y")
    graph_def = build(make)
    after, report = transformed(graph_def, ["ids"], ["y"], NAME)
    assert reasons(report) == ["it gathers over another axis than the first, or in batches"]
    assert after == graph_def


def test_the_table_is_smaller():
    after, _ = transformed(_graph(sparse(20000, share=0.9)), ["ids"], ["y"], NAME)
    assert after.ByteSize() < 0.4 * 4 * 20000
    assert "Gather" not in ops(after)


def _variable_graph(folder, name="W"):
    """A gather from a variable, and the prefix of a checkpoint with the value of W."""
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session() as session:
        made = v1.get_variable(name, initializer=sparse(), use_resource=False)
        R.Gather(params=tf.identity(made, "read"), indices=v1.placeholder(tf.int64, [None], "ids"), name="y")
        session.run(v1.global_variables_initializer())
        prefix = v1.train.Saver({"W": made}).save(session, str(folder / "model.ckpt"))
    return graph.as_graph_def(), prefix


def _sparsified(graph_def, arguments=""):
    return transformed(graph_def, ["ids"], ["y"], f"{NAME}{arguments}")


def test_a_variable_is_read_from_the_checkpoint_given(tmp_path):
    graph_def, prefix = _variable_graph(tmp_path)
    assert reasons(_sparsified(graph_def)[1]) == ["it does not gather from a constant"]
    made, _ = _sparsified(graph_def, f'(input_checkpoint="{prefix}")')
    nodes = {node.name: node for node in made.node}
    assert nodes["y"].op == "ExpandDims"
    weights = sparse()
    values = tf.make_ndarray(nodes["W/values"].attr["value"].tensor)
    np.testing.assert_array_equal(values, weights[np.flatnonzero(weights), 0])


def test_an_invalid_checkpoint_is_an_error_and_a_missing_variable_is_a_skip(tmp_path):
    graph_def, prefix = _variable_graph(tmp_path, "V")
    with pytest.raises(TransformError, match=r"input_checkpoint .*none cannot be read"):
        _sparsified(graph_def, f'(input_checkpoint="{tmp_path}/none")')
    _, report = _sparsified(graph_def, f'(input_checkpoint="{prefix}")')
    assert reasons(report) == [f"{prefix} holds no variable 'V'"]
