"""Latency by version over the last seconds, from counts that only grow."""
from collections.abc import Mapping

import pytest

from serving.recent_traffic import WINDOW_S, Counts, Key, RecentTraffic

BOUNDS = [1000.0, 2000.0, 4000.0]
KEY = ("m", 1)


class _Rig:
    def __init__(self) -> None:
        self.now, self.counts = 0.0, Counts()
        self.traffic = RecentTraffic(self._counted, BOUNDS, lambda: self.now)

    def _counted(self) -> Mapping[Key, Counts]:
        return {KEY: self.counts}


def test_percentiles_lie_within_their_buckets() -> None:
    rig = _Rig()
    rig.counts = Counts(100, 2, [50, 48, 0, 0])
    found = rig.traffic.look()[KEY]
    assert (found["requests"], found["errors"]) == (100, 2)
    assert found["p50_ms"] == pytest.approx(0.98)
    assert 1.9 < found["p99_ms"] <= 2.0


def test_what_is_older_than_the_window_does_not_count() -> None:
    rig = _Rig()
    rig.counts = Counts(100, 0, [100, 0, 0, 0])
    rig.traffic.look()
    rig.now, rig.counts = 10.0, Counts(110, 0, [100, 0, 10, 0])
    assert rig.traffic.look()[KEY]["p50_ms"] == pytest.approx(3.0)
    rig.now = 11.0 + 2 * WINDOW_S
    rig.traffic.look()
    rig.now += 1
    found = rig.traffic.look()[KEY]
    assert (found["requests"], found["p50_ms"]) == (110, None)


def test_who_looks_more_often_gets_the_same_again() -> None:
    rig = _Rig()
    first = rig.traffic.look()
    rig.now, rig.counts = 0.1, Counts(5, 0, [5, 0, 0, 0])
    assert rig.traffic.look() is first
    rig.now = 1.0
    assert rig.traffic.look()[KEY]["requests"] == 5


def test_a_version_without_answers_and_one_beyond_all_bounds() -> None:
    rig = _Rig()
    assert rig.traffic.look()[KEY]["p50_ms"] is None
    rig.now, rig.counts = 1.0, Counts(1, 0, [0, 0, 0, 1])
    assert rig.traffic.look()[KEY]["p50_ms"] == pytest.approx(4.0)
