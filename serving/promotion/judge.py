"""Whether a canary may become stable, from what is seen of it request by request: a pure function.

Each trial is one request that is sent, in random order, to `stable`, to the canary, and to the control: a fresh process
that serves the stable version twice. Four things are judged, each by e-processes (evidence.py), so that the trials may
stop at any time:

errors    The share of requests that the canary fails and stable answers: above `max_error_ratio`, and more often than
          stable alone fails some. Once the canary has failed one, stable is asked ten times, so that few more say it.
answers   The share of answers that are not stable's: likewise, beside how often stable's own differ.
typical   The centre of the log ratios of latencies within a trial: below `least_ratio`.
slowest   How often the canary alone is beyond a threshold: times that 4, 1 or half of 100 requests exceeded so far, and
          ratios within a trial likewise. With equal versions each is the one equally often, whatever the machine does,
          however requests differ, and whatever distribution latencies have.

Latency is a reason to refuse the canary only if it is certainly worse than stable, and if one of the control is not as
much worse than the other: what differs between equals, of which one was loaded last, is no reason. That the control's
process as a whole may be quicker or slower than the server plays no part. An equal canary is refused at most once in
100 times: for its slowest requests once in 150, for errors and for answers once in 800, for the typical once in 2,000.

The canary passes before the bake ends when the shares of errors and of other answers are certainly below
`certain_ratio`, the typical ratio above `least_ratio`, and its 99th percentile not over stable's / `worst_ratio`.
"""
from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

import confidence_sequence
from serving.promotion.evidence import Centre, Share, mean
from serving.promotion.settings import Bake

ALONE, SLOWER, SLOWEST = map(math.log, (800, 2000, 150))
PASSING = math.log(100)
# That the control shows less of it: it matters only where versions that were just loaded differ from older ones.
_UNLIKE_CONTROL = math.log(40)
# The first trials of a version that was just loaded say how warm it is, and not how fast.
WARMING = 10
# How often stable is asked again.
AGAIN = 9
# Times what is allowed that is bet on: half of the bets are on one in a hundred, with the default limit.
_SO_MUCH_MORE = (4, 20, 20, 200)
# What else is bet on: that so much more than its fair share of all that befalls one alone is the canary's.
_ITS_SHARE = (0.25, 0.75, 1.0, 1.0)
# A share of 0 counts as this.
_NONE = 1e-5
# The shares of what was seen so far that thresholds for the slowest are above, and the share of all that are beyond one
# alone that is bet on.
_RARE = (0.96, 0.99, 0.995)
_MORE_OFTEN = (0.75,)
# Values before a threshold is drawn from them.
_BEFORE = 100


class Verdict(StrEnum):
    """What is to be done now."""

    PROMOTE = "promote"
    ABORT = "abort"
    LOOK = "keep looking"


@dataclass(frozen=True)
class Again:
    """Whether stable failed, and whether its answer was its first one; None where one of both failed."""

    failed: bool
    agrees: bool | None


@dataclass(frozen=True)
class Trial:
    """Seconds that one request took; None: it failed, or without a control was not sent to its two.

    agrees: whether the canary's answer is stable's; None where one of them failed. again: the same request, asked of
    stable once more each time.
    """

    stable: float | None
    canary: float | None
    control: tuple[float | None, float | None] = (None, None)
    agrees: bool | None = True
    again: tuple[Again, ...] = ()


@dataclass(frozen=True)
class Judgement:
    """A verdict, why, and what it rests on. `doubtful`: there is no reason to refuse the canary, and none to trust it.
    """

    verdict: Verdict
    words: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    doubtful: bool = False


def judge(trials: Iterable[Trial], limits: Bake) -> Judgement:  # decision 244
    """The first verdict that is certain; without one, to keep looking."""
    bench = Bench(limits)
    for trial in trials:
        if bench.look(trial) is not Verdict.LOOK:
            break
    return bench.judgement()


