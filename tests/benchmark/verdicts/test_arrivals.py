"""Arrival schedules: seeded, ascending, with the requested rate."""
import numpy as np
import pytest

from benchmark.verdicts.arrivals import Constant, OpenLoop, Poisson


@pytest.mark.parametrize("arrivals", [Poisson(200, seed=3), Constant(200)])
def test_a_schedule_is_ascending_within_the_run_and_has_its_rate(arrivals: OpenLoop) -> None:
    starts = arrivals.schedule(50)
    assert (np.diff(starts) >= 0).all()
    assert starts[0] >= 0
    assert starts[-1] < 50
    assert len(starts) == pytest.approx(200 * 50, rel=0.04)


def test_poisson_gaps_are_exponential_and_memoryless() -> None:
    gaps = np.diff(Poisson(100, seed=1).schedule(300))
    assert gaps.mean() == pytest.approx(0.01, rel=0.03)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.04)
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.02


def test_constant_gaps_are_equal() -> None:
    np.testing.assert_allclose(np.diff(Constant(250).schedule(2)), 1 / 250)


def test_a_seed_gives_the_same_schedule_and_another_seed_another() -> None:
    assert np.array_equal(Poisson(50, 1).schedule(10), Poisson(50, 1).schedule(10))
    assert not np.array_equal(Poisson(50, 1).schedule(10)[:100], Poisson(50, 2).schedule(10)[:100])
