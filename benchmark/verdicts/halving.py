"""Successive halving: measure all arms (configurations) briefly, the better half of them longer, and so on.

Source: Jamieson and Talwalkar (2016), "Non-stochastic Best Arm Identification and Hyperparameter Optimization".
"""
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

Arm = TypeVar("Arm", bound=Hashable)


@dataclass(frozen=True)
class Score:
    """Requests per second, and the latency in ms at the SLO's percentile with its limit (0: no SLO)."""

    rate_per_s: float
    latency_ms: float
    limit_ms: float = 0.0

    @property
    def met(self) -> bool:
        return not self.limit_ms or self.latency_ms <= self.limit_ms

    @property
    def rank(self) -> tuple[bool, float]:
        """Greater is better. A score that meets the SLO is above all that miss it; among those that meet it more
        throughput is better, among those that miss it less latency."""
        return self.met, self.rate_per_s if self.met else -self.latency_ms


def rungs(arms: int, seconds: float, last: int = 2) -> list[tuple[int, float]]:
    """(how many arms, seconds each) until `last` are left: half the arms, twice the time."""
    plan = []
    while arms > last:
        plan.append((arms, seconds))
        arms, seconds = max(last, arms // 2), seconds * 2
    return [*plan, (arms, seconds)]


def successive_halving(arms: Sequence[Arm], measure: Callable[[Arm, float], Score], seconds: float,
                       last: int = 2) -> list[tuple[Arm, Score]]:
    """The last arms with their scores from the last and longest measurement, best first."""
    standing = list(arms)
    for count, each in rungs(len(arms), seconds, last):
        scored = sorted(((arm, measure(arm, each)) for arm in standing[:count]), key=lambda pair: pair[1].rank,
                        reverse=True)
        standing = [arm for arm, _ in scored]
    return scored
