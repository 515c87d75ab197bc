"""What the judge sees of canaries: trials of equal versions as they were recorded, and what is wrong put into them."""
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.promotion.judge import AGAIN, Again, Trial

RECORDED = Path(__file__).parents[1] / "serving/promotion/recorded_bakes"
# The columns of a recording, whose rows are trials.
STABLE, CANARY, FIRST, SECOND = range(4)
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Canary:
    """What is true of it. `slower`: its time over stable's. `fresh`: that of every version that was loaded last in its
    process, the canary and the control's second. `process`: the control's over the server's.

    tail: what makes p99 a quarter longer. "share": one request in fifty takes about p99 * 1.25. "wide": times above the
    middle are farther from it. "top": the slowest twentieth takes a quarter longer. "fresh": as "wide", of both that
    were loaded last.

    fails: the share of requests that it fails; all_fail: that each of the server's two fails by itself, and none of the
    control; no_control: that the control fails. differs: the share of its answers that are others; all_differ: of all
    answers, stable's too.
    """

    slower: float = 1.0
    fresh: float = 1.0
    process: float = 1.0
    tail: str = ""
    fails: float = 0.0
    all_fail: float = 0.0
    differs: float = 0.0
    all_differ: float = 0.0
    no_control: float = 0.0
    controlled: bool = True


WORSE_P99 = 1.25


def recordings() -> dict[str, Array]:
    """{name: seconds [trials, 4]}."""
    return {path.stem: np.load(path)["seconds"].astype(float) for path in sorted(RECORDED.glob("*.npz"))}


def trials(recorded: Array, canary: Canary, count: int, seed: int) -> Iterator[Trial]:
    """A stretch of a recording from a random place on, forwards or backwards, again from its start after its end. In
    each trial the two of a process change places or not."""
    random = np.random.default_rng(seed)
    found = recorded[(random.integers(len(recorded)) + random.choice([-1, 1]) * np.arange(count)) % len(recorded)]
    for one, other in ((STABLE, CANARY), (FIRST, SECOND)):
        swapped = random.random(count) < 0.5
        found[swapped, one], found[swapped, other] = found[swapped, other], found[swapped, one]
    _make_tail(found, recorded[:, [STABLE, CANARY]].ravel(), canary.tail, random)
    found *= np.array([1, canary.slower * canary.fresh, canary.process, canary.process * canary.fresh])
    failed = random.random((count, 2 + AGAIN)) < canary.all_fail
    failed[:, CANARY] |= random.random(count) < canary.fails
    differs = random.random((count, 1 + AGAIN)) < canary.all_differ
    differs[:, 0] |= random.random(count) < canary.differs
    lost = random.random(count) < canary.no_control
    for row, (gone, its_gone, *more_gone), (other, *more), no_control in zip(
            found.tolist(), failed.tolist(), differs.tolist(), lost.tolist(), strict=True):
        stable, its = None if gone else row[STABLE], None if its_gone else row[CANARY]
        control = (row[FIRST], row[SECOND]) if canary.controlled and not no_control else (None, None)
        again = tuple(Again(fails, None if gone or fails else not one)
                      for fails, one in zip(more_gone, more, strict=True))
        yield Trial(stable, its, control, None if gone or its_gone else not other, again)


def _make_tail(found: Array, usual: Array, tail: str, random: np.random.Generator) -> None:
    middle, p95, p99 = np.percentile(usual, [50, 95, 99])
    if tail == "share":
        slow = random.random(len(found)) < 0.02
        wanted = WORSE_P99 * p99 * np.exp(random.normal(0, 0.1, slow.sum()))
        found[slow, CANARY] = np.maximum(found[slow, CANARY], wanted)
    elif tail in ("wide", "fresh"):
        power = np.log(WORSE_P99 * p99 / middle) / np.log(p99 / middle)
        for column in (CANARY, SECOND)[:2 if tail == "fresh" else 1]:
            above = found[:, column] > middle
            found[above, column] = middle * (found[above, column] / middle) ** power
    elif tail == "top":
        found[found[:, CANARY] > p95, CANARY] *= WORSE_P99