class Bench:
    """The same trial by trial."""

    def __init__(self, limits: Bake) -> None:
        self._limits, self._trials, self._answered = limits, 0, 0
        self._failing, self._differing = _Alone(limits), _Alone(limits)
        self._latency = _Latency(limits)
        self._found = Verdict.LOOK, "nothing is certain yet"

    def look(self, trial: Trial) -> Verdict:
        """What is to be done after one more trial."""
        self._trials += 1
        again = trial.again if self.stable_times > 1 else ()
        self._failing.add(trial.canary is None, [trial.stable is None, *(one.failed for one in again)])
        self._answered += trial.canary is not None
        if trial.agrees is not None:
            self._differing.add(not trial.agrees, [not one.agrees for one in again if one.agrees is not None])
        first, second = trial.control
        if self._trials > WARMING and trial.stable and trial.canary:
            self._latency.add(trial.stable, trial.canary, (first, second) if first and second else None)
        self._found = self._decided()
        return self._found[0]

    @property
    def stable_times(self) -> int:
        """How often stable is to be asked in the next trial: once, until something has befallen the canary. What then
        does not befall stable in many more requests is not chance."""
        return 1 if not self._failing.count and not self._differing.count else 1 + AGAIN

    def _decided(self) -> tuple[Verdict, str]:
        if self._failing.certain:
            return Verdict.ABORT, f"the canary fails requests that stable answers: {self._failing.words}"
        if self._differing.certain:
            return Verdict.ABORT, f"the canary answers otherwise: {self._differing.words}"
        if why := self._latency.worse:
            return Verdict.ABORT, why
        if self._failing.passes and self._differing.passes and self._latency.passes:
            return Verdict.PROMOTE, ("errors, answers and latency are certainly within what is allowed, after "
                                     f"{self._trials} requests")
        return Verdict.LOOK, f"nothing is certain after {self._trials} requests"

    def judgement(self) -> Judgement:
        """The verdict, with all figures."""
        verdict, words = self._found
        if not self._answered:
            return Judgement(Verdict.LOOK, f"the canary answered none of {self._trials} requests" if self._trials else
                             "there was no traffic to judge by", doubtful=True)
        doubts = [f"{said}: {found.words}" for said, found in (
            ("it failed requests", self._failing), ("it answered otherwise", self._differing)) if found.doubtful]
        if doubts and verdict is Verdict.LOOK:
            words = f"{words}, but {' and '.join(doubts)}"
        return Judgement(verdict, words, {
            "requests": self._trials, "failed_alone": self._failing.count, "stable_failed_alone": self._failing.others,
            "answered_otherwise": self._differing.count, **self._latency.figures()}, bool(doubts))


class _Alone:
    """How often something befalls the canary and not stable, over what is allowed and over what is chance."""

    def __init__(self, limits: Bake) -> None:
        self.count = self.others = self._trials = 0
        self._most, certain = max(limits.max_error_ratio, _NONE), limits.certain_ratio
        self._above = Share(self._most, [min(0.9, factor * self._most) for factor in _SO_MUCH_MORE])
        self._below = Share(certain, [certain / 20, certain / 4])
        # That it is the canary's, as bets on its share of all that befalls one alone: half of them on all of it.
        self._bets = [0.0] * len(_ITS_SHARE)

    def add(self, canary: bool, stable: Sequence[bool]) -> None:
        """`stable`: whether it befell stable, each time that it was asked; empty if there is nothing to compare."""
        alone = canary and not any(stable)
        self._trials += 1
        self._above.add(alone)
        self._below.add(alone)
        self.count += alone
        if stable and canary + sum(stable) == 1:
            fair = 1 / (1 + len(stable))
            shares = [fair + part * (1 - fair) for part in _ITS_SHARE]
            self._bets = [bet + (math.log(share / fair) if alone else math.log1p(-share) - math.log1p(-fair)
                                 if share < 1 else -math.inf) for bet, share in zip(self._bets, shares, strict=True)]
            self.others += not alone

    @property
    def certain(self) -> bool:
        """More often than allowed, and not by chance."""
        return self._above.log > ALONE and mean(self._bets) > ALONE

    @property
    def doubtful(self) -> bool:
        """Seen more than once, oftener than allowed, and oftener than of stable."""
        return self.count > max(1, self.others, self._most * self._trials)

    @property
    def passes(self) -> bool:
        """Certainly rarer than `certain`."""
        return self._below.log > PASSING

    @property
    def words(self) -> str:
        return f"{self.count} of {self._trials} alone" + (f", stable {self.others}" if self.others else "")


