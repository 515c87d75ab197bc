"""Pure decisions about capacity: where the knee of a curve is, whether an SLO was met, which rate to try next."""
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scipy.special import betaincinv

from benchmark.verdicts.records import Decision as Decision
from benchmark.verdicts.records import PointRecord
from benchmark.verdicts.statistics import CONFIDENCE

# The percentile of a curve's latency, also used to find the knee: 64 requests are enough to measure it.
CURVE_PERCENTILE = 90


@dataclass(frozen=True)
class Point:
    """One load that was offered: requests/s answered, and their latency in ms at the percentile asked for."""

    offered: float
    rate_per_s: float
    latency_ms: float

    def to_json(self) -> PointRecord:
        return {"offered": self.offered, "rate_per_s": self.rate_per_s, "latency_ms": self.latency_ms}


@dataclass(frozen=True)
class Bracket:
    """The highest rate that met an SLO and the lowest rate that missed it; None if no such rate was found."""

    met: float | None
    missed: float | None
    probes: tuple[tuple[float, Decision], ...]


def knee(points: Sequence[Point]) -> Point:
    """The load with the most throughput per latency: beyond it, latency grows faster than throughput.

    Source: Kleinrock's power (1979), throughput over delay, which is greatest at the knee.
    """
    return max(points, key=lambda point: point.rate_per_s / point.latency_ms)


def slo_decision(beyond: int, requests: int, percentile: float, confidence: float = CONFIDENCE) -> Decision:
    """Whether the true share of requests beyond the limit is at most 1 - percentile, with confidence.

    Source: Clopper and Pearson's exact one-sided bounds. For p99, "met" needs at least 299 requests, none of them slow.
    """
    allowed, tail = 1 - percentile / 100, 1 - confidence
    if requests == 0:
        return "undecided"
    upper = 1.0 if beyond == requests else float(betaincinv(beyond + 1, requests - beyond, 1 - tail))
    lower = 0.0 if beyond == 0 else float(betaincinv(beyond, requests - beyond + 1, tail))
    if upper <= allowed:
        return "met"
    return "missed" if lower > allowed else "undecided"


def search(probe: Callable[[float], Decision], start: float, tolerance: float = 0.05, most: int = 20,
           least: float = 0.0) -> Bracket:
    """Brackets the highest rate for which `probe` returns "met": doubles or halves the rate until both sides are known,
    then bisects.

    "undecided" counts as missed: only a rate that was shown to meet the SLO counts as met. Ends when the bracket is
    within `tolerance` (a fraction of the rate), after `most` probes, or if the rate `least`, below which none can be
    measured, is missed.
    """
    met: float | None = None
    missed: float | None = None
    probes: list[tuple[float, Decision]] = []
    rate = start
    while len(probes) < most:
        decision = probe(rate)
        probes.append((rate, decision))
        if decision == "met":
            met = rate
        else:
            missed = rate
        if met is not None and missed is not None:
            if missed - met <= tolerance * met:
                break
            rate = (met + missed) / 2
        elif missed is None:
            rate *= 2
        elif rate <= least:
            break
        else:
            rate = max(rate / 2, least)
    return Bracket(met, missed, tuple(probes))
