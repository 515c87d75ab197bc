"""Whether a canary may become stable, from what is seen of it request by request: a pure function.

Each trial is one request that is sent, in random order, to `stable`, to the canary, and to the control: a fresh process
that serves the stable version twice. Four things are judged, each by e-processes (evidence.py), so that the trials may
stop at any time:

errors    The share of requests that the canary alone fails: above `max_error_ratio`, and not as often as each of the
          others alone fails some.
answers   The share of answers that differ from stable's, while both of the control agree: likewise.
typical   The centre of the log ratios of latencies within a trial: below `least_ratio`.
slowest   How often the canary alone is beyond a threshold: times that 4, 1 or half of 100 requests exceeded so far, and
          ratios within a trial likewise. With equal versions each is the one equally often, whatever the machine does,
          however requests differ, and whatever distribution latencies have.

Latency is a reason to refuse the canary only if it is certainly worse than stable, and if one of the control is not as
much worse than the other: what differs between equals, of which one was loaded last, is no reason. That the control's
process as a whole may be quicker or slower than the server plays no part. An equal canary is refused at most once in
100 times: for its slowest requests once in 140, for errors once in 600, for each of the others once in 2,000.

The canary passes before the bake ends when the shares of errors and of other answers are certainly below
`certain_ratio`, the typical ratio above `least_ratio`, and its 99th percentile not over stable's / `worst_ratio`.
"""
from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

import confidence_sequence
from serving.promotion.evidence import Centre, Share, mean
from serving.promotion.settings import Bake

FAILING, DIFFERING, SLOWER, SLOWEST = map(math.log, (600, 2000, 2000, 140))
PASSING = math.log(100)
# That the control shows less of it: it matters only where versions that were just loaded differ from older ones.
_UNLIKE_CONTROL = math.log(40)
# The first trials of a version that was just loaded say how warm it is, and not how fast.
WARMING = 10
# Of failures of one alone while nobody else fails any: so certain that it is no chance that all are the canary's.
_ONLY_ONE = math.log(40)
# A limit of 0 counts as this.
_NONE = 1e-5
_RARE = (0.96, 0.99, 0.995)
# Values before a threshold is drawn from them.
_BEFORE = 100
_MORE_OFTEN = (0.75,)


class Verdict(StrEnum):
    """What is to be done now."""

    PROMOTE = "promote"
    ABORT = "abort"
    LOOK = "keep looking"


@dataclass(frozen=True)
class Trial:
    """Seconds that one request took; None: it failed. `control`: both of the control's, or None without a control.

    agrees: whether the canary's answer is stable's; control_agrees: whether the control's are equal; None where one of
    them failed.
    """

    stable: float | None
    canary: float | None
    control: tuple[float | None, float | None] | None = None
    agrees: bool | None = True
    control_agrees: bool | None = True


@dataclass(frozen=True)
class Judgement:
    """A verdict, why, and what it rests on."""

    verdict: Verdict
    words: str
    figures: Mapping[str, Any] = field(default_factory=dict)


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
        self._failing, self._differing = (_Alone(limits, certain) for certain in (FAILING, DIFFERING))
        self._latency = _Latency(limits)
        self._found = Verdict.LOOK, "nothing is certain yet"

    def look(self, trial: Trial) -> Verdict:
        """What is to be done after one more trial."""
        self._trials += 1
        control = trial.control or ()
        others = [seconds is None for seconds in (trial.stable, *control)]
        self._failing.add(trial.canary is None, others)
        self._answered += trial.stable is not None or trial.canary is not None
        if trial.agrees is not None:
            self._differing.add(not trial.agrees, [trial.control_agrees is False] if control else [])
        if self._trials > WARMING and trial.stable and trial.canary:
            if not control:
                self._latency.add(trial.stable, trial.canary, None)
            elif control[0] and control[1]:
                self._latency.add(trial.stable, trial.canary, (control[0], control[1]))
        self._found = self._decided()
        return self._found[0]

    def _decided(self) -> tuple[Verdict, str]:
        if self._failing.certain:
            return Verdict.ABORT, f"the canary fails requests that others answer: {self._failing.words}"
        if self._differing.certain:
            return Verdict.ABORT, f"the canary answers otherwise: {self._differing.words}"
        if why := self._latency.worse:
            return Verdict.ABORT, why
        if self._failing.passes and self._differing.passes and self._latency.passes:
            return Verdict.PROMOTE, (f"errors, answers and latency are certainly within what is allowed, after "
                                     f"{self._trials} requests")
        return Verdict.LOOK, f"nothing is certain after {self._trials} requests"

    def judgement(self) -> Judgement:
        """The verdict, with all figures."""
        verdict, words = self._found
        if not self._answered:
            return Judgement(Verdict.LOOK, f"neither stable nor the canary answered any of {self._trials} requests"
                             if self._trials else "there was no traffic to judge by")
        return Judgement(verdict, words, {
            "requests": self._trials, "failed_alone": self._failing.count, "others_failed_alone": self._failing.others,
            "answered_otherwise": self._differing.count, **self._latency.figures()})


