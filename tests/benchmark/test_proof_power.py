"""How often verdicts are right, on real servers with default settings: make proof ONLY=power."""
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from proof import ROOT, Proof

from benchmark.verdicts.comparison import decisive

CODE = ("benchmark/verdicts/statistics.py", "benchmark/verdicts/comparison.py", "benchmark/verdicts/typical.py",
        "benchmark/targets/connections.py", "benchmark/issuing/group.py", "benchmark/targets/in_process/more_work.py")
AA_RUNS, SLOWER_RUNS, PERCENT = 20, 10, 10


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """models/mnist/original and models/mnist/more-work, which does 10 % more of the same work."""
    folder = tmp_path_factory.mktemp("models")
    subprocess.run([sys.executable, "-m", "export", "build", "mnist", "--reuse"], cwd=ROOT, check=True)
    source = max((ROOT / "models/mnist/original").glob("[0-9]*"), key=lambda path: int(path.name))
    shutil.copytree(source, folder / "mnist/original/1")
    (folder / "mnist/more-work").mkdir()
    subprocess.run([sys.executable, "-m", "benchmark.targets.in_process.more_work", str(folder / "mnist/original/1"),
                    str(folder / "mnist/more-work/1"), "--percent", str(PERCENT)], cwd=ROOT, check=True)
    return folder


def _measured(models: Path, candidate: str, seed: int) -> dict[str, Any]:
    """Runs `compare` once with default settings; returns the verdicts by protocol."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmark", "compare", "original", candidate, "--models", str(models), "--seed",
         str(seed), "--json", "-"], cwd=ROOT, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    decided = {c["protocol"]: c for c in decisive(result["comparisons"])}
    kept = ("verdict", "ratio", "ci95", "floor", "least_effect", "valid", "reasons")
    return {"load_average": result["environment"]["load_average"], "steal_s": result["environment"]["steal_s"],
            **{protocol: {key: c[key] for key in kept} for protocol, c in decided.items()}}


@pytest.mark.proof
def test_power_equal_variants_are_rarely_told_apart(models: Path) -> None:
    proof = Proof("power", seed=0, about=CODE)
    rows = [proof.row(f"equals-{run:02}", lambda run=run: _measured(models, "original", run)) for run in range(AA_RUNS)]
    for protocol in ("rest", "grpc"):
        assert sum(row[protocol]["verdict"] in ("faster", "slower") for row in rows) <= 1


@pytest.mark.proof
def test_power_ten_per_cent_more_work_is_slower(models: Path) -> None:
    proof = Proof("power", seed=0, about=CODE)
    rows = [proof.row(f"slower-{run:02}", lambda run=run: _measured(models, "more-work", run))
            for run in range(SLOWER_RUNS)]
    for protocol in ("rest", "grpc"):
        assert sum(row[protocol]["verdict"] == "slower" for row in rows) >= 9
