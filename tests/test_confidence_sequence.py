"""A sequence of intervals holds the centre at all sample sizes at once; ordinary intervals looked at so do not."""
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confidence_sequence import LEAST, centre

RUNS, COUNT = 200, 300
Draw = Callable[[np.random.Generator], np.ndarray]
DRAWS: dict[str, Draw] = {
    "normal": lambda random: random.normal(size=COUNT),
    "heavy tails": lambda random: random.standard_t(3, size=COUNT),
    "one of five wider": lambda random: random.normal(size=COUNT) * np.where(random.random(COUNT) < 0.2, 10, 1),
    "without a mean": lambda random: random.standard_cauchy(size=COUNT),
    "wider from the middle on": lambda random: random.normal(size=COUNT) * np.where(np.arange(COUNT) < 150, 1, 5),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_looking_after_each_value_the_centre_is_missed_in_less_than_one_run_of_twenty(draw: Draw) -> None:
    random = np.random.default_rng(4)
    missed = 0
    for _ in range(RUNS):
        values = draw(random) + 7
        missed += not all((found := centre(values[:count])).low <= 7 <= found.high for count in range(2, COUNT, 7))
    assert missed <= 0.05 * RUNS


def test_an_ordinary_interval_looked_at_after_each_value_misses_far_more_often() -> None:
    random = np.random.default_rng(0)
    missed = 0
    for _ in range(RUNS):
        values = random.normal(size=COUNT)
        missed += any(abs(values[:count].mean()) > 1.96 * values[:count].std(ddof=1) / math.sqrt(count)
                      for count in range(LEAST, COUNT, 3))
    assert missed > 0.25 * RUNS


def test_intervals_become_narrow() -> None:
    values = np.random.default_rng(3).normal(size=10_000)
    widths = {count: (found := centre(values[:count])).high - found.low for count in (60, 300, 10_000)}
    assert widths[60] < 1.3
    assert widths[300] < 0.5
    assert widths[10_000] < 0.1
    assert abs(centre(values).value) < 0.03


def test_a_few_values_far_off_hardly_move_the_centre() -> None:
    values = np.random.default_rng(5).normal(size=100)
    alone = centre(values)
    values[[3, 30, 60, 90]] = 1e6
    found = centre(values)
    assert found.high - found.low < 1.3 * (alone.high - alone.low)
    assert abs(found.value - alone.value) < 0.1


def test_a_higher_confidence_is_wider() -> None:
    values = np.random.default_rng(6).normal(size=80)
    wide, narrow = centre(values, 0.99), centre(values, 0.9)
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_with_few_values_nothing_is_known() -> None:
    assert math.isnan(centre([]).value)
    for count in range(1, LEAST + 6):
        found = centre(range(count))
        assert (found.low, found.high) == (-math.inf, math.inf)
        assert math.isfinite(found.value)
    assert math.isfinite(centre(range(LEAST + 20)).high)


def test_values_that_are_all_the_same_are_their_centre() -> None:
    assert centre([3.0] * 40).value == 3
    found = centre([0.0] * 40)
    assert found.low <= 0 <= found.high


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.floats(-1e3, 1e3), st.floats(0.01, 100))
def test_the_centre_moves_and_grows_with_the_values(values: list[float], by: float, times: float) -> None:
    found, moved = centre(values), centre([value * times + by for value in values])
    assert found.low <= found.value <= found.high
    for mine, theirs in ((found.low, moved.low), (found.high, moved.high)):
        assert theirs == pytest.approx(mine * times + by, rel=1e-6, abs=1e-3)
