"""Which ratio moves least on recorded noise: make proof ONLY=estimators (a minute).

Of equal processes each estimate should be 0. A row is a recording and how far the estimates of 1,000 draws are from
that (the root of the mean square), by what is taken of a round and what is taken over rounds: for 20 and 120 rounds,
which are about 10 s and a minute, of four processes each.
"""
from pathlib import Path

import numpy as np
import pytest
from estimators import OVER_ROUNDS, ROUNDS, drawn
from proof import Proof
from recorded_noise import load

CODE = ("tests/support/estimators.py", "tests/support/recorded_noise.py")
RECORDED = sorted((Path(__file__).parent / "recorded_noise").glob("*.npz"))
DRAWS, EACH, FEW, MANY = 1000, 4, 20, 120


def errors(path: Path, draws: int, seed: int = 0) -> dict[str, dict[str, list[float]]]:
    """{of a round: {over rounds: [per cent of FEW rounds, of MANY]}}."""
    seconds, random = load(path)["seconds"][:, 0], np.random.default_rng(seed)
    found: dict[str, dict[str, list[float]]] = {name: {over: [] for over in OVER_ROUNDS} for name in ROUNDS}
    for rounds in (FEW, MANY):
        pairs = [drawn(seconds, EACH, rounds, random) for _ in range(draws)]
        for name, of_round in ROUNDS.items():
            values = [of_round(*pair) for pair in pairs]
            for over, centre in OVER_ROUNDS.items():
                squares = np.mean([centre(one) ** 2 for one in values])
                found[name][over].append(round(100 * float(squares) ** 0.5, 3))
    return found


@pytest.mark.proof
@pytest.mark.parametrize("path", RECORDED, ids=[path.stem for path in RECORDED])
def test_estimators_on_recorded_noise(path: Path) -> None:
    found = Proof("estimators", 0, CODE).row(path.stem, lambda: errors(path, DRAWS))
    best = min(error[1] for own in found.values() if isinstance(own, dict) for error in own.values())
    # What is used is among the best, on every recording.
    assert found["middle half"]["Huber's"][1] <= 1.15 * best


@pytest.mark.parametrize("path", RECORDED, ids=[path.stem for path in RECORDED])
def test_what_is_used_moves_less_than_the_mean(path: Path) -> None:
    found = errors(path, 30)
    assert found["middle half"]["Huber's"][1] < found["mean"]["mean"][1]
