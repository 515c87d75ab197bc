"""How small a difference is seen in a minute on a machine that something else uses: make proof ONLY=sharp.

Graphs of busy work with 0, 1, 2 and 5 % more steps, while a third process loads one core in waves of 0.1 to 5 s. Each
row is one run of `compare`. Rows of the cases take turns, so that a part of them (SHARP_RUNS=20) says something of all;
200 of each take about fourteen hours on two cores, and what was measured is kept when it is interrupted.

Beside, in fewer rows, the design of before: two processes where the system puts them, the mean, beyond the distance of
equal processes.
"""
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import busy_work
import pytest
from proof import ROOT, Proof
from recorded_noise import waves
from recorded_verdicts import verdicts

RUNS = int(os.environ.get("SHARP_RUNS", "200"))
# The rest of the thousand equal pairs; and how many with more work.
RECORDED_EQUALS, RECORDED_RUNS = 800, 200
CODE = ("confidence_sequence.py", "cores.py", "benchmark/verdicts/typical.py", "benchmark/verdicts/comparison.py",
        "benchmark/issuing/group.py", "benchmark/issuing/designs.py", "benchmark/issuing/trial.py",
        "tests/support/busy_work.py", "tests/support/recorded_noise.py")
PROCESSES, MAX_S = 8, 60
# A minute of requests of two targets, unless the machine is much quicker.
BEFORE = ("--design", "unpinned", "--processes", "2", "--repeat", "2500")
# {per cent more work: (--equal-within, the verdict it should have, in what share of the runs)}
CASES = {0: ("3%", "equal", 0.95), 1: ("0.5%", "slower", 0.95), 2: ("1%", "slower", 0.95), 5: ("1%", "slower", 1.0)}
RECORDED = Path(__file__).parent / "recorded_noise"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for more in CASES:
        busy_work.write(folder / f"busy/more-{more}/1", more)
    busy_work.write(folder / "busy/original/1")
    return folder


def _measured(models: Path, more: int, seed: int, metric: str, *options: str) -> dict[str, Any]:
    began = time.monotonic()
    with waves(seed):
        done = subprocess.run(
            [sys.executable, "-m", "benchmark", "compare", "session:original", f"session:more-{more}", "--model",
             "busy", "--models", str(models), "--batch", "32", *options, "--max-time", str(MAX_S), "--seed", str(seed),
             "--json", "-"], cwd=ROOT, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    found = next(c for c in result["comparisons"] if c["metric"] == metric)
    kept = ("verdict", "ratio", "ci95", "floor", "valid", "reasons", "samples", "rounds")
    return {"seconds": round(time.monotonic() - began, 1), "design": next(iter(result["design"].values())),
            "ended": next(iter(result["ended"].values())), **{key: found[key] for key in kept}}


@pytest.fixture(scope="module")
def rows(models: Path) -> dict[str, list[dict[str, Any]]]:
    """{case: its rows}."""
    proof, found = Proof("sharp", seed=0, about=CODE), dict[str, list[dict[str, Any]]]()
    for run in range(RUNS):
        for more, (within, _, _) in CASES.items():
            now = ("--processes", str(PROCESSES), "--equal-within", within)
            found.setdefault(f"now {more}", []).append(proof.row(
                f"more-{more}-{run:03}", lambda more=more, now=now, run=run: _measured(
                    models, more, run, "typical", *now)))
            if run % 10 == 0:
                found.setdefault(f"before {more}", []).append(proof.row(
                    f"before-more-{more}-{run:03}", lambda more=more, run=run: _measured(
                        models, more, run, "mean", *BEFORE)))
    return found


@pytest.mark.proof
@pytest.mark.parametrize("more", CASES)
def test_sharp_verdicts(more: int, rows: dict[str, list[dict[str, Any]]]) -> None:
    _, verdict, share = CASES[more]
    seen = [row["verdict"] for row in rows[f"now {more}"]]
    assert seen.count(verdict) >= share * len(seen)
    if not more:
        assert seen.count("faster") + seen.count("slower") <= 0.01 * RUNS


@pytest.mark.proof
@pytest.mark.parametrize("path", sorted(RECORDED.glob("*busy*")), ids=lambda path: path.stem)
def test_sharp_verdicts_on_recorded_noise(path: Path) -> None:
    proof = Proof("sharp", seed=0, about=(*CODE, "tests/support/recorded_verdicts.py"))

    def found(more: int, within: float, runs: int, **how: Any) -> dict[str, int]:
        return dict(verdicts(path, 1 + more / 100, within, runs, **how))
    row = proof.row(f"recorded-{path.stem}", lambda: {
        f"more-{more}": {"now": found(more, float(within.rstrip("%")) / 100, RECORDED_RUNS if more else RECORDED_EQUALS,
                                      each=PROCESSES),
                         "before": found(more, 0.0, RECORDED_RUNS, each=2, before=True)}
        for more, (within, _, _) in CASES.items()})
    equals = row["more-0"]["now"]
    assert equals.get("faster", 0) + equals.get("slower", 0) <= 0.01 * RECORDED_EQUALS
