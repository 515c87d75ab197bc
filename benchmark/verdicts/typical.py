"""The ratio of two targets' typical latency: robust within a block and between rounds, and certain at any time.

Typical is the mean of the middle half of a block's latencies. A round gives one logarithm of a ratio, from blocks that
ran within moments. Their centre has an interval that holds after every round (`confidence_sequence`), so that a
measurement may end as soon as its verdict is certain.

Processes of one variant differ for as long as they live, by where their memory lies; more rounds do not average that
out, more processes do. `luck` is how far it may move the ratio: from how far apart the processes of this run were, and
from what is known of processes where there are few. The interval has both.
"""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, expm1

import numpy as np
from scipy.special import stdtrit

import confidence_sequence
from benchmark.verdicts.block import Block
from benchmark.verdicts.statistics import CONFIDENCE, Array
from confidence_sequence import CLIPPED

# Rounds are put together until they last so long, as neighbours have much in common; but not into fewer groups than
# FEWEST, of which a sequence says something.
GROUP_S, FEWEST = 0.25, 30
# Of processes of one variant, the standard deviation before any is seen, and how many of them that knowledge is worth.
APART, WORTH = 0.004, 6
# Luck is drawn once in a run, so its interval must hold more often than one that a verdict may wait for.
LUCK_CONFIDENCE = 0.99

Logarithms = Mapping[int, Mapping[int, float]]  # of typical latencies, by round and replica


@dataclass(frozen=True)
class Typical:
    """Baseline over candidate with its interval. `luck`: how far processes alone may move it, as a fraction."""

    value: float
    low: float
    high: float
    luck: float


def typical_ratio(baseline: Sequence[Block], candidate: Sequence[Block], anytime: bool = True  # decision 237
                  ) -> Typical:
    """Of blocks of the same complete rounds, in the order measured.

    anytime: whether the interval must hold after every round, since its rounds may have ended at what they looked like.
    """
    values = of_rounds(baseline, candidate)
    if values.size < 2:
        return Typical(float(np.exp(values.mean())), 0.0, float("inf"), 0.0)
    round_s = sum(block.wall_s for block in (*baseline, *candidate)) / values.size
    together = max(1, min(ceil(GROUP_S / max(round_s, 1e-9)), values.size // FEWEST))
    whole = values[:values.size // together * together].reshape(-1, together).mean(axis=1)
    middle, low, high = _interval(whole, anytime)
    luck = _luck(_logarithms(baseline), _logarithms(candidate))
    low, high = middle - np.hypot(middle - low, luck), middle + np.hypot(high - middle, luck)
    return Typical(float(np.exp(middle)), float(np.exp(low)), float(np.exp(high)), expm1(luck))


def of_rounds(baseline: Sequence[Block], candidate: Sequence[Block]) -> Array:
    """The logarithm of the ratio of each round, [rounds]."""
    a, b = _logarithms(baseline), _logarithms(candidate)
    return np.array([np.mean([*a[round_].values()]) - np.mean([*b[round_].values()]) for round_ in a])


def _interval(values: Array, anytime: bool) -> tuple[float, float, float]:
    """(centre, low, high). Of few values no sequence says anything, so nothing has ended at what they looked like: an
    interval for their number alone holds."""
    if anytime and values.size >= FEWEST:
        found = confidence_sequence.centre(values, CONFIDENCE)
        return found.value, found.low, found.high
    middle, spread = clipped_mean(values)
    far = (values - middle) / spread
    clipped = np.clip(far, -CLIPPED, CLIPPED)
    kept = float((np.abs(far) <= CLIPPED).mean())
    error = spread * (float(np.square(clipped).sum()) / (values.size - 1)) ** 0.5 / kept / values.size ** 0.5
    half = float(stdtrit(values.size - 1, (1 + CONFIDENCE) / 2)) * error
    return middle, middle - half, middle + half


def clipped_mean(values: Array) -> tuple[float, float]:
    """(Huber's centre, the spread): the mean of values that are clipped at CLIPPED spreads from it."""
    middle = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - middle))) or float(values.std()) or 1e-12
    for _ in range(20):
        middle += spread * float(np.clip((values - middle) / spread, -CLIPPED, CLIPPED).mean())
    return middle, spread


def _logarithms(blocks: Sequence[Block]) -> dict[int, dict[int, float]]:
    found: dict[int, dict[int, list[float]]] = {}
    for block in blocks:
        if block.latencies:
            own = found.setdefault(block.round, {}).setdefault(block.replica, [])
            own.append(float(np.log(block.typical_s)))
    return {round_: {replica: float(np.mean(values)) for replica, values in own.items()}
            for round_, own in found.items()}


def _luck(*targets: Logarithms) -> float:
    """Half the width of an interval of the logarithm of the ratio, as far as it is due to which processes ran.

    Noise of rounds makes processes seem apart too. It is taken off, and where it is larger than what processes are
    known to be apart, what was seen counts less than that.
    """
    squares, known, share = WORTH * APART ** 2, float(WORTH), 0.0
    means = [np.mean([value for own in target.values() for value in own.values()]) for target in targets]
    both = list(zip(targets, means, strict=True))
    # What all felt in a round.
    felt = {round_: np.mean([value - mean for target, mean in both for value in target[round_].values()])
            for round_ in targets[0]}
    for target, mean in both:
        of_replicas: dict[int, list[float]] = {}
        for round_, own in target.items():
            for replica, value in own.items():
                of_replicas.setdefault(replica, []).append(value - mean - felt[round_])
        apart = np.array([np.median(values) for values in of_replicas.values()])
        noise = float(np.mean([_squared_error(np.array(values)) for values in of_replicas.values()]))
        freedom, weight = apart.size - 1, APART ** 2 / (APART ** 2 + noise)
        squares += weight * max(0.0, float(np.square(apart - apart.mean()).sum()) - freedom * noise)
        known, share = known + weight * freedom, share + 1 / apart.size
    return float(stdtrit(known, (1 + LUCK_CONFIDENCE) / 2) * (squares / known * share) ** 0.5)


def _squared_error(values: Array) -> float:
    """Of the median of values, from how far they are apart; infinite for one."""
    spread = 1.4826 * float(np.median(np.abs(values - np.median(values))))
    return 1.57 * spread ** 2 / values.size if values.size > 1 else float("inf")