class _Alone:
    """How often something befalls the canary and none of the others."""

    def __init__(self, limits: Bake, certainly: float) -> None:
        self.count = self.others = 0
        self._certainly, self._trials, self._fellows = certainly, 0, 0
        most, certain = max(limits.max_error_ratio, _NONE), limits.certain_ratio
        self._above = Share(most, [min(0.9, factor * most) for factor in (4, 20, 100, 1000)])
        self._below = Share(certain, [certain / 20, certain / 4])
        self._it: Share | None = None

    def add(self, canary: bool, others: list[bool]) -> None:
        self._trials, alone = self._trials + 1, canary and not any(others)
        self._above.add(alone)
        self._below.add(alone)
        self.count += alone
        self._fellows = len(others)
        if not others:
            return
        if self._it is None:
            # Of equals each is the only one equally often.
            fair = 1 / (1 + len(others))
            self._it = Share(fair, [fair + part * (1 - fair) for part in (0.25, 0.5, 0.75)])
        if canary + sum(others) == 1:
            self._it.add(alone)
            self.others += not alone

    @property
    def certain(self) -> bool:
        """More often than allowed, and not as often as the others alone."""
        if self._above.log < self._certainly:
            return False
        if self.others and self._it is not None:
            return self._it.log > self._certainly
        return not self._fellows or self.count * math.log(1 + self._fellows) > _ONLY_ONE + math.log(2)

    @property
    def passes(self) -> bool:
        """Certainly rarer than `certain`."""
        return self._below.log > PASSING

    @property
    def words(self) -> str:
        return f"{self.count} of {self._trials} alone" + (f", others {self.others} alone" if self.others else "")


class _Latency:
    """The typical and the slowest requests of the canary, beside stable's, and the control's beside each other."""

    def __init__(self, limits: Bake) -> None:
        self._limits, least = limits, max(limits.least_ratio, _NONE)
        self._typical, self._typical_beyond = Centre(math.log(least)), Centre(math.log(least))
        self._slowest, self._slowest_beyond = _Slowest(least), _Slowest(least)
        self._within = _Within(1 / limits.worst_ratio)
        self._seconds: list[tuple[float, ...]] = []
        self._process = _Middle()
        self._controlled = False

    def add(self, stable: float, canary: float, control: tuple[float, float] | None) -> None:
        ratio, self._controlled = math.log(stable / canary), control is not None
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
        self._seconds.append((stable, canary, *(control or ())))

    @property
    def worse(self) -> str:
        """Why the canary is refused, or ""."""
        if self._typical.below > SLOWER and self._unlike_control(self._typical_beyond.below):
            ratio, low, high = self._ratio()
            return (f"the canary is slower: ratio {ratio:.3f} [{low:.3f}-{high:.3f}] after {len(self._seconds)} "
                    f"requests, and {self._limits.least_ratio:g} is allowed")
        if self._slowest.log > SLOWEST and self._unlike_control(self._slowest_beyond.log):
            return (f"the canary's slowest requests are slower: its 99th percentile is {self._percentile(1, 99):.3g} "
                    f"ms, stable's {self._percentile(0, 99):.3g} ms after {len(self._seconds)} requests")
        return ""

    def _unlike_control(self, evidence: float) -> bool:
        return not self._controlled or evidence > _UNLIKE_CONTROL

    @property
    def passes(self) -> bool:
        """Certainly within what is allowed."""
        return self._typical.above > PASSING and self._within.log > PASSING

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
