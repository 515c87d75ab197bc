"""Evidence grows against what is wrong, and hardly ever against what is true, however often one looks."""
import math
from collections.abc import Callable

import numpy as np
import pytest

from serving.promotion.evidence import Centre, Share

SEEDS, LONG = 400, 600


def _ever(observe: Callable[[np.random.Generator], float]) -> float:
    """The share of sequences that reach 20 at any time: of a true null hypothesis at most a twentieth."""
    return sum(observe(np.random.default_rng(seed)) > math.log(20) for seed in range(SEEDS)) / SEEDS


def _share(null: float, alternatives: tuple[float, ...], true: float, random: np.random.Generator) -> float:
    evidence, most = Share(null, alternatives), -math.inf
    for happened in (random.random(LONG) < true).tolist():
        evidence.add(happened)
        most = max(most, evidence.log)
    return most


def _centre(place: float, true: float, random: np.random.Generator, side: str, heavy: bool = False) -> float:
    evidence, most = Centre(place), -math.inf
    values = random.standard_t(1.5, LONG) if heavy else random.normal(size=LONG)
    for value in (values + true).tolist():
        evidence.add(value)
        most = max(most, getattr(evidence, side))
    return most


@pytest.mark.parametrize("true", [0.01, 0.05])
def test_a_share_that_is_not_above_is_hardly_ever_said_to_be(true: float) -> None:
    assert _ever(lambda random: _share(0.05, (0.1, 0.2, 0.5), true, random)) <= 0.05


def test_a_share_that_is_above_is_seen_and_one_that_is_below_too() -> None:
    assert _ever(lambda random: _share(0.05, (0.1, 0.2, 0.5), 0.12, random)) > 0.95
    assert _ever(lambda random: _share(0.05, (0.005, 0.02), 0.004, random)) > 0.95
    assert _ever(lambda random: _share(0.05, (0.005, 0.02), 0.05, random)) <= 0.05


@pytest.mark.parametrize("heavy", [False, True])
def test_a_centre_is_hardly_ever_said_to_be_elsewhere(heavy: bool) -> None:
    for side in ("above", "below"):
        assert _ever(lambda random, side=side: _centre(2.0, 2.0, random, side, heavy)) <= 0.05
    assert _ever(lambda random: _centre(2.0, 2.3, random, "below", heavy)) <= 0.05


@pytest.mark.parametrize("heavy", [False, True])
def test_a_centre_that_is_elsewhere_is_seen(heavy: bool) -> None:
    assert _ever(lambda random: _centre(0.0, 0.4, random, "above", heavy)) > 0.95
    assert _ever(lambda random: _centre(0.0, -0.4, random, "below", heavy)) > 0.95


def test_alternatives_are_on_one_side() -> None:
    with pytest.raises(AssertionError):
        Share(0.1, (0.05, 0.2))


def test_much_that_speaks_against_it_is_no_error() -> None:
    evidence = Centre(0.0)
    for _ in range(5000):
        evidence.add(-1.0)
    assert evidence.above == -math.inf
    assert evidence.below > 100
