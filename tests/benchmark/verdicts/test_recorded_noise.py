"""Verdicts on noise that was recorded: few of the draws that `make proof ONLY=sharp` takes."""
from pathlib import Path

import pytest
from recorded_verdicts import verdicts

RUNS = 20
# One core that all processes share, while something else loads the machine in waves.
SHARED = sorted((Path(__file__).parents[1] / "recorded_noise").glob("*one_core*.npz"))


@pytest.mark.parametrize("path", SHARED, ids=[path.stem for path in SHARED])
def test_equals_are_equal_and_more_work_is_slower(path: Path) -> None:
    equals = verdicts(path, 1.0, 0.03, RUNS)
    assert equals["faster"] + equals["slower"] == 0
    assert equals["equal"] >= 0.9 * RUNS
    assert verdicts(path, 1.02, 0.01, RUNS)["slower"] >= 0.9 * RUNS
    assert verdicts(path, 1.05, 0.01, RUNS)["slower"] == RUNS


@pytest.mark.parametrize("path", SHARED, ids=[path.stem for path in SHARED])
def test_the_verdict_of_before_sees_less(path: Path) -> None:
    now, before = verdicts(path, 1.02, 0.01, RUNS), verdicts(path, 1.02, 0.01, RUNS, each=2, before=True)
    assert now["slower"] > before["slower"]