class _Latency:
    """The typical and the slowest requests of the canary, beside stable's, and the control's beside each other."""

    def __init__(self, limits: Bake) -> None:
        self._limits, least = limits, limits.least_ratio or 1.0
        self._typical, self._typical_beyond = Centre(math.log(least)), Centre(math.log(least))
        self._slowest, self._slowest_beyond = _Slowest(least), _Slowest(least)
        self._within = _Within(1 / limits.worst_ratio)
        self._seconds: list[tuple[float, float]] = []
        self._process = _Middle()
        self._answered = 0

    def add(self, stable: float, canary: float, control: tuple[float, float] | None) -> None:
        ratio = math.log(stable / canary)
        # A control that answers now and then only is none.
        self._answered += control is not None
        self._typical.add(ratio)
        self._slowest.add(canary, stable, canary / stable, stable / canary)
        self._within.add(canary, stable)
        if control is not None:
            first, second = control
            self._typical_beyond.add(ratio - math.log(first / second))
            # As if the control's process were as quick as the server's, by what was seen before.
            level = math.exp(self._process.value)
            self._slowest_beyond.add(canary, second * level, canary / stable, second / first)
            self._process.add(math.log(stable / first))
        self._seconds.append((stable, canary))

    @property
    def worse(self) -> str:
        """Why the canary is refused, or ""."""
        if not self._limits.least_ratio:
            return ""
        if self._typical.below > SLOWER and self._unlike_control(self._typical_beyond.below):
            ratio, low, high = self._ratio()
            return (f"the canary is slower: ratio {ratio:.3f} [{low:.3f}-{high:.3f}] after {len(self._seconds)} "
                    f"requests, and {self._limits.least_ratio:g} is allowed")
        if self._slowest.log > SLOWEST and self._unlike_control(self._slowest_beyond.log):
            return (f"the canary's slowest requests are slower: its 99th percentile is {self._percentile(1, 99):.3g} "
                    f"ms, stable's {self._percentile(0, 99):.3g} ms after {len(self._seconds)} requests")
        return ""

    def _unlike_control(self, evidence: float) -> bool:
        return 2 * self._answered < len(self._seconds) or evidence > _UNLIKE_CONTROL

    @property
    def passes(self) -> bool:
        """Certainly within what is allowed."""
        return not self._limits.least_ratio or (self._typical.above > PASSING and self._within.log > PASSING)

    def figures(self) -> dict[str, Any]:
        if not self._seconds:
            return {}
        ratio, low, high = self._ratio()
        return {"ratio": ratio, "ci95": [low, high], **{
            f"{who}_p{share}_ms": self._percentile(place, share)
            for place, who in ((0, "stable"), (1, "canary")) for share in (50, 99)}}

    def _ratio(self) -> tuple[float, float, float]:
        """Stable's time over the canary's, with its confidence sequence."""
        found = confidence_sequence.centre([math.log(each[0] / each[1]) for each in self._seconds])
        return math.exp(found.value), math.exp(found.low), math.exp(found.high) if found.high < 700 else math.inf

    def _percentile(self, place: int, share: int) -> float:
        return 1e3 * float(np.percentile([each[place] for each in self._seconds], share))


class _Slowest:
    """Evidence that of two times in a trial the canary's, multiplied by `scale`, is more often the only one beyond
    thresholds: of the times, and of each beside its own partner."""

    def __init__(self, scale: float) -> None:
        self._scale = scale
        self._seen: tuple[list[float], list[float]] = ([], [])
        self._evidence = [[Share(0.5, _MORE_OFTEN) for _ in _RARE] for _ in self._seen]

    def add(self, canary: float, other: float, canary_beside: float, other_beside: float) -> None:
        for seen, kinds, mine, its in zip(self._seen, self._evidence, (canary * self._scale,
                                          canary_beside * self._scale), (other, other_beside), strict=True):
            if len(seen) >= _BEFORE:
                for rare, evidence in zip(_RARE, kinds, strict=True):
                    limit = seen[int(rare * len(seen))]
                    if (mine > limit) != (its > limit):
                        evidence.add(mine > limit)
            insort(seen, its)

    @property
    def log(self) -> float:
        return mean([one.log for kinds in self._evidence for one in kinds])


class _Within:
    """Evidence that fewer than 1 of 100 of the canary's times are over `factor` times what 99 of 100 of stable's were
    below so far."""

    def __init__(self, factor: float) -> None:
        self._factor, self._seen, self._evidence = factor, list[float](), Share(0.01, [0.0005, 0.0025])

    def add(self, canary: float, stable: float) -> None:
        if len(self._seen) >= _BEFORE:
            # Two standard errors lower: so few values may say too much.
            level = 0.99 - 2 * math.sqrt(0.01 * 0.99 / len(self._seen))
            self._evidence.add(canary > self._factor * self._seen[int(level * len(self._seen))])
        insort(self._seen, stable)

    @property
    def log(self) -> float:
        return self._evidence.log


class _Middle:
    """The median of what was added."""

    def __init__(self) -> None:
        self._seen: list[float] = []

    def add(self, value: float) -> None:
        insort(self._seen, value)

    @property
    def value(self) -> float:
        return self._seen[len(self._seen) // 2] if self._seen else 0.0
