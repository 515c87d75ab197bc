"""Which layers must go back to a higher precision so that a model keeps its budget: found with few trials.

    found = search(evaluate, ranked)        # ranked: the layers, the one that loses most first (export.precision.noise)
    found.kept                              # those that go back; found.trials: what was measured for each set tried

The worst layers go back first: 1, 2, 4, ... of them, until a trial is within the budget; then the smallest number is
found between the last two, and layers that were not to blame return to the lower precision. No graph is touched here.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from commandline import progress_console
from user_error import FailedError

MOST = 12  # trials of a search


@dataclass(frozen=True)
class Verdict:
    """What a trial measured: whether that is within the budget, in words, and figures for a report."""

    within: bool
    told: str
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """The layers that a trial kept in the higher precision, in the order of `ranked`, and its verdict."""

    kept: tuple[str, ...]
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        return {"kept": list(self.kept), "within": self.verdict.within, "measured": self.verdict.told,
                **self.verdict.figures}


@dataclass(frozen=True)
class Found:
    """`kept`: the layers that go back, the worst first; `trials`: all of them, in order."""

    kept: tuple[str, ...]
    trials: tuple[Trial, ...]

    @property
    def sentence(self) -> str:
        before, after = self.trials[0], next(one for one in self.trials if one.kept == self.kept)
        if not self.kept:
            return f"no layer goes back: {after.verdict.told}"
        layers = "1 layer goes" if len(self.kept) == 1 else f"{len(self.kept)} layers go"
        return (f"{layers} back ({', '.join(self.kept)}): {before.verdict.told} -> {after.verdict.told}, "
                f"{len(self.trials)} trials")


class OutsideError(FailedError):
    """No set of layers keeps the budget. `trials`: what was measured."""

    def __init__(self, message: str, trials: Sequence[Trial]) -> None:
        super().__init__(message)
        self.trials = tuple(trials)


def search(evaluate: Callable[[frozenset[str]], Verdict], ranked: Sequence[str], most: int = MOST) -> Found:
    """The smallest set of layers found that keeps the budget when they go back, in at most `most` trials.

    evaluate: makes the model with these layers in the higher precision, and measures it. The same layers and verdicts
    give the same result. Raises OutsideError if even with all layers back, or within `most` trials, no model keeps the
    budget.
    """
    trials = _Trials(evaluate, ranked, most)
    count = _doubled(trials)
    count = _fewest(trials, count)
    return Found(_without_the_innocent(trials, count), tuple(trials.done.values()))


class _Trials:
    """Evaluates sets of layers, each once."""

    def __init__(self, evaluate: Callable[[frozenset[str]], Verdict], ranked: Sequence[str], most: int) -> None:
        self.ranked = tuple(dict.fromkeys(ranked))
        self.done: dict[frozenset[str], Trial] = {}
        self._evaluate, self._most = evaluate, most

    @property
    def left(self) -> int:
        return self._most - len(self.done)

    def within(self, kept: Sequence[str]) -> bool:
        key = frozenset(kept)
        if key not in self.done:
            trial = self.done[key] = Trial(tuple(kept), self._evaluate(key))
            console = progress_console()
            if console.is_terminal:
                console.print(f"  {len(self.done)}: {len(kept)} of {len(self.ranked)} layers back: "
                              f"{trial.verdict.told}, {'within' if trial.verdict.within else 'outside'}",
                              soft_wrap=True)
        return self.done[key].verdict.within

    def outside(self, why: str) -> OutsideError:
        last = list(self.done.values())[-1]
        return OutsideError(f"{why}: {last.verdict.told}; allow more with --max-accuracy-drop or --max-error, or take "
                            "another precision", list(self.done.values()))


def _doubled(trials: _Trials) -> int:
    """The first of 0, 1, 2, 4, ... layers, or all, that is within."""
    layers, count = len(trials.ranked), 0
    while True:
        if trials.within(trials.ranked[:count]):
            return count
        if count == layers:
            raise trials.outside(f"the budget is not kept even with all {layers} layers in the higher precision")
        # The last trial is all layers: it tells whether any set can be within.
        count = layers if trials.left <= 1 else min(max(2 * count, 1), layers)
        if not trials.left:
            raise trials.outside(f"the budget is not kept after {len(trials.done)} trials")


def _fewest(trials: _Trials, count: int) -> int:
    """The smallest number of the worst layers between the last one that was outside and `count`."""
    outside = max((len(one.kept) for one in trials.done.values() if not one.verdict.within), default=-1)
    while count - outside > 1 and trials.left:
        middle = (count + outside) // 2
        if trials.within(trials.ranked[:middle]):
            count = middle
        else:
            outside = middle
    return count


def _without_the_innocent(trials: _Trials, count: int) -> tuple[str, ...]:
    """Returns groups of layers to the lower precision, smaller and smaller ones, as long as the budget is kept.

    The order is of each layer's own loss; what the model's answer makes of that may be little.
    """
    kept = list(trials.ranked[:count])
    size = (count + 1) // 2
    while size and len(kept) > 1 and trials.left:
        # The last one is needed if the number is the smallest; the one that loses least is tried first.
        for end in range(len(kept) - 1, 0, -size):
            if not trials.left:
                break
            fewer = [*kept[:max(end - size, 0)], *kept[end:]]
            if trials.within(fewer):
                kept = fewer
        size //= 2
    return tuple(kept)
