"""The ranges of a graph's tensors, from their values for samples: what 8 bits have to hold.

    histogram = Histogram("features/Relu")
    histogram.add(values)           # of one request; and so on
    histogram.range("percentile")   # Range(low=0.0, high=5.1)

A tensor's values need not be in memory together, and the order and size of the requests make no difference.
"""
from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from export.precision.clipping import BINS, METHODS, Spread
from export.tensors import Array
from user_error import UserError

METHOD = "mse"  # decision 172
_BLOCK = 1 << 15  # values counted at once: they and their bins fit into a core's cache
_PRECISE = 24  # bits of a float32's fraction: bins need not be narrower
_SMALLEST = -149  # the exponent of the smallest float32 above 0


@dataclass(frozen=True)
class Range:
    """What 8 bits hold: low <= 0 <= high, so that 0 is exact. `low` is 0 if the tensor is never negative."""

    low: float
    high: float

    @property
    def largest(self) -> float:
        """The largest absolute value."""
        return max(-self.low, self.high)


@dataclass
class Histogram:  # decision 170
    """The values of a tensor: smallest, largest, and counts in at most BINS bins.

    Bin n is [n * width, (n + 1) * width), and the width is the smallest power of two for which the bins from the
    smallest to the largest value are at most BINS. When it doubles, two bins become one; so no value is lost, and the
    result is that of all values at once.
    """

    tensor: str
    minimum: float = math.inf
    maximum: float = -math.inf
    values: int = 0  # that are finite
    zeros: int = 0
    nans: int = 0
    infinities: int = 0
    _exponent: int = _SMALLEST
    _first: int = 0  # the number of the first bin in _counts
    _counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    @property
    def width(self) -> float:
        return math.ldexp(1.0, self._exponent)

    def add(self, array: Array) -> None:
        """Counts the values of a tensor of any floating-point type and shape."""
        flat = np.asarray(array).ravel()
        if flat.dtype not in (np.float32, np.float64):
            flat = flat.astype(np.float32)
        if not flat.size:
            return
        low, high = float(flat.min()), float(flat.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            nans, finite = np.isnan(flat), np.isfinite(flat)
            self.nans += int(nans.sum())
            self.infinities += int(flat.size - finite.sum() - nans.sum())
            self.add(flat[finite])
            return
        self._hold(low, high)
        self.values += flat.size
        for begin in range(0, flat.size, _BLOCK):
            block = flat[begin:begin + _BLOCK]
            self.zeros += block.size - int(np.count_nonzero(block))
            # In float64 the product is exact, whatever the width is.
            scaled = np.multiply(block, math.ldexp(1.0, -self._exponent), dtype=np.float64)
            self._counts += np.bincount((np.floor(scaled, out=scaled) - self._first).astype(np.intp), minlength=BINS)

    def merge(self, other: Histogram) -> None:
        """Adds the values of another histogram of the same tensor."""
        self.nans += other.nans
        self.infinities += other.infinities
        if other.values:
            self._hold(other.minimum, other.maximum)
            self.values += other.values
            self.zeros += other.zeros
            _move(other, self._counts, self._exponent, self._first)

    def _hold(self, low: float, high: float) -> None:
        """Widens and moves the bins until they hold values from `low` to `high` too."""
        low, high = min(self.minimum, low), max(self.maximum, high)
        if (low, high) == (self.minimum, self.maximum):
            return
        exponent = _exponent(low, high)
        first, counts = math.floor(math.ldexp(low, -exponent)), np.zeros(BINS, np.int64)
        _move(self, counts, exponent, first)
        self.minimum, self.maximum, self._exponent, self._first, self._counts = low, high, exponent, first, counts

    def spread(self) -> Spread:
        """The bins from the smallest to the largest value."""
        used = math.floor(math.ldexp(self.maximum, -self._exponent)) - self._first + 1
        counts = self._counts[:used].astype(np.float64)
        if 0 <= -self._first < used:
            counts[-self._first] -= self.zeros
        edges = np.arange(self._first, self._first + used + 1, dtype=np.float64) * self.width
        return Spread(edges, counts, self.zeros, self.minimum, self.maximum)

    def range(self, method: str = METHOD) -> Range:
        """The range by a method of `clipping.METHODS`: minmax, percentile, mse or kl.

        It is [0, high] if no value is negative, otherwise [low, high]. Any range holds a tensor that is always 0: it
        gets [0, 1]. Raises UserError if there are no values, or some that are not finite.
        """
        if method not in METHODS:
            raise UserError(f"no way of choosing ranges is called '{method}'; there are: {', '.join(METHODS)}")
        if self.nans or self.infinities:
            kinds = " and ".join([*(["NaN"] if self.nans else []), *(["infinite values"] if self.infinities else [])])
            raise UserError(f"tensor '{self.tensor}': the samples give {kinds} in it ({self.nans + self.infinities:,} "
                            f"of {self.values + self.nans + self.infinities:,} values), so it has no range; give other "
                            "samples, or keep its reader in float32")
        if not self.values:
            raise UserError(f"tensor '{self.tensor}': the samples give no values in it, so it has no range; give other "
                            "samples, or keep its reader in float32")
        if self.values == self.zeros:
            return Range(0.0, 1.0)
        low, high = METHODS[method](self.spread(), "unsigned" if self.minimum >= 0 else "offset")
        return Range(float(low), float(high))


def ranges(histograms: Mapping[str, Histogram], method: str = METHOD) -> dict[str, Range]:
    """The ranges of the tensors that have values. Raises UserError for one with values that are not finite."""
    return {name: one.range(method) for name, one in histograms.items() if one.values or one.nans or one.infinities}


def merged(histograms: Iterable[Histogram], into: dict[str, Histogram]) -> None:
    """Adds histograms of any tensors to those of the same tensors."""
    for one in histograms:
        into.setdefault(one.tensor, Histogram(one.tensor)).merge(one)


def _exponent(low: float, high: float) -> int:
    """The exponent of the smallest bin width for which at most BINS bins hold `low` to `high`."""
    exponent = max(math.frexp(max(-low, high))[1] - _PRECISE, _SMALLEST)
    # The difference of two halves: that of the values may be no finite number.
    if high > low:
        exponent = max(exponent, math.frexp(high / 2 - low / 2)[1] - BINS.bit_length())
    while math.floor(math.ldexp(high, -exponent)) - math.floor(math.ldexp(low, -exponent)) >= BINS:
        exponent += 1
    return exponent


def _move(source: Histogram, counts: NDArray[np.int64], exponent: int, first: int) -> None:
    """Adds the counts of `source` to bins that are as wide or wider, of which the first has the number `first`."""
    filled = np.flatnonzero(source._counts)
    bins = ((source._first + filled) >> (exponent - source._exponent)) - first
    np.add.at(counts, bins, source._counts[filled])
