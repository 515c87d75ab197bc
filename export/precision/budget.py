"""How far a version in reduced precision may be from its source, and whether a measured one is within that.

Pure: from what was measured to sentences. Points are hundredths: from 97.2 % to 95.0 % are 2.2 points.
"""
from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from export.precision.reduction import Reduction

# The served answers of other requests are a little further off than the worst that was seen.
MARGIN = 2.0
_ROUNDING = 1e-9  # 100 * (1 - 0.995) is a little over 0.5


@dataclass(frozen=True)
class Accuracy:
    """The share (0..1) of labelled examples whose top class is the label."""

    before: float
    after: float
    examples: int
    output: str

    @property
    def lost(self) -> float:
        """Points."""
        return 100 * (self.before - self.after)

    def __str__(self) -> str:
        return f"{self.before:.2%} -> {self.after:.2%}"


@dataclass(frozen=True)
class Measured:
    """One signature's answers beside the source's, by output.

    errors: of float outputs, max|a-b| / max|a| over all examples; scales: that max|a|; agreement: the share (0..1) of
    examples with the same top class, or with the same integers, strings or booleans.
    """

    examples: int
    errors: Mapping[str, float] = field(default_factory=dict)
    scales: Mapping[str, float] = field(default_factory=dict)
    agreement: Mapping[str, float] = field(default_factory=dict)
    accuracy: Accuracy | None = None

    @property
    def error(self) -> float:
        """The largest error of an output."""
        return max(self.errors.values(), default=0.0)

    def _labelled(self, output: str) -> bool:
        return self.accuracy is not None and output == self.accuracy.output

    def judged_by(self, output: str) -> str:
        """What decides about an output that has no stated error: its accuracy, its agreement, or nothing ("")."""
        return "accuracy" if self._labelled(output) else "agreement" if output in self.agreement else ""


def for_random_weights(allowed: Reduction) -> Reduction:  # decision 183
    """What is allowed of a model whose weights are random: any loss of its classes, unless something was stated."""
    return replace(allowed, max_accuracy_drop=100.0) if allowed.max_accuracy_drop is None else allowed


def undecided(key: str, measured: Measured, allowed: Reduction) -> str:
    """Why nothing can decide whether a signature is good enough, and the way on; "" if something does."""
    if allowed.max_error is not None:
        return ""
    for output in measured.errors:
        if not measured.judged_by(output):
            return (f"signature '{key}': output '{output}' has no classes of which the top one could be compared: "
                    "state with --max-error X how far it may be off (max|a-b| / max|a|, such as 0.05)")
    return ""


def outside(measured: Measured, allowed: Reduction) -> list[tuple[str, str]]:
    """(output, sentence) of all that is outside of the budget; none: it is good enough."""
    found = []
    if (accuracy := measured.accuracy) and accuracy.lost > allowed.drop + _ROUNDING:
        found.append((accuracy.output, f"accuracy {100 * accuracy.before:.1f} -> {100 * accuracy.after:.1f} on "
                      f"{accuracy.examples} examples, over {allowed.drop:g} points"))
    for output, share in measured.agreement.items():
        if measured.judged_by(output) == "agreement" and 100 * (1 - share) > allowed.drop + _ROUNDING:
            found.append((output, f"'{output}' has another top class or value for {100 * (1 - share):.1f} % of "
                          f"{measured.examples} examples, over {allowed.drop:g} points"))
    if allowed.max_error is not None:
        found += [(output, f"'{output}' is off by {error:.2g} of max|a|, over {allowed.max_error:g}")
                  for output, error in measured.errors.items() if error > allowed.max_error]
    return found


def told(measured: Collection[Measured]) -> str:
    """What was measured, in words: the accuracy that lost most, or the worst agreement; and the largest error."""
    accuracy = max((one.accuracy for one in measured if one.accuracy), key=lambda one: one.lost, default=None)
    worst = min((share for one in measured for share in one.agreement.values()), default=None)
    parts = [f"accuracy {accuracy}"] if accuracy else [] if worst is None else [f"top class the same for {worst:.2%}"]
    return ", ".join([*parts, f"max error {max((one.error for one in measured), default=0.0):.2g}"])


def row(output: str, measured: Measured, allowed: Reduction) -> str:
    """The name of the row by which an output was judged, as reports print it."""
    by = measured.judged_by(output)
    parts = [f"at most {allowed.drop:g} points of {by} lost"] if by else []
    if allowed.max_error is not None and output in measured.errors:
        parts.append(f"|a-b| <= {allowed.max_error:g} * max|a|")
    return "reduced precision, " + (" and ".join(parts) or "nothing asked of random weights")


def stated(measured: Mapping[str, Measured], allowed: Reduction) -> dict[str, Any]:  # decision 181
    """The budget of a version's manifest: by signature and output the largest absolute error of an answer."""
    bounds = {key: {output: (allowed.max_error if allowed.max_error is not None else MARGIN * error)
                    * one.scales.get(output, 0.0) for output, error in one.errors.items()}
              for key, one in measured.items()}
    # Of a few requests a larger share may differ than of all examples.
    exact = any(output not in one.errors for one in measured.values() for output in one.agreement)
    return {"signatures": bounds, "disagreement": min(1.0, MARGIN * allowed.drop / 100) if exact else 0.0,
            "max_accuracy_drop": allowed.drop, "max_error": allowed.max_error}
