"""Compares a ratio measured now with a ratio stored by another run, both over the same baseline: pure.

The runs were not interleaved, so their milliseconds cannot be compared. Their ratios can: whatever slowed the machine
during a run slowed that run's baseline too. The errors combine as those of independent measurements.
"""
import math
from typing import cast

from benchmark.verdicts.comparison import TYPICAL, certain_verdict
from benchmark.verdicts.records import AgainstRecord, ComparisonRecord, Verdict
from benchmark.verdicts.statistics import Ratio, verdict


def against(now: ComparisonRecord, stored: ComparisonRecord) -> AgainstRecord:  # decision 151
    """The ratio of `now` over that of `stored`; over 1: the candidate of `now` is faster than the stored candidate.

    The distances of the interval's ends from the ratio are combined as the root of the sum of their squares, in
    logarithms; so are the noise floors. The typical latency's interval has the floor in it. INVALID if either
    comparison is INVALID.
    """
    reasons = [f"{name}: {reason}" for name, one in (("now", now), ("stored", stored)) for reason in one["reasons"]]
    bounds = [*now["ci95"], *stored["ci95"]]
    ratio = now["ratio"] / stored["ratio"]
    if not reasons and any(bound is None or bound <= 0 for bound in bounds):
        reasons = ["one of the two has no interval"]
    low, high = None, None
    floor = math.expm1(math.hypot(math.log1p(now["floor"]), math.log1p(stored["floor"])))
    found: Verdict = "cannot tell"
    if not reasons:
        now_low, now_high, stored_low, stored_high = cast(list[float], bounds)
        low = ratio / math.exp(math.hypot(math.log(now["ratio"] / now_low), math.log(stored_high / stored["ratio"])))
        high = ratio * math.exp(math.hypot(math.log(now_high / now["ratio"]), math.log(stored["ratio"] / stored_low)))
        found = verdict(Ratio(ratio, low, high, 0.0), floor) if now["metric"] != TYPICAL else certain_verdict(
            low, high, now.get("equal_within") or 0.0)
    return cast(AgainstRecord, {
        "baseline": now["baseline"], "candidate": now["candidate"], "stored": stored["candidate"],
        "protocol": now["protocol"], "batch": now["batch"], "metric": now["metric"], "ratio": ratio,
        "ci95": [low, high], "floor": floor, "verdict": found, "valid": not reasons, "reasons": reasons})
