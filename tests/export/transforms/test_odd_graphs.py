"""Every transform that must not change outputs, on graphs with features of real graphs that simple tests lack."""
import numpy as np
import pytest
from graph_session import session_run, transformed
from graph_strategies import Drawn
from hypothesis import assume, given, settings
from odd_graphs import odd_feeds, odd_graphs
from proof import Proof

from export.transform import every_transform
from serving.client.answers import Budget, compare

# Transforms that need arguments, that change values by purpose, or whose result is for another runtime.
ARGUMENTS = {
    "remove_nodes": "(op=Identity, op=StopGradient)", "remove_attribute": "(attribute_name=_class)",
    "rename_attribute": "(old_attribute_name=_class, new_attribute_name=_note)",
    "set_device": '(device="/device:CPU:0")',
    "rename_node": "(old_node_name=n0, new_node_name=renamed)",
    "insert_logging": "(first_n=0)", "rename_op": "(old_op_name=Add, new_op_name=AddV2)"}
APPROXIMATE = {"quantize_nodes", "quantize_weights", "round_weights"}
NEEDS_A_LOG = {"freeze_requantization_ranges"}
EXACT = [item.name for item in every_transform() if item.name not in APPROXIMATE | NEEDS_A_LOG]


def run_both(drawn: Drawn, transforms: str):
    """The outputs before and after; a node that was renamed as asked is fetched by its new name."""
    after, _ = transformed(drawn.graph_def, ["x:0"], drawn.outputs, transforms)
    inlines = transforms in ("inline_partitionedcall", "default")
    assert inlines or len(after.library.function) == len(drawn.graph_def.library.function)
    names = {node.name for node in after.node}
    wanted = [ref if ref.partition(":")[0] in names else ref.replace("n0", "renamed", 1) for ref in drawn.outputs]
    expected, actual = (session_run(item, refs, odd_feeds()) for item, refs in
                        ((drawn.graph_def, drawn.outputs), (after, wanted)))
    return expected, {old: actual[new] for old, new in zip(drawn.outputs, wanted, strict=True)}


def check_same(transforms: str, graphs: int) -> dict[str, object]:
    """Fails unless `count` graphs keep their outputs; returns the largest difference relative to its output."""
    worst = [0.0]

    @settings(max_examples=graphs)
    @given(odd_graphs())
    def check(drawn: Drawn):
        # If the runtime fuses other ops, half floats are rounded differently: the sign of 0 * infinity may change.
        half = {"half", "bfloat16"} & set(drawn.layers)
        assume(not (half and "nan" in drawn.layers))
        comparison = compare(*run_both(drawn, transforms), Budget(relative=0.01) if half else None)
        assert comparison.equal, comparison.summary()
        if not half and comparison.worst_output:
            worst.append(comparison.worst_output.max_rel)
    check()
    return {"graphs": graphs, "largest_relative_difference": max(worst)}


@pytest.mark.parametrize("name", [*EXACT, "default", "article"])
def test_same_outputs(name):
    check_same(name + ARGUMENTS.get(name, ""), graphs=4)


@pytest.mark.proof
def test_proof_odd_graphs():
    """Every transform and pipeline that promises the same outputs, on a hundred odd graphs each."""
    proof = Proof("odd_graphs", 0, ["export", "tests/support/odd_graphs.py"])
    for name in [*EXACT, "default", "article"]:
        assert proof.row(name, lambda name=name: check_same(name + ARGUMENTS.get(name, ""), 100))["graphs"] == 100


@pytest.mark.parametrize("name", sorted(APPROXIMATE))
def test_near_outputs(name):
    @settings(max_examples=4)
    @given(odd_graphs())
    def check(drawn: Drawn):
        # Functions take NaN for an argument like any other, which no range holds.
        assume(not ("nan" in drawn.layers and {"call", "while"} & set(drawn.layers)))
        expected, actual = run_both(drawn, name)
        for ref in expected:
            assert expected[ref].shape == actual[ref].shape
            if "nan" not in drawn.layers:
                assert np.isfinite(actual[ref]).all()
                assert np.abs(expected[ref] - actual[ref]).mean() <= 0.2 * np.ptp(expected[ref]) + 1e-3
    check()
