"""What fork_lstm made of a graph becomes the graph again; a block that is something else stays."""
import numpy as np
import pytest
from graph_session import build, ops, seeded, session_run, tf, transformed
from hypothesis import given, settings
from hypothesis import strategies as st
from lstm_graphs import INPUTS, ORDERS, UNITS, layer, lstm, two_lstms

OUTPUTS = ("y", "hidden", "cell")


@settings(max_examples=12, derandomize=True, deadline=None)
@given(options=st.fixed_dictionaries({
    "every": st.booleans(), "order": st.sampled_from(ORDERS), "joined": st.booleans(),
    "bias": st.sampled_from(("BiasAdd", "AddV2", "")), "steps": st.sampled_from((None, 5))}))
def test_the_graph_is_as_before(options):
    graph_def = lstm(**options)
    forked, there = transformed(graph_def, ["x"], OUTPUTS, "fork_lstm")
    joined, back = transformed(forked, ["x"], OUTPUTS, "join_lstm strip_unused_nodes")
    assert (there.steps[0].applied, back.steps[0].applied) == (1, 1)
    assert ops(joined) == ops(graph_def)
    answers = [session_run(one, OUTPUTS, {"x": seeded((2, 5, INPUTS))}) for one in (graph_def, joined)]
    assert all(np.array_equal(answers[0][name], answers[1][name]) for name in OUTPUTS)


def test_lstms_that_read_one_another():
    graph_def = two_lstms()
    forked, _ = transformed(graph_def, ["x"], ["second/y"], "fork_lstm")
    joined, back = transformed(forked, ["x"], ["second/y"], "join_lstm strip_unused_nodes")
    assert back.steps[0].applied == 2
    assert ops(joined) == ops(graph_def)


def test_in_whatever_order_the_nodes_are():
    forked, _ = transformed(two_lstms(), ["x"], ["second/y"], "fork_lstm")
    nodes = list(forked.node)[::-1]
    del forked.node[:]
    forked.node.extend(nodes)
    _, back = transformed(forked, ["x"], ["second/y"], "join_lstm")
    assert back.steps[0].applied == 2


def test_lstms_that_share_what_chooses():
    def make():
        x = tf.compat.v1.placeholder(tf.float32, (None, 5, INPUTS), "x")
        tf.concat([layer(x, "one/"), layer(x, "two/", seed=5)], 1, "y")
    graph_def, _ = transformed(build(make), ["x"], ["y"], "strip_unused_nodes remove_nodes(op=Identity)")
    forked, _ = transformed(graph_def, ["x"], ["y"], "merge_duplicate_nodes fork_lstm merge_duplicate_nodes")
    assert ops(forked)["LessEqual"] == 1
    joined, back = transformed(forked, ["x"], ["y"], "join_lstm strip_unused_nodes")
    assert back.steps[0].applied == 2
    assert not {"Switch", "Merge", "BlockLSTMV2"} & ops(joined).keys()


def _node(graph_def, ending):
    return next(node for node in graph_def.node if node.name.endswith(ending))


def _other_weights(graph_def):
    zeros = np.zeros((INPUTS + UNITS, 4 * UNITS), np.float32)
    _node(graph_def, "block/weights").attr["value"].tensor.CopyFrom(tf.make_tensor_proto(zeros))


def _other_bias(graph_def):
    _node(graph_def, "block/bias").attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.ones(4 * UNITS, np.float32)))


def _other_state(graph_def):
    block = next(node for node in graph_def.node if node.op == "BlockLSTMV2")
    state = graph_def.node.add(name="state", op="Placeholder")
    state.attr["dtype"].type = tf.float32.as_datatype_enum
    block.input[2] = "state"


def _peephole(graph_def):
    next(node for node in graph_def.node if node.op == "BlockLSTMV2").attr["use_peephole"].b = True


def _clipped(graph_def):
    next(node for node in graph_def.node if node.op == "BlockLSTMV2").attr["cell_clip"].f = 3.0


def _fewer_steps(graph_def):
    _node(graph_def, "block/steps").attr["value"].tensor.CopyFrom(tf.make_tensor_proto(3, tf.int64))


def _another_output(graph_def):
    cell = _node(graph_def, "cell/StridedSlice")
    cell.input[0] = cell.input[0].replace(":1", ":6")


def _the_first_step(graph_def):
    _node(graph_def, "cell/from").attr["value"].tensor.CopyFrom(tf.make_tensor_proto([0]))


def _the_side_is_read(graph_def):
    reader = graph_def.node.add(name="side", op="Identity", input=[f"{_node(graph_def, 'either/Merge').name}:1"])
    reader.attr["T"].type = tf.int32.as_datatype_enum


@pytest.mark.parametrize("change", [_other_weights, _other_bias, _other_state, _peephole, _clipped, _fewer_steps,
                                    _another_output, _the_first_step, _the_side_is_read])
def test_a_block_that_is_another_stays(change):
    forked, _ = transformed(lstm(), ["x"], OUTPUTS, "fork_lstm")
    change(forked)
    joined, back = transformed(forked, ["x"], OUTPUTS, "join_lstm")
    assert back.steps[0].applied == 0
    assert ops(joined) == ops(forked)


@pytest.mark.parametrize("ending", ["BlockLSTMV2", "StridedSlice", "Switch", "either/Merge", "loop/TensorListStack"])
def test_a_requested_node_of_either_stays(ending):
    forked, _ = transformed(lstm(every=True), ["x"], OUTPUTS, "fork_lstm")
    inner = _node(forked, ending).name if ending != "BlockLSTMV2" else next(
        node.name for node in forked.node if node.op == ending)
    if ending == "StridedSlice":
        inner = _node(forked, "last/StridedSlice").name
    _, back = transformed(forked, ["x"], [*OUTPUTS, inner], "join_lstm")
    assert back.steps[0].applied == 0


def test_a_block_without_a_loop_stays():
    def make():
        x = tf.compat.v1.placeholder(tf.float32, (5, None, INPUTS), "x")
        zeros, none = tf.zeros((tf.shape(x)[1], UNITS)), tf.zeros(UNITS)
        block = tf.raw_ops.BlockLSTMV2(
            seq_len_max=5, x=x, cs_prev=zeros, h_prev=zeros, w=tf.ones((INPUTS + UNITS, 4 * UNITS)), wci=none,
            wcf=none, wco=none, b=tf.zeros(4 * UNITS), cell_clip=0.0)
        tf.identity(block.h, "y")
    joined, back = transformed(build(make), ["x"], ["y"], "join_lstm")
    assert back.steps[0].applied == 0
    assert ops(joined)["BlockLSTMV2"] == 1
