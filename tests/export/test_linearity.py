"""Time and memory of a pipeline grow in proportion to the graph."""
import time

import pytest
from pipeline_costs import heavy, measured, synthetic
from proof import Proof

from export.graph import Graph
from export.pipeline import run

PLAIN = "fold_constants merge_duplicate_nodes strip_unused_nodes sort_by_execution_order"


def _seconds_per_node(nodes: int) -> float:
    """The best of three runs, in seconds of this process."""
    graph_def = synthetic(nodes)
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        run(Graph.from_graph_def(graph_def, ["x"], ["y"]), PLAIN)
        best = min(best, time.process_time() - began)
    return best / nodes


def test_eight_times_the_nodes_take_eight_times_as_long():
    # What is imported and cached on the way is not the graph's cost.
    run(Graph.from_graph_def(synthetic(100), ["x"], ["y"]), PLAIN)
    # What grows with the square takes eight times as long per node.
    assert _seconds_per_node(8000) < 3 * _seconds_per_node(1000)


@pytest.mark.parametrize("transforms", ["default", "article", PLAIN])
def test_constants_are_shared_not_copied(transforms):
    before = Graph.from_graph_def(heavy(40), ["x"], ["y"])
    after, _ = run(before, transforms)
    values = {id(item.attrs["value"]) for item in before.nodes.values() if item.op == "Const"}
    kept = [item for item in after.nodes.values() if item.op == "Const"]
    assert len(kept) == 10
    assert all(id(item.attrs["value"]) in values for item in kept)


@pytest.mark.proof
def test_proof_linearity():
    """CPU time per node from 1,000 to 100,000 nodes, memory of 500 MB of constants; the tool on the same graphs."""
    modules = ("node", "graph", "graph_file", "transform", "pipeline", "shapes")
    proof = Proof("linearity", 0, [*(f"export/{name}.py" for name in modules), "export/folding", "export/transforms",
                                   "tests/support/pipeline_costs.py"])
    rows = {}
    both = ("ours", "tool")
    for transforms, nodes, megabytes, who in (
            ("default", 1000, 0, ("ours",)), ("default", 10_000, 0, ("ours",)), ("default", 100_000, 0, ("ours",)),
            ("default", 0, 500, ("ours",)), ("article", 100_000, 0, both), ("article", 0, 500, both),
            (PLAIN, 1000, 0, ("ours",)), (PLAIN, 10_000, 0, ("ours",)), (PLAIN, 100_000, 0, both)):
        for which in who:
            key = f"{which} {transforms.split()[0]} {nodes or '500 MB'}"
            rows[key] = proof.row(key, lambda which=which, nodes=nodes, size=megabytes, text=transforms: measured(
                which == "tool", nodes, size, text))
    for transforms in ("default", "fold_constants"):
        per_node = [rows[f"ours {transforms} {nodes}"]["pipeline_cpu_s"] / nodes for nodes in (1000, 10_000, 100_000)]
        assert max(per_node) < 2 * min(per_node)
    # The file's bytes and the GraphDef parsed from them, without a copy for each step.
    for transforms in ("default", "article"):
        figures = rows[f"ours {transforms} 500 MB"]
        assert figures["peak_mb"] < 2.5 * figures["graph_mb"]
