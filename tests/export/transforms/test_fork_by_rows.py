import numpy as np
import pytest
from dense_layers import dense, loop, two_layers
from graph_session import (
    build,
    compared,
    ops,
    reasons,
    runtime_graph,
    seeded,
    tf,
    transformed,
    v1_control_flow,
)

from export.transforms.fork_by_rows import FEWEST, MOST

v1 = tf.compat.v1
OF_LOOPS = "it is in a loop, which would choose at every turn, or in a branch (loops=true)"
SIZES = (1, FEWEST - 1, FEWEST, MOST, MOST + 1, 100)


def equal(before, after, outputs, sizes=SIZES, inputs=512):
    return all(compared(before, after, outputs, {"x": seeded((rows, inputs), rows)}).equal for rows in sizes)


@pytest.mark.parametrize("options", [
    {}, {"activation": "Tanh"}, {"activation": "LeakyRelu"}, {"activation": ""}, {"bias": "AddV2"},
    {"transpose_b": True}, {"columns": 160}])
def test_both_products_give_the_answer(options):
    graph_def = dense(**options)
    after, report = transformed(graph_def, ["x"], ["y"], "fork_by_rows")
    assert report.steps[0].applied == 1
    assert (ops(after)["MatMul"], ops(after)["Switch"], ops(after)["Merge"]) == (2, 1, 1)
    assert ops(after)["Const"] == ops(graph_def)["Const"] + 1  # the weights are there once
    assert equal(graph_def, after, ["y"])


def test_an_empty_batch():
    after, _ = transformed(dense(), ["x"], ["y"], "fork_by_rows")
    assert compared(dense(), after, ["y"], {"x": np.zeros((0, 512), np.float32)}).equal


def test_tensorflow_merges_bias_and_activation_of_both():
    after, _ = transformed(dense(), ["x"], ["y"], "fork_by_rows")
    merged = [[one.decode() for one in node.attr["fused_ops"].list.s]
              for node in runtime_graph(after, "y", {"x": seeded((9, 512))}).node if "fused_ops" in node.attr]
    assert merged == [["BiasAdd", "Relu"]] * 2


def test_layers_of_the_same_rows_share_the_choice():
    after, report = transformed(two_layers(), ["x"], ["y1"], "fork_by_rows")
    assert (report.steps[0].applied, ops(after)["Size"], ops(after)["Switch"]) == (2, 1, 2)
    assert equal(two_layers(), after, ["y1"])


def test_layers_of_other_rows_choose_for_themselves():
    def make():
        x = v1.placeholder(tf.float32, (None, 512), "x")
        one = tf.nn.bias_add(tf.matmul(x, tf.constant(seeded((512, 256)) / 16)), tf.constant(seeded((256,))))
        rows = tf.reshape(one, (-1, 128))  # two for each
        other = tf.matmul(rows, tf.constant(seeded((128, 512)) / 16))
        tf.identity(tf.nn.bias_add(other, tf.constant(seeded((512,)))), "y")
    graph_def = build(make)
    after, report = transformed(graph_def, ["x"], ["y"], "fork_by_rows")
    assert (report.steps[0].applied, ops(after)["Size"]) == (2, 2)
    assert equal(graph_def, after, ["y"], (1, 3, 4, 7, 40, 41, 80, 81))


@pytest.mark.parametrize(("reason", "graph_def"), [
    ("its type is not float32", dense(dtype=tf.float64)),
    ("x is transposed", dense(transpose_a=True)),
    ("the number of rows is always the same", dense(rows=8))])
def test_refusals(reason, graph_def):
    after, report = transformed(graph_def, ["x"], ["y"], "fork_by_rows")
    assert reasons(report) == [reason]
    assert ops(after) == ops(graph_def)


@pytest.mark.parametrize("options", [{"columns": 32}, {"columns": 130}, {"inputs": 500, "columns": 64}, {"bias": ""}])
def test_what_has_one_form_or_few_weights_is_left(options):
    _, report = transformed(dense(**options), ["x"], ["y"], "fork_by_rows")
    assert (report.steps[0].applied, report.steps[0].skipped) == (0, [])


@pytest.mark.parametrize("name", ["product", "added"])
def test_a_requested_node_in_between_stays(name):
    after, report = transformed(dense(), ["x"], ["y", name], "fork_by_rows")
    if name == "product":
        assert reasons(report) == ["'product' is itself a requested input or output"]
    else:  # the activation is left out
        assert report.steps[0].applied == 1
        assert compared(dense(), after, ["y", "added"], {"x": seeded((9, 512))}).equal


@pytest.mark.parametrize("name", ["W", "added", "product"])
def test_what_is_fed_stays(name):
    _, report = transformed(dense(), ["x", name], ["y"], "fork_by_rows")
    assert report.steps[0].applied == 0


def test_a_gpus_product_stays():
    graph_def = dense()
    next(node for node in graph_def.node if node.name == "product").device = "/device:GPU:0"
    assert reasons(transformed(graph_def, ["x"], ["y"], "fork_by_rows")[1]) == ["it is not on a CPU"]


@pytest.mark.parametrize("after", [lambda one: one * 2.0, lambda one: one + one, tf.nn.gelu])
def test_a_bias_that_tensorflow_may_merge_into_more_stays(after):
    def make():
        x = v1.placeholder(tf.float32, (None, 512), "x")
        product = tf.matmul(x, tf.constant(seeded((512, 128)) / 16))
        tf.identity(after(tf.nn.bias_add(product, tf.constant(seeded((128,))))), "y")
    _, report = transformed(build(make), ["x"], ["y"], "fork_by_rows")
    assert reasons(report) == ["TensorFlow's optimizer may merge what reads the bias into the product"]


@pytest.mark.parametrize(("loops", "reason"), [("false", OF_LOOPS), ("true", "it is one of two branches")])
def test_a_second_run_changes_nothing(loops, reason):
    once, _ = transformed(two_layers(), ["x"], ["y1"], "fork_by_rows")
    twice, report = transformed(once, ["x"], ["y1"], f"fork_by_rows(loops={loops})")
    assert set(reasons(report)) == {reason}
    assert ops(twice) == ops(once)


@pytest.mark.parametrize("inside", [True, False])
def test_a_v1_loop_is_forked_on_request(inside):
    with v1_control_flow():
        graph_def = loop(inside)
    assert any(node.op == "Enter" and "W" in node.input for node in graph_def.node) is not inside
    _, report = transformed(graph_def, ["x"], ["y"], "fork_by_rows")
    assert reasons(report) == [OF_LOOPS]
    after, report = transformed(graph_def, ["x"], ["y"], "fork_by_rows(loops=true)")
    assert report.steps[0].applied == 1
    assert equal(graph_def, after, ["y"], inputs=256)


def test_a_loops_function_is_forked_on_request():
    graph_def = loop()
    assert transformed(graph_def, ["x"], ["y"], "fork_by_rows")[1].steps[0].applied == 0
    after, report = transformed(graph_def, ["x"], ["y"], "fork_by_rows(loops=true)")
    assert report.steps[0].applied == 1
    assert equal(graph_def, after, ["y"], inputs=256)


def test_functions_that_xla_may_compile_stay():
    graph_def = loop()
    graph_def.library.function[0].attr["_XlaMustCompile"].b = True
    assert transformed(graph_def, ["x"], ["y"], "fork_by_rows(loops=true)")[1].steps[0].applied == 0
