"""A confidence sequence: intervals that hold at all sample sizes at once, so that looking after each sample is allowed.

A 95 % confidence interval holds at one sample size, chosen before. Who looks after every sample and stops at the first
interval that excludes 0 is wrong far more often than 1 time in 20. Of a confidence sequence the *whole* sequence holds
the true value with 95 % confidence; the price is that each interval is about twice as wide.

Source: de la Pena, "A general class of exponential inequalities for martingales and ratios", Annals of Probability
1999, of which a sum of symmetric values is a case, mixed over a normal distribution as in Robbins, "Statistical methods
related to the law of the iterated logarithm", Annals of Mathematical Statistics 1970.
"""
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

Array = npt.NDArray[np.float64]
CONFIDENCE = 0.95
# The sample size at which the sequence is as narrow as it can be. From a fifth to ten times of that it is little wider.
NARROWEST = 50
# The first values only say how far values are apart.
LEAST = 10
# Beyond so many spreads from the centre a value counts as if it were there: of normal values 1 in 22.
CLIPPED = 2.0


@dataclass(frozen=True)
class Centre:
    """The centre lies between `low` and `high`, at this sample size and at all others, with the confidence.

    `value` is the estimate; nan of no values.
    """

    value: float
    low: float
    high: float


def centre(values: npt.ArrayLike, confidence: float = CONFIDENCE) -> Centre:
    """Of what values [n] are symmetric about, given those before each: one that is far off moves it little.

    The interval is infinite for under LEAST + 6 values, with a confidence of 95 %. It is exact: no number of values is
    too small for it to hold.
    """
    found = np.asarray(values, dtype=np.float64)
    kept, limit = found[LEAST:], -math.log(1 - confidence)
    if not kept.size:
        return Centre(float(np.median(found)) if found.size else math.nan, -math.inf, math.inf)
    spreads = _spreads_before(found)
    # The variance of the mixture that makes the interval narrowest at NARROWEST values of variance 1.
    weight = (2 * limit + math.log(2 * limit + 1)) / NARROWEST

    def clipped(place: float) -> Array:
        return np.clip((kept - place) / spreads, -CLIPPED, CLIPPED)

    def beyond(place: float) -> float:
        """Over 0: the evidence against `place` is more than it would ever be in 95 of 100 sequences were it the centre.

        For every t, exp(t sum - t^2 squares / 2) would then be a supermartingale, and so is its mean over normal t.
        """
        seen = clipped(place)
        grown = weight * float(seen @ seen) + 1
        return (weight * float(seen.sum()) ** 2 / grown - math.log(grown)) / 2 - limit
    least, most = float(kept.min()), float(kept.max())
    value = float(brentq(lambda place: clipped(place).sum(), least, most)) if least < most else least
    wide = float(spreads.max())
    return Centre(value, _crossing(beyond, value, -wide), _crossing(beyond, value, wide))


def _spreads_before(values: Array) -> Array:
    """For each value after the first LEAST, the spread (as a standard deviation) of values before it: known before it,
    as the evidence needs. It is taken anew whenever there are twice as many."""
    spreads, known = np.empty(max(0, values.size - LEAST)), LEAST
    while known < values.size:
        before = values[:known]
        spread = 1.4826 * float(np.median(np.abs(before - np.median(before))))
        spreads[known - LEAST:2 * known - LEAST] = spread or float(np.abs(before).max()) * 1e-9 or 1.0
        known *= 2
    return spreads


def _crossing(beyond: Callable[[float], float], inside: float, step: float) -> float:
    """Where `beyond` becomes positive, from `inside` in the direction of `step`; infinite if it does not."""
    near, far = inside, inside + step
    for _ in range(60):
        if beyond(far) > 0:
            return float(brentq(beyond, *sorted((near, far)))) if beyond(near) < 0 else near
        near, far = far, far + (far - inside)
    return math.copysign(math.inf, step)
