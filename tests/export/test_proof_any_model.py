"""Models drawn at random through `optimize`: published equal, or refused for a cause; no process dies.

A sample of a few seeds in `make test`; 200 with `make proof ONLY=any_model`, whose file keeps each chunk of ten.
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
# A refusal names what is refused, and holds nothing of these.
NAMES_A_CAUSE = re.compile(r"signature '\w+'.*('[\w./:]+'|\(.+\))")
NO_CAUSE = ("Graph execution error", "Traceback", "its process ended", "@ 0x", "give real ones with --samples")
HARMS = {"writes": "touches files", "python": "calls Python", "random": "draws random numbers",
         "unlisted": "placeholder"}


def optimized(first: int, count: int, cwd: Path) -> list[dict[str, Any]]:
    """What a worker says of each seed. One that dies is started again behind the seed that it died of."""
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
    """The figures of some seeds. Raises AssertionError for what may not happen."""
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
            assert harms, one  # what holds nothing wrong is published
            assert any(HARMS[harm] in line for harm in harms), one
            refused[next(HARMS[harm] for harm in sorted(harms) if HARMS[harm] in line)] += 1
        else:
            assert not harms, one
    return {"seeds": [told[0]["seed"], told[-1]["seed"]], "published": sum("published" in one for one in told),
            "refused": dict(refused), "process deaths": 0}


@pytest.mark.timeout(300)
def test_a_few_random_models(tmp_path: Path) -> None:
    figures = judged(optimized(100_000, 4, tmp_path))
    assert figures["published"] + sum(figures["refused"].values()) == 4


@pytest.mark.proof
@pytest.mark.parametrize("first", range(0, 200, 10))
def test_two_hundred_random_models(first: int, tmp_path: Path) -> None:
    about = ["export", "serving/client/answers.py", "serving/client/payloads.py", "tests/support/any_model.py"]
    row = Proof("any_model", 0, about).row(f"seeds {first} to {first + 9}", lambda: judged(
        optimized(first, 10, tmp_path)))
    assert row["published"] + sum(row["refused"].values()) == 10
