"""What fork_by_rows made of a graph becomes the graph again; other branches stay."""
import pytest
from dense_layers import dense, loop, two_layers
from graph_session import compared, ops, seeded, transformed, v1_control_flow
from hypothesis import given
from hypothesis import strategies as st


@given(activation=st.sampled_from(["Relu", "Tanh", "LeakyRelu", ""]), bias=st.sampled_from(["BiasAdd", "AddV2"]),
       transpose_b=st.booleans())
def test_the_graph_is_as_before(activation, bias, transpose_b):
    graph_def = dense(activation=activation, bias=bias, transpose_b=transpose_b)
    forked, report = transformed(graph_def, ["x"], ["y"], "fork_by_rows")
    joined, back = transformed(forked, ["x"], ["y"], "join_by_rows strip_unused_nodes")
    assert (report.steps[0].applied, back.steps[0].applied) == (1, 1)
    assert ops(joined) == ops(graph_def)
    assert compared(graph_def, joined, ["y"], {"x": seeded((9, 512))}).equal


def test_layers_and_loops_are_joined():
    with v1_control_flow():
        turns = loop()
    for graph_def, output, inputs, count in ((two_layers(), "y1", 512, 2), (turns, "y", 256, 1)):
        forked, _ = transformed(graph_def, ["x"], [output], "fork_by_rows(loops=true)")
        joined, back = transformed(forked, ["x"], [output], "join_by_rows strip_unused_nodes")
        assert back.steps[0].applied == count
        assert all(ops(joined)[op] == ops(graph_def)[op] for op in ("MatMul", "BiasAdd", "Relu"))
        assert "Size" not in ops(joined)
        assert compared(graph_def, joined, [output], {"x": seeded((9, inputs))}).equal


def _changed(graph_def, op, change):
    """The graph with `change` made to the first node of an op."""
    change(next(node for node in graph_def.node if node.op == op))
    return graph_def


def _reads_x(node):
    node.input[0] = "x"


def _other_weights(node):
    node.input[1] = "other"


def _other_attribute(node):
    node.attr["grad_a"].b = True


@pytest.mark.parametrize("change", [_reads_x, _other_weights, _other_attribute])
def test_products_that_differ_stay(change):
    forked, _ = transformed(dense(), ["x"], ["y"], "fork_by_rows")
    weights = next(node for node in forked.node if node.name == "W")
    other = forked.node.add()
    other.CopyFrom(weights)
    other.name = "other"
    graph_def = _changed(forked, "MatMul", change)
    joined, back = transformed(graph_def, ["x"], ["y"], "join_by_rows")
    assert back.steps[0].applied == 0
    assert ops(joined) == ops(graph_def)


@pytest.mark.parametrize("op", ["MatMul", "BiasAdd"])
def test_a_requested_node_in_a_branch_stays(op):
    forked, _ = transformed(dense(), ["x"], ["y"], "fork_by_rows")
    inner = next(node.name for node in forked.node if node.op == op)
    _, back = transformed(forked, ["x"], ["y", inner], "join_by_rows")
    assert back.steps[0].applied == 0
