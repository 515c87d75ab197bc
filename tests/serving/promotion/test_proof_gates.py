"""How often the latency gate is right on this machine: make proof ONLY=promotion_gates (about three hours for 100 runs
of each; PROMOTION_GATES=10 does a tenth, and what was measured is kept).

A copy of the MNIST classifier must pass, and one whose graph carries enough of the same work to take a tenth longer
must be refused, with the default limits at batch 100.
"""
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from proof import ROOT, Proof

from serving.promotion import gates, settings
from version_directory import newest

RUNS = int(os.environ.get("PROMOTION_GATES", "100"))
CODE = ("serving/promotion/gates.py", "benchmark/verdicts", "benchmark/issuing")
# Of the examples: a request of 100 then takes a tenth longer in all, as a part of its time is not the model's.
PERCENT, BATCH = 15, 100


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("versions")
    subprocess.run([sys.executable, "-m", "export", "build", "mnist", "--reuse"], cwd=ROOT, check=True)
    source = newest(ROOT / "models/mnist/original")
    assert source is not None
    for name in ("production", "equal"):
        shutil.copytree(source, folder / name)
    subprocess.run([sys.executable, "-m", "benchmark.targets.in_process.more_work", str(source),
                    str(folder / "slower"), "--percent", str(PERCENT)], cwd=ROOT, check=True)
    return {name: folder / name for name in ("production", "equal", "slower")}


def _judged(versions: dict[str, Path], candidate: str) -> dict[str, Any]:
    limits = replace(settings.read(ROOT / "nowhere").latency, batch=BATCH)
    result = gates.measured("mnist", versions["production"], versions[candidate], limits)
    gate = gates.latency(result, limits)
    return {"passed": gate.passed, "words": gate.words, "ratio": gate.figures["typical"]["ratio"],
            "ci95": gate.figures["typical"]["ci95"], "ended": next(iter(result["ended"].values()))}


@pytest.mark.proof
def test_promotion_gates(versions: dict[str, Path]) -> None:
    proof, passed = Proof("promotion_gates", seed=0, about=CODE), {"equal": 0, "slower": 0}
    for run in range(RUNS):
        for candidate in passed:
            row = proof.row(f"{candidate}-{run:03}", lambda candidate=candidate: _judged(versions, candidate))
            passed[candidate] += row["passed"]
    assert passed["equal"] >= 0.99 * RUNS
    assert passed["slower"] <= 0.05 * RUNS
