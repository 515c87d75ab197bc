from graph_session import compared, transformed
from graph_strategies import Drawn, drawn_graphs
from hypothesis import given, settings


@settings(max_examples=12)
@given(drawn_graphs())
def test_sorted_means_that_inputs_come_first(drawn: Drawn):
    shuffled = type(drawn.graph_def)()
    shuffled.CopyFrom(drawn.graph_def)
    del shuffled.node[:]
    shuffled.node.extend(reversed(drawn.graph_def.node))
    after, _ = transformed(shuffled, ["x"], drawn.outputs, "sort_by_execution_order")
    seen = set()
    for item in after.node:
        assert all(ref.lstrip("^").partition(":")[0] in seen for ref in item.input), item.name
        seen.add(item.name)
    assert len(after.node) == len(shuffled.node)


def test_a_loop_can_be_sorted_and_runs(v1_loop):
    after, _ = transformed(v1_loop, ["x"], ["y"], "sort_by_execution_order")
    assert compared(v1_loop, after, ["y"], {"x": [1.0, 3.0]}).equal
