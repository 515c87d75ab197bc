"""Ratios, intervals and verdicts on random numbers whose true ratio is known."""
import numpy as np
import pytest

from benchmark.verdicts import statistics


def test_samples_needed_for_a_percentile_are_wilks_numbers() -> None:
    assert [statistics.samples_needed(p) for p in (50, 90, 99, 99.9)] == [11, 64, 662, 6636]


@pytest.mark.parametrize("percentile", [50, 90, 99])
def test_samples_needed_is_the_smallest_sufficient_number(percentile: float) -> None:
    need, p, random = statistics.samples_needed(percentile), percentile / 100, np.random.default_rng(1)
    def share_with_two_above(n: int) -> float:
        return float((random.binomial(n, 1 - p, 200_000) >= 2).mean())
    assert share_with_two_above(need) > 0.9885
    assert share_with_two_above(round(need * 0.9)) < 0.9895


def test_a_percentile_is_one_of_the_samples() -> None:
    assert statistics.metric_value("p50", [1.0, 2.0, 3.0, 10.0]) == 2.0
    assert statistics.metric_value("p99", np.arange(1.0, 101.0)) == 99.0
    assert statistics.metric_value("mean", [1.0, 2.0]) == 1.5


@pytest.mark.parametrize("metric", ["mean", "p50", "p90"])
def test_the_bootstrap_interval_covers_the_true_ratio_in_95_per_cent_of_runs(metric: str) -> None:
    random, covered, runs = np.random.default_rng(7), 0, 120
    for run in range(runs):
        drift = np.exp(random.normal(0, 0.05, (20, 1)))
        a = 1.25 * drift * np.exp(random.normal(0, 0.1, (20, 10)))
        b = drift * np.exp(random.normal(0, 0.1, (20, 10)))
        ratio = statistics.bootstrap_ratio(list(a), list(b), metric, seed=run, resamples=800)
        covered += ratio.low <= 1.25 <= ratio.high
    assert 0.90 <= covered / runs <= 1.0


@pytest.mark.parametrize("metric", ["mean", "p50", "p99"])
def test_resampling_rounds_equals_resampling_their_samples(metric: str) -> None:
    random = np.random.default_rng(3)
    rounds = [random.random(size) for size in (3, 5, 2, 7)]
    draws = random.multinomial(4, np.full(4, 0.25), size=50)
    slow = [statistics.metric_value(metric, np.concatenate([np.tile(r, n) for r, n in zip(rounds, draw, strict=True)]))
            for draw in draws]
    np.testing.assert_allclose(statistics._resampled(metric, rounds, draws), slow)


def test_the_same_seed_gives_the_same_interval() -> None:
    random = np.random.default_rng(0)
    a, b = [random.random(5) for _ in range(10)], [random.random(5) for _ in range(10)]
    assert statistics.bootstrap_ratio(a, b, seed=4) == statistics.bootstrap_ratio(a, b, seed=4)
    assert statistics.bootstrap_ratio(a, b, seed=4) != statistics.bootstrap_ratio(a, b, seed=5)


def test_a_single_round_has_an_unlimited_interval() -> None:
    ratio = statistics.bootstrap_ratio([np.array([2.0])], [np.array([1.0])])
    assert (ratio.value, ratio.low, ratio.high) == (2.0, 0.0, float("inf"))
    assert statistics.verdict(ratio, 0.01) == "cannot tell"


def test_rounds_that_are_not_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="must be pairs"):
        statistics.bootstrap_ratio([np.ones(2)], [])


@pytest.mark.parametrize(("low", "high", "floor", "expected"), [
    (1.02, 1.10, 0.01, "faster"), (0.90, 0.98, 0.01, "slower"), (0.99, 1.20, 0.01, "cannot tell"),
    (1.005, 1.20, 0.01, "cannot tell"), (1.02, 1.10, 0.03, "cannot tell"), (0.90, 0.98, 0.03, "cannot tell")])
def test_a_verdict_needs_the_whole_interval_outside_the_floor(low: float, high: float, floor: float,
                                                              expected: str) -> None:
    assert statistics.verdict(statistics.Ratio((low * high) ** 0.5, low, high, 0.01), floor) == expected


def test_the_floor_is_never_below_one_per_cent_and_takes_the_worse_side() -> None:
    def equals(value: float) -> statistics.Ratio:
        return statistics.Ratio(value, value, value, 0.0)
    assert statistics.noise_floor() == 0.01
    assert statistics.noise_floor(equals(1.002), equals(0.999)) == 0.01
    assert statistics.noise_floor(equals(0.95), equals(1.01)) == pytest.approx(1 / 0.95 - 1)


def test_an_effect_of_the_least_size_is_found_in_four_of_five_runs() -> None:
    random, called, runs = np.random.default_rng(11), 0, 150
    def rounds(mean: float) -> list[statistics.Array]:
        return [mean * np.exp(random.normal(0, 0.1, 10)) for _ in range(20)]
    effect = np.mean([statistics.least_effect(statistics.bootstrap_ratio(rounds(1), rounds(1), resamples=500), 0.01)
                      for _ in range(20)])
    for run in range(runs):
        ratio = statistics.bootstrap_ratio(rounds(1 + float(effect)), rounds(1), seed=run, resamples=500)
        called += statistics.verdict(ratio, 0.01) == "faster"
    assert 0.70 <= called / runs <= 0.92
