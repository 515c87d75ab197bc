"""Which ratio moves least on recorded noise, and which interval holds: make proof ONLY=estimators (ten minutes).

Of equal processes each estimate should be 0. A row is a recording; `errors`: how far the estimates of 300 draws are
from that (the root of the mean square, per cent), by what is taken of a round and what is taken over rounds, for 20 and
120 rounds, which are about 10 s and a minute, of four processes each. `intervals`: in how many of 200 draws an interval
misses 0 at the end of 120 rounds, and in how many at any of the times it is looked at, and half of its width at the
end, per cent.
"""
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from estimators import OVER_ROUNDS, ROUNDS, drawn
from proof import Proof
from recorded_noise import load

import confidence_sequence
from benchmark.verdicts.block import Block
from benchmark.verdicts.typical import FEWEST, typical_ratio

Array = npt.NDArray[np.float64]
CODE = ("tests/support/estimators.py", "tests/support/recorded_noise.py", "confidence_sequence.py",
        "benchmark/verdicts/typical.py")
RECORDED = sorted((Path(__file__).parent / "recorded_noise").glob("*.npz"))
DRAWS, INTERVALS, EACH, FEW, MANY, LOOKED = 300, 200, 4, 20, 120, 6


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


def _bootstrap(values: Array, random: np.random.Generator) -> tuple[float, float]:
    means = values[random.integers(0, values.size, (400, values.size))].mean(axis=1)
    return tuple(map(float, np.quantile(means, (0.025, 0.975))))


def _blocks(latencies: Array, target: str) -> list[Block]:
    """As `compare` measures them: blocks k and k + 1 of round k are of these processes."""
    return [Block(target, (number + half) % EACH, "grpc", 1, number, tuple(own), float(own.sum()))
            for number, both in enumerate(latencies) for half, own in enumerate(both)]


def intervals(path: Path, draws: int, seed: int = 0) -> dict[str, dict[str, float]]:
    """{interval: {"missed": at the end, "ever": at any time, "half": of its width at the end}}."""
    seconds, random = load(path)["seconds"][:, 0], np.random.default_rng(seed)
    looks = range(FEWEST, MANY + 1, LOOKED)

    def used(a: Array, b: Array, anytime: bool) -> tuple[float, float]:
        found = typical_ratio(_blocks(a, "a"), _blocks(b, "b"), anytime)
        return float(np.log(found.low)), float(np.log(found.high))

    def sequence(a: Array, b: Array) -> tuple[float, float]:
        found = confidence_sequence.centre(ROUNDS["middle half"](a, b))
        return found.low, found.high
    kinds: dict[str, Callable[[Array, Array], tuple[float, float]]] = {
        "bootstrap of rounds, mean": lambda a, b: _bootstrap(ROUNDS["mean"](a, b), random),
        "bootstrap of rounds, middle half": lambda a, b: _bootstrap(ROUNDS["middle half"](a, b), random),
        "sequence, middle half": sequence,
        "Huber's and luck, middle half": lambda a, b: used(a, b, anytime=False),
        "sequence and luck, middle half": lambda a, b: used(a, b, anytime=True)}
    found: dict[str, Any] = {name: {"missed": 0, "ever": 0, "half": []} for name in kinds}
    for _ in range(draws):
        a, b = drawn(seconds, EACH, MANY, random)
        for name, kind in kinds.items():
            seen = [kind(a[:last], b[:last]) for last in looks]
            outside = [not low <= 0 <= high for low, high in seen]
            found[name]["missed"] += outside[-1]
            found[name]["ever"] += any(outside)
            found[name]["half"].append((seen[-1][1] - seen[-1][0]) / 2)
    return {name: {"missed": own["missed"] / draws, "ever": own["ever"] / draws,
                   "half": round(100 * float(np.median(own["half"])), 3)} for name, own in found.items()}


@pytest.mark.proof
@pytest.mark.parametrize("path", RECORDED, ids=[path.stem for path in RECORDED])
def test_estimators_on_recorded_noise(path: Path) -> None:
    found = Proof("estimators", 0, CODE).row(path.stem, lambda: {
        "errors": errors(path, DRAWS), "intervals": intervals(path, INTERVALS)})
    of = found["errors"]
    assert of["middle half"]["Huber's"][1] < of["mean"]["mean"][1]
    assert found["intervals"]["sequence and luck, middle half"]["ever"] <= 0.05


@pytest.mark.parametrize("path", RECORDED, ids=[path.stem for path in RECORDED])
def test_what_is_used_moves_less_than_the_mean_and_its_interval_holds(path: Path) -> None:
    found = errors(path, 30)
    assert found["middle half"]["Huber's"][1] < found["mean"]["mean"][1]
    assert intervals(path, 10)["sequence and luck, middle half"]["ever"] <= 0.1
