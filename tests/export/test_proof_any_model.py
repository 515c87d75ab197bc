"""`optimize` on randomly generated models: it publishes an equal version or refuses with a reason; no process dies.

`make test` runs a few seeds, `make proof ONLY=any_model` 200 of them; its file has a result for every ten.
"""
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from proof import ROOT, Proof

WORKER = ROOT / "tests" / "support" / "any_model.py"
# A refusal names its cause and contains none of these.
NAMES_A_CAUSE = re.compile(r"signature '\w+'.*('[\w./:]+'|\(.+\))")
NO_CAUSE = ("Graph execution error", "Traceback", "its process ended", "@ 0x", "give real ones with --samples")
HARMS = {"writes": "touches files", "python": "calls Python", "random": "draws random numbers",
         "unlisted": "placeholder"}


def optimized(first: int, count: int, cwd: Path) -> list[dict[str, Any]]:
    """A worker's result for each seed. A worker that dies is started again with the seed after the fatal one."""
    told: list[dict[str, Any]] = []
    while len(told) < count:
        done = subprocess.run([sys.executable, str(WORKER), str(first + len(told)), str(count - len(told))], cwd=cwd,
                              env={**os.environ, "PYTHONPATH": f"{ROOT}:{WORKER.parent}"}, capture_output=True,
                              text=True, check=False)
        told += [json.loads(line) for line in done.stdout.splitlines()]
        if done.returncode:
            told.append({"seed": first + len(told), "died": done.returncode, "last words": done.stderr[-500:]})
    return told


def judged(told: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of some seeds. Raises AssertionError for a wrong result."""
    refused: Counter[str] = Counter()
    for one in told:
        assert "died" not in one, one
        assert "bug" not in one, one
        assert not one["strangers"], one  # nothing is written beside the destination
        harms = {signature.get("harm") for signature in one["drawn"]["signatures"].values()} - {"", None}
        if "refused" in one:
            line = one["refused"]
            assert NAMES_A_CAUSE.search(line), one
            assert not any(words in line for words in NO_CAUSE), one
            assert harms, one  # a model without a defect must be published
            assert any(HARMS[harm] in line for harm in harms), one
            refused[next(HARMS[harm] for harm in sorted(harms) if HARMS[harm] in line)] += 1
        else:
            assert not harms, one
    return {"seeds": [told[0]["seed"], told[-1]["seed"]], "published": sum("published" in one for one in told),
            "refused": dict(refused), "process deaths": 0}


@pytest.mark.timeout(300)
def test_a_few_random_models(tmp_path: Path) -> None:
    figures = judged(optimized(100_000, 2, tmp_path))
    assert figures["published"] + sum(figures["refused"].values()) == 2


@pytest.mark.proof
@pytest.mark.parametrize("first", range(0, 200, 10))
def test_two_hundred_random_models(first: int, tmp_path: Path) -> None:
    about = ["export", "serving/client/answers.py", "serving/client/payloads.py", "tests/support/any_model.py"]
    row = Proof("any_model", 0, about).row(f"seeds {first} to {first + 9}", lambda: judged(
        optimized(first, 10, tmp_path)))
    assert row["published"] + sum(row["refused"].values()) == 10
