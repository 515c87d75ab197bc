"""Successive halving: measure many briefly, the better half longer, and so on.

Source: Jamieson and Talwalkar (2016), "Non-stochastic Best Arm Identification and Hyperparameter Optimization".
"""
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

Arm = TypeVar("Arm", bound=Hashable)


@dataclass(frozen=True)
class Score:
    """Requests per second, and the promised percentile in ms beside its limit (0: no promise)."""

    rate_per_s: float
    latency_ms: float
    limit_ms: float = 0.0

    @property
    def kept(self) -> bool:
        return not self.limit_ms or self.latency_ms <= self.limit_ms

    @property
    def rank(self) -> tuple[bool, float]:
        """Greater is better: what keeps the promise first, by throughput; then what breaks it, by how little."""
        return self.kept, self.rate_per_s if self.kept else -self.latency_ms


def rungs(arms: int, seconds: float, last: int = 2) -> list[tuple[int, float]]:
    """(how many arms, seconds each) until `last` are left: half the arms, twice the time."""
    plan = []
    while arms > last:
        plan.append((arms, seconds))
        arms, seconds = max(last, arms // 2), seconds * 2
    return [*plan, (arms, seconds)]


def successive_halving(arms: Sequence[Arm], measure: Callable[[Arm, float], Score], seconds: float,
                       last: int = 2) -> list[tuple[Arm, Score]]:
    """The last arms with their longest measurement, best first."""
    standing = list(arms)
    for count, each in rungs(len(arms), seconds, last):
        scored = sorted(((arm, measure(arm, each)) for arm in standing[:count]), key=lambda pair: pair[1].rank,
                        reverse=True)
        standing = [arm for arm, _ in scored]
    return scored
