"""Latencies in constant memory: HDR histograms, in microseconds from 1 us to 1 hour, to 3 significant digits."""
from collections.abc import Iterable
from typing import Self, cast

from hdrh.histogram import HdrHistogram

from benchmark.verdicts.records import LatencyRecord

HIGHEST_US = 3_600_000_000
DIGITS = 3
SHOWN = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99, 100.0)


class Histogram:
    """An HDR histogram of seconds. Merging is exact: histograms of several processes add up to that of all samples."""

    def __init__(self) -> None:
        self._hdr = HdrHistogram(1, HIGHEST_US, DIGITS)

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Self:
        histogram = cls()
        for value in seconds:
            histogram.record(value)
        return histogram

    @classmethod
    def decode(cls, text: str) -> Self:
        """From the base64 of the HDR histogram V2 format, which any HDR tool reads."""
        histogram = cls()
        histogram._hdr.decode_and_add(text)
        return histogram

    def encode(self) -> str:
        return str(self._hdr.encode().decode("ascii"))

    def record(self, seconds: float) -> None:
        # The histogram begins at 1 us, so 0 has no place in it; a value above an hour would be dropped silently.
        self._hdr.record_value(min(max(round(seconds * 1e6), 1), HIGHEST_US))

    def merge(self, other: "Histogram") -> None:
        self._hdr.add(other._hdr)

    @property
    def count(self) -> int:
        return int(self._hdr.get_total_count())

    @property
    def mean(self) -> float:
        return float(self._hdr.get_mean_value()) / 1e6

    @property
    def max(self) -> float:
        return float(self._hdr.get_max_value()) / 1e6

    def percentile(self, percentile: float) -> float:
        """Seconds at or below which `percentile` % of the samples are, to 0.1 %."""
        return float(self._hdr.get_value_at_percentile(percentile)) / 1e6

    def count_above(self, seconds: float) -> int:
        """Samples above a limit, to 0.1 % of it."""
        limit, above = seconds * 1e6, 0
        for item in self._hdr.get_recorded_iterator():
            if item.value_iterated_to > limit:
                above += item.count_added_in_this_iter_step
        return above

    def curve(self, ticks: int = 5) -> list[tuple[float, float]]:
        """(percentile, seconds), finer towards 100 %: what a percentile plot draws."""
        if not self.count:
            return []
        return [(item.percentile_level_iterated_to, item.value_iterated_to / 1e6)
                for item in self._hdr.get_percentile_iterator(ticks)]

    def to_json(self) -> LatencyRecord:
        """Milliseconds at the usual percentiles, and the whole histogram as `hdr`."""
        shown = {f"p{p:g}" if p < 100 else "max": self.percentile(p) * 1e3 for p in SHOWN} if self.count else {}
        return cast(LatencyRecord, {"count": self.count, "mean": self.mean * 1e3 if self.count else None, **shown,
                                    "hdr": self.encode()})
