"""Requests, errors and latency of each version over the last seconds, from counts that only grow."""
from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from threading import Lock
from time import monotonic
from typing import Any

# What is shown covers the last half minute, if somebody has looked then.
WINDOW_S = 30.0
_APART_S = 0.5

Key = tuple[str, int]  # model, version


@dataclass
class Counts:
    """Of one version: requests, errors, and how many answers took up to each bound."""

    requests: int = 0
    errors: int = 0
    answers: Sequence[int] = field(default_factory=list)

    def since(self, earlier: Counts | None) -> Counts:
        if earlier is None:
            return self
        before = [*earlier.answers, *[0] * (len(self.answers) - len(earlier.answers))]
        return Counts(self.requests - earlier.requests, self.errors - earlier.errors,
                      [now - then for now, then in zip(self.answers, before, strict=True)])


class RecentTraffic:
    """`counts` gives the counts so far, `bounds` are those of its answers, in microseconds."""

    def __init__(self, counts: Callable[[], Mapping[Key, Counts]], bounds: Sequence[float],
                 now: Callable[[], float] = monotonic) -> None:
        self._counts, self._bounds, self._now = counts, bounds, now
        self._lock, self._looks = Lock(), deque[tuple[float, Mapping[Key, Counts]]]()
        self._last: dict[Key, dict[str, Any]] = {}

    def look(self) -> dict[Key, dict[str, Any]]:
        """{(model, version): {"requests", "errors" since the server started, "p50_ms", "p99_ms" of the last seconds}}.
        """
        now = self._now()
        with self._lock:
            # Whoever looks more often gets the same again: each look copies all counts, and is kept.
            if self._looks and now - self._looks[-1][0] < _APART_S:
                return self._last
            found = self._counts()
            while len(self._looks) > 1 and self._looks[1][0] <= now - WINDOW_S:
                self._looks.popleft()
            earlier = self._looks[0][1] if self._looks else {}
            self._looks.append((now, found))
            self._last = {key: {"requests": one.requests, "errors": one.errors,
                                **self._percentiles(one.since(earlier.get(key)))} for key, one in found.items()}
            return self._last

    def _percentiles(self, counts: Counts) -> dict[str, float | None]:
        return {f"p{share}_ms": self._percentile(counts.answers, share / 100) for share in (50, 99)}

    def _percentile(self, answers: Sequence[int], share: float) -> float | None:
        """Within its bucket a value is as likely anywhere; None without answers."""
        total = sum(answers)
        if not total:
            return None
        summed, wanted = list(accumulate(answers)), share * total
        bucket = bisect_left(summed, wanted)
        low = self._bounds[bucket - 1] if bucket else 0.0
        high = self._bounds[min(bucket, len(self._bounds) - 1)]
        inside = (wanted - (summed[bucket - 1] if bucket else 0)) / answers[bucket]
        return (low + inside * (high - low)) / 1e3
