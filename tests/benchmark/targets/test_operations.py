"""One model has one node count: what a comparison's report says is what `describe` and `optimize` say."""
import json
from pathlib import Path

import pytest
import saved_models
from click.testing import CliRunner

from benchmark.targets.operations import operations
from export import describe, manifest, optimization
from serving.protos import saved_model_pb2


def _in_file(version: Path) -> set[str]:
    """The operations of all nodes in the file, whether or not a request reaches them."""
    saved = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    return {node.op for part in (graph.node, *(body.node_def for body in graph.library.function)) for node in part}


@pytest.mark.parametrize("build", [
    saved_models.tf_module, pytest.param(saved_models.keras3, marks=pytest.mark.proof)],
    ids=lambda build: build.__name__)
def test_a_comparison_counts_nodes_as_the_other_commands_do(build: saved_models.Builder, tmp_path: Path) -> None:
    """Loops, branches and functions in functions; the restore function's assignments never run."""
    source, target = tmp_path / "m/original", tmp_path / "m/optimized"
    build(source / "1")
    CliRunner().invoke(optimization.command, [str(source), "--to", str(target)], catch_exceptions=False)
    kept = manifest.read(target / "1")
    assert kept is not None
    assert "AssignVariableOp" in _in_file(source / "1")
    for version, said in ((source / "1", kept["nodes"]["before"]), (target / "1", kept["nodes"]["after"])):
        shown = CliRunner().invoke(describe.command, [str(version), "--json", "-"], catch_exceptions=False).stdout
        found = operations(version)
        assert found["nodes"] == json.loads(shown)["nodes"] == said == sum(found["ops"].values())
        assert "AssignVariableOp" not in found["ops"]


def test_what_cannot_be_described_has_no_count(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"")
    assert operations(tmp_path) == {}
