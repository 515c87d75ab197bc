"""Which design measures a group: what the machine allows, and of that the quieter one, found out by a short trial."""
from collections.abc import Sequence
from dataclasses import dataclass
from math import expm1
from time import perf_counter

import numpy as np

from benchmark.issuing.designs import Design
from benchmark.verdicts.typical import of_rounds

UNPINNED = "unpinned"
DESIGNS = ("auto", "duet", "interleaved", UNPINNED)
# A process that takes more of a core than this has work for a second one.
ONE_CORE = 1.25
ROUNDS = 16
# A trial of requests that take longer would take longer than it is worth.
LONGEST_TRIED_S = 0.1
# A duet may mislead where two meet, which shows only in part; so it must be this much quieter to be chosen.
QUIETER = 0.7
# So far apart the ratios of the two designs may be, besides their noise, before one of them is thought to be wrong.
TOLERATED = 0.01


@dataclass(frozen=True)
class Trial:
    """The ratio (a logarithm) that a design has seen, its standard error, and that of a second of this design."""

    ratio: float
    error: float
    per_second: float


def try_out(design: Design, names: Sequence[str], requests: int) -> Trial:
    """Measures some rounds, which are not used otherwise."""
    began, blocks = perf_counter(), []
    for number in range(ROUNDS):
        # A duet has one candidate in a round: the first one.
        blocks += design.round(number * (len(names) - 1), requests, requests)
    seconds = (perf_counter() - began) / ROUNDS
    values = of_rounds(*([block for block in blocks if block.target == name] for name in names[:2]))
    spread = 1.4826 * float(np.median(np.abs(values - np.median(values))))
    return Trial(float(np.median(values)), 1.25 * spread / ROUNDS ** 0.5, spread * seconds ** 0.5)


def choose(interleaved: Trial, duet: Trial) -> tuple[str, str]:  # decision 238
    """The name of the design that measures, and why."""
    apart = abs(interleaved.ratio - duet.ratio)
    if apart > TOLERATED + 3 * float(np.hypot(interleaved.error, duet.error)):
        return "interleaved", (f"two at the same time slow each other: their ratio was {expm1(apart):.1%} off that of "
                               "one after the other")
    noise = (f"in a short trial, one second showed the ratio within {expm1(2 * interleaved.per_second):.1%} "
             f"interleaved and within {expm1(2 * duet.per_second):.1%} as a duet")
    return ("duet" if duet.per_second < QUIETER * interleaved.per_second else "interleaved"), noise
