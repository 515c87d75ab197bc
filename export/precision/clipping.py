"""Where to clip a tensor's values before they are rounded to 8 bits: four answers to one question, by name.

A small range clips the largest values, a large one rounds all others more coarsely. The values are given as counts in
bins; within a bin they are taken to be spread evenly.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Form = Literal["unsigned", "offset"]
Floats = NDArray[np.float64]
Bounds = tuple[float, float]

BINS = 2048
STEPS = 255  # from the smallest to the largest value
_SIDE = 127  # of them, if half of the values are below 0
SHARE = 0.9999  # of the values are not clipped by `percentile`
# The divisors of the largest value that `mse` tries, four for each halving: up to 1,024.
_DIVISORS = 2.0 ** (np.arange(41) / 4)
_FINER = 12  # more thresholds between the best one and its neighbours
_TURNS = 2  # of choosing one bound while the other is fixed
_KL_STRIDE = 4  # bins between the thresholds that `kl` tries


@dataclass(frozen=True)
class Spread:
    """How the values of a tensor are spread: `counts[i]` of them are in [edges[i], edges[i + 1]).

    Zeros are counted apart, since no range rounds or clips them.
    """

    edges: Floats
    counts: Floats
    zeros: int
    minimum: float
    maximum: float

    @property
    def bounds(self) -> Bounds:
        """The smallest range with all values, and with 0."""
        return min(self.minimum, 0.0), max(self.maximum, 0.0)

    def folded(self) -> Spread:
        """The spread of the absolute values, in at most BINS bins from 0 on.

        The edges must be multiples of their distance, as a Histogram's are: bins become wider by doubling here too.
        """
        width = self.edges[1] - self.edges[0]
        first = round(float(self.edges[0] / width))
        index = np.arange(first, first + len(self.counts))
        index = np.where(index < 0, -1 - index, index)
        doubled = max(int(index.max()).bit_length() - BINS.bit_length() + 1, 0)
        counts = np.bincount(index >> doubled, self.counts).astype(np.float64)
        return Spread(np.arange(len(counts) + 1) * width * 2.0 ** doubled, counts, self.zeros, 0.0,
                      max(abs(self.minimum), abs(self.maximum)))


def squared_error(spread: Spread, bounds: Bounds, step: float) -> float:
    """The sum of (value - what 8 bits make of it)^2 if values are clipped to `bounds`, then rounded to n * step."""
    low, high = bounds
    edges = spread.edges
    rounded = step ** 3 * _up_to(np.clip(edges, low, high) / step)
    clipped = (_cube(np.maximum(edges - high, 0)) - _cube(np.maximum(low - edges, 0))) / 3
    return float((spread.counts * np.diff(rounded + clipped) / np.diff(edges)).sum())


def _up_to(end: Floats) -> Floats:
    """The integral of (t - round(t))^2 from 0 to `end`: 1/12 for each whole number passed, and the rest."""
    whole = np.rint(end)
    return whole / 12 + _cube(end - whole) / 3


def _cube(values: Floats) -> Floats:
    return values * values * values  # a tenth of the time that ** 3 takes


def step_of(bounds: Bounds) -> float:
    """The distance of neighbouring 8-bit values."""
    low, high = bounds
    return (high - low) / STEPS


def _all(spread: Spread, form: Form) -> Bounds:
    """Nothing is clipped."""
    return spread.bounds


def _percentile(spread: Spread, form: Form) -> Bounds:
    """SHARE of the values are within; as many are below as above, if there are negative values."""
    clipped = (1 - SHARE) / (1 if form == "unsigned" else 2)
    low, high = spread.bounds
    mirrored = Spread(-spread.edges[::-1], spread.counts[::-1], spread.zeros, -spread.maximum, -spread.minimum)
    return (low and -_quantile(mirrored, clipped)), (high and _quantile(spread, clipped))


def _quantile(spread: Spread, clipped: float) -> float:
    """The lowest upper edge of a bin above which there is at most this share of the values; at least 0."""
    allowed = clipped * (spread.counts.sum() + spread.zeros)
    above = spread.counts.sum() - np.cumsum(spread.counts)
    # Rounded up a little: a share of 0.0001 of 10,000 values is one value.
    edge = float(spread.edges[1:][np.argmax(above <= allowed * (1 + 1e-9))])
    return max(min(edge, spread.maximum), 0.0)


def _mse(spread: Spread, form: Form) -> Bounds:
    """The bounds with the least squared error."""
    low, high = _all(spread, form)
    if form != "offset":
        return _scaled(spread, low, high)
    # Both bounds at once first: outliers on both sides hide the gain of moving one bound alone.
    low, high = _scaled(spread, low, high)
    for _ in range(_TURNS):
        least, most = spread.bounds
        low = _best(spread, [(one, high) for one in _shrunk(least, low)])[0]
        high = _best(spread, [(low, one) for one in _shrunk(most, high)])[1]
    return low, high


def _scaled(spread: Spread, low: float, high: float) -> Bounds:
    factors = 1 / _DIVISORS
    coarse = _best(spread, [(low * factor, high * factor) for factor in factors])
    best = max(coarse[0] / low if low else 0.0, coarse[1] / high if high else 0.0)
    near = np.linspace(best / _DIVISORS[1], min(best * _DIVISORS[1], 1.0), _FINER)
    return _best(spread, [coarse, *((low * factor, high * factor) for factor in near)])


def _shrunk(farthest: float, best: float) -> Iterator[float]:
    """The best bound so far, and others from the farthest on, finer ones near the best."""
    yield best
    yield from (farthest / _DIVISORS).tolist()
    for factor in np.linspace(1 / _DIVISORS[1], _DIVISORS[1], _FINER):
        yield min(best * factor, farthest, key=abs)


def _best(spread: Spread, tried: list[Bounds]) -> Bounds:
    """The bounds with the least error; the first of several."""
    return min((one for one in tried if step_of(one) > 0), key=lambda one: squared_error(spread, one, step_of(one)))


def _kl(spread: Spread, form: Form) -> Bounds:
    """The threshold whose clipped and rounded values are distributed most like the clipped ones.

    Kullback-Leibler divergence, as in TensorRT's calibration: on the absolute values, without zeros.
    Source: S. Migacz, 8-bit inference with TensorRT, GTC 2017.
    """
    sizes = spread.folded()
    levels = 1 + (STEPS if form == "unsigned" else _SIDE)
    counts, bins = sizes.counts, len(sizes.counts)
    found, least = bins, np.inf
    for kept in {*range(levels, bins, _KL_STRIDE), bins} if bins > levels else ():
        divergence = _divergence(counts[:kept], float(counts[kept:].sum()), levels)
        if (divergence, kept) < (least, found):
            found, least = kept, divergence
    threshold = min(float(sizes.edges[found]), sizes.maximum)
    low, high = spread.bounds
    return max(low, -threshold), min(high, threshold)


def _divergence(kept: Floats, clipped: float, levels: int) -> float:
    """D(P || Q): P has the clipped values in the last bin; Q spreads each level over its bins that are not empty."""
    clipped_in = kept.copy()
    clipped_in[-1] += clipped
    begins = np.arange(levels) * len(kept) // levels
    filled = kept > 0
    in_level, bins = np.add.reduceat(kept, begins), np.add.reduceat(filled.astype(np.float64), begins)
    level = np.repeat(np.arange(levels), np.diff(np.append(begins, len(kept))))
    spread_out = np.where(filled, (in_level / np.maximum(bins, 1))[level], 0.0)
    there = clipped_in > 0
    if not there.any() or (spread_out[there] == 0).any():
        return float("inf")  # values are clipped into a bin that has none of its own
    p, q = clipped_in[there] / clipped_in.sum(), spread_out[there] / spread_out.sum()
    return float((p * np.log(p / q)).sum())


METHODS: Mapping[str, Callable[[Spread, Form], Bounds]] = {
    "minmax": _all, "percentile": _percentile, "mse": _mse, "kl": _kl}
