"""The ratio of two variants, its confidence interval and its verdict.

Times are seconds. A ratio is always baseline over candidate of a cost (time, or time per item), so over 1 means that
the candidate is faster. The unit of resampling is a round: the requests of both variants within one A B B A.
Requests of one round have much in common (a busy machine slows both variants); resampling whole rounds keeps that,
resampling single requests would lose it.
"""
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from benchmark.verdicts.records import Verdict as Verdict

Array = npt.NDArray[np.float64]

CONFIDENCE = 0.95
POWER = 0.8
LEAST_FLOOR = 0.01
RESAMPLES = 4000
METRICS = ("mean", "p50", "p90", "p99", "p99.9")


@dataclass(frozen=True)
class Ratio:
    """Baseline over candidate with its block bootstrap interval; `error` is the standard error of log(ratio)."""

    value: float
    low: float
    high: float
    error: float


def percentile_of(metric: str) -> float | None:
    """The percentile that a metric names ("p99.9" -> 99.9), or None for a metric that is no percentile."""
    return float(metric[1:]) if metric[:1] == "p" and metric[1:2].isdigit() else None


def samples_needed(percentile: float, confidence: float = 0.99) -> int:
    """The least number of samples of which, with `confidence`, two or more lie above the true percentile.

    With fewer, there may be no slow request among them at all. 6,636 for p99.9, 662 for p99.
    Source: Wilks' order-statistic bound of the second order: (1 - p^n) - n (1 - p) p^(n - 1) >= confidence.
    """
    p = percentile / 100
    low, high = 1, 2
    while _two_above(p, high) < confidence:
        low, high = high, high * 2
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if _two_above(p, middle) < confidence else (low, middle)
    return low


def metric_value(metric: str, samples: npt.ArrayLike) -> float:
    """The mean or a percentile of samples [n]; a percentile is a sample that occurred, never an interpolation."""
    values = np.asarray(samples, dtype=np.float64)
    percentile = percentile_of(metric)
    if percentile is None:
        return float(values.mean())
    return float(np.percentile(values, percentile, method="inverted_cdf"))


def bootstrap_ratio(baseline: Sequence[Array], candidate: Sequence[Array], metric: str = "mean", seed: int = 0,
                    resamples: int = RESAMPLES) -> Ratio:
    """The ratio of a metric over rounds of samples: baseline[r] and candidate[r] were measured in the same round r.

    The percentile interval is widened for few rounds (Hesterberg 2015, "What Teachers Should Know about the
    Bootstrap", 5.3: the plain one is too narrow by about 1 - t/z sqrt((n - 1)/n)).
    """
    rounds = len(baseline)
    if rounds != len(candidate) or rounds == 0:
        raise ValueError(f"the rounds must be pairs: {rounds} of the baseline, {len(candidate)} of the candidate")
    value = metric_value(metric, np.concatenate(baseline)) / metric_value(metric, np.concatenate(candidate))
    if rounds < 2:
        return Ratio(value, 0.0, float("inf"), float("inf"))
    random = np.random.default_rng(seed)
    draws = random.multinomial(rounds, np.full(rounds, 1 / rounds), size=resamples)
    ratios = _resampled(metric, baseline, draws) / _resampled(metric, candidate, draws)
    low, high = np.quantile(ratios, _expanded_tails(rounds))
    return Ratio(value, float(low), float(high), float(np.log(ratios).std(ddof=1)))


def bootstrap_value(rounds: Sequence[Array], metric: str = "mean", seed: int = 0) -> tuple[float, float, float]:
    """A metric over rounds of samples with its 95 % interval: (value, low, high)."""
    value = metric_value(metric, np.concatenate(rounds))
    if len(rounds) < 2:
        return value, value, value
    random = np.random.default_rng(seed)
    draws = random.multinomial(len(rounds), np.full(len(rounds), 1 / len(rounds)), size=1000)
    low, high = np.quantile(_resampled(metric, rounds, draws), _expanded_tails(len(rounds)))
    return value, float(low), float(high)


def verdict(ratio: Ratio, floor: float) -> Verdict:
    """Faster or slower only if the whole interval is outside the noise floor, 1/(1 + floor) to 1 + floor."""
    if ratio.low > 1 + floor:
        return "faster"
    if ratio.high < 1 / (1 + floor):
        return "slower"
    return "cannot tell"


def noise_floor(*same_against_same: Ratio) -> float:
    """The largest distance from 1 among ratios of equal replicas, as a fraction; never below 1 %."""
    return max(LEAST_FLOOR, *(max(r.value, 1 / r.value) - 1 for r in same_against_same), LEAST_FLOOR)


def least_effect(ratio: Ratio, floor: float) -> float:
    """The least true difference, as a fraction, that would get a verdict in 80 % of such runs."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) + NormalDist().inv_cdf(POWER)
    return float((1 + floor) * np.exp(z * ratio.error) - 1)


def standard_error(ci95: tuple[float, float]) -> float:
    """The standard error of the logarithm of a ratio with this 95 % interval."""
    return float(np.log(ci95[1] / ci95[0])) / (2 * NormalDist().inv_cdf((1 + CONFIDENCE) / 2))


def differs(ratio: Ratio, tolerance: float) -> bool:
    """Whether the whole interval of a ratio of equal replicas lies beyond the tolerance: the machine favours one."""
    return verdict(ratio, tolerance) != "cannot tell"


def _two_above(p: float, n: int) -> float:
    return float(1 - p**n - n * (1 - p) * p ** (n - 1))


def _expanded_tails(rounds: int) -> tuple[float, float]:
    t = float(stdtrit(rounds - 1, (1 - CONFIDENCE) / 2))
    tail = NormalDist().cdf(t * (rounds / (rounds - 1)) ** 0.5)
    return tail, 1 - tail


def _resampled(metric: str, rounds: Sequence[Array], draws: npt.NDArray[np.int64]) -> Array:
    """The metric of each resample [i]; round r occurs draws[i, r] times in resample i."""
    percentile = percentile_of(metric)
    if percentile is None:
        sums = np.array([samples.sum() for samples in rounds])
        counts = np.array([samples.size for samples in rounds])
        return np.asarray((draws @ sums) / (draws @ counts), dtype=np.float64)
    values = np.concatenate(rounds)
    owner = np.repeat(np.arange(len(rounds)), [samples.size for samples in rounds])
    order = np.argsort(values, kind="stable")
    values, owner = values[order], owner[order]
    result = np.empty(len(draws))
    # In chunks of resamples: all together would take resamples x samples of memory.
    chunk = max(1, 4_000_000 // values.size)
    for start in range(0, len(draws), chunk):
        below = np.cumsum(draws[start:start + chunk][:, owner], axis=1)
        wanted = np.ceil(below[:, -1:] * (percentile / 100) - 1e-9)
        result[start:start + chunk] = values[np.argmax(below >= np.maximum(wanted, 1), axis=1)]
    return result
