"""Which candidate is published: from measured figures to a name, and a reason for each that lost. Pure."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log
from typing import Any, Literal

ORIGINAL, FLOAT32 = "original", "float32"
Verdict = Literal["faster", "slower", "equal", "cannot tell"]


@dataclass(frozen=True)
class Ratio:
    """The original's mean time over a candidate's at one batch size, with its 95 % interval and the noise floor.

    The verdict is the comparison's: faster or slower only if the whole interval is outside of the noise floor.
    """

    value: float
    low: float
    high: float
    floor: float
    verdict: Verdict
    why_invalid: str = ""

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}-{self.high:.2f}]"

    def to_json(self) -> dict[str, Any]:
        return {"ratio": self.value, "ci95": [self.low, self.high], "noise_floor": self.floor, "verdict": self.verdict,
                **({"invalid": self.why_invalid} if self.why_invalid else {})}


Ratios = Mapping[int, Ratio]  # by batch size


def mean(ratios: Ratios) -> float:
    """The geometric mean over the batch sizes: twice as fast at one and half as fast at another is 1."""
    return exp(sum(log(ratio.value) for ratio in ratios.values()) / len(ratios))


def not_faster(ratios: Ratios) -> str:
    """The first batch size at which a candidate is not faster beyond noise, with its figures; "" if it always is."""
    for batch, ratio in ratios.items():
        if ratio.verdict != "faster" or ratio.low <= 1:
            invalid = f", which could not be told: {ratio.why_invalid}" if ratio.why_invalid else ""
            return f"{ratio} at batch {batch}, noise floor ±{ratio.floor:.1%}{invalid}"
    return ""


@dataclass(frozen=True)
class Choice:
    """`name`: of the candidate to publish, or ORIGINAL: the source unchanged. `lost`: why not, by candidate."""

    name: str
    why: str
    lost: Mapping[str, str]


def choose(measured: Mapping[str, Ratios]) -> Choice:  # decision 180
    """The fastest of the candidates whose whole interval is above 1 at every batch size, by the geometric mean.

    measured: the survivors' ratios over the original, FLOAT32 among them if it survived. If none is faster, FLOAT32 is
    chosen; or ORIGINAL if that is slower than the original anywhere, or did not survive.
    """
    ranked = sorted((name for name, ratios in measured.items() if not not_faster(ratios)),
                    key=lambda name: -mean(measured[name]))
    if ranked:
        best = ranked[0]
        why = f"{best} is the fastest: {in_words(measured[best])}"
    elif FLOAT32 in measured and all(ratio.verdict != "slower" for ratio in measured[FLOAT32].values()):
        best, why = FLOAT32, f"no candidate is faster than the original at every batch size: {FLOAT32} is not slower"
    else:
        best, why = ORIGINAL, "no candidate is faster than the original at every batch size, and " + (
            f"{FLOAT32} is slower: " + in_words(measured[FLOAT32]) if FLOAT32 in measured else (
                f"{FLOAT32} is no candidate")) + "; the original is published unchanged"
    return Choice(best, why, {name: _why_lost(name, best, measured) for name in measured if name != best})


def _why_lost(name: str, best: str, measured: Mapping[str, Ratios]) -> str:
    if slow := not_faster(measured[name]):
        return f"not proven faster than the original: {slow}"
    return (f"slower than {best}: in the geometric mean of its ratios {mean(measured[name]):.2f}, not "
            f"{mean(measured[best]):.2f}")


def in_words(ratios: Ratios) -> str:
    return ", ".join(f"{ratio} at batch {batch}" for batch, ratio in ratios.items())
