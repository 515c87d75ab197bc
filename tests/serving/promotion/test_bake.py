"""A canary is watched: it is taken back when it does worse than stable, and not when it does not."""
from typing import Any

import numpy as np
import pytest

from serving.client.protocol import AnswerError
from serving.promotion import bake
from serving.promotion.golden import Golden
from serving.promotion.plan import CANARY, STABLE, Kind, Operation, Served, Stage
from serving.promotion.settings import Bake

LIMITS = Bake(seconds=60.0, requests_per_second=20.0, max_error_ratio=0.0, least_ratio=0.8, replayed=0)
OPERATION = Operation("1", Kind.PROMOTE, "m", 2, Served(frozenset({1}), {STABLE: 1}), Stage.BAKE)
REQUESTS = [Golden({"x": np.zeros(1)}, ""), Golden({"x": np.ones(1)}, "")]


class Clock:
    """Time that passes only where somebody waits or answers."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    perf_counter = monotonic

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Host:
    """A server whose labels answer in so many seconds on average; every n-th request to a label fails."""

    def __init__(self, clock: Clock, seconds: dict[str, float], fails: dict[str, int] | None = None,
                 seed: int = 0) -> None:
        self.clock, self.seconds, self.fails = clock, seconds, fails or {}
        self.random, self.asked, self.closed = np.random.default_rng(seed), {STABLE: 0, CANARY: 0}, 0

    def client(self, model: str, label: str) -> Any:
        host = self

        class Client:
            def prepare(self, inputs: Any, signature: str) -> Any:
                return inputs

            def send(self, request: Any) -> None:
                host.asked[label] += 1
                host.clock.now += host.seconds[label] * float(np.exp(0.1 * host.random.normal()))
                if host.fails.get(label) and host.asked[label] % host.fails[label] == 0:
                    raise AnswerError("500", "no")

            def close(self) -> None:
                host.closed += 1
        return Client()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(bake, "time", made)
    return made


def test_a_canary_like_stable_is_watched_to_the_end(clock: Clock) -> None:
    hosts: list[Any] = [Host(clock, {STABLE: 0.01, CANARY: 0.01}), Host(clock, {STABLE: 0.01, CANARY: 0.01})]
    found = bake.watch(OPERATION, hosts, REQUESTS, LIMITS)
    assert found.passed
    assert found.figures["failed"] == 0
    assert found.figures["ci95"][0] < 1 < found.figures["ci95"][1]
    assert clock.now == pytest.approx(60, abs=1)
    assert [host.closed for host in hosts] == [2, 2]
    assert abs(hosts[0].asked[CANARY] - hosts[1].asked[CANARY]) <= 1
    assert 200 < hosts[0].asked[CANARY] < 700


def test_a_canary_that_is_a_little_slower_than_stable_is_allowed(clock: Clock) -> None:
    host: Any = Host(clock, {STABLE: 0.01, CANARY: 0.011})
    assert bake.watch(OPERATION, [host], REQUESTS, LIMITS).passed


def test_a_slow_canary_is_taken_back_as_soon_as_it_is_certain(clock: Clock) -> None:
    host: Any = Host(clock, {STABLE: 0.01, CANARY: 0.02})
    found = bake.watch(OPERATION, [host], REQUESTS, LIMITS)
    assert found.passed is False
    assert found.words.startswith("the canary is slower: ratio 0.")
    assert clock.now < 10


def test_a_canary_that_fails_where_stable_answers_is_taken_back_at_once(clock: Clock) -> None:
    host: Any = Host(clock, {STABLE: 0.01, CANARY: 0.01}, {CANARY: 3})
    found = bake.watch(OPERATION, [host], REQUESTS, LIMITS)
    assert (found.passed, found.words) == (False, "2 of 6 requests to the canary failed, which stable answered")


def test_requests_that_fail_for_both_say_nothing_about_the_canary(clock: Clock) -> None:
    host: Any = Host(clock, {STABLE: 0.01, CANARY: 0.01}, {STABLE: 3, CANARY: 3})
    assert bake.watch(OPERATION, [host], REQUESTS, LIMITS).passed


def test_a_canary_of_which_nothing_was_seen_does_not_pass(clock: Clock) -> None:
    host: Any = Host(clock, {STABLE: 0.01, CANARY: 0.01}, {STABLE: 1, CANARY: 1})
    found = bake.watch(OPERATION, [host], REQUESTS, LIMITS)
    assert found.passed is False
    assert "neither stable nor the canary answered any" in found.words


def test_without_a_limit_a_slow_canary_is_allowed(clock: Clock) -> None:
    host: Any = Host(clock, {STABLE: 0.01, CANARY: 0.05})
    assert bake.watch(OPERATION, [host], REQUESTS, Bake(60.0, 20.0, 0.0, 0.0, 0)).passed


def test_equal_canaries_are_hardly_ever_taken_back(clock: Clock) -> None:
    exact = Bake(seconds=10.0, requests_per_second=50.0, max_error_ratio=0.0, least_ratio=1.0, replayed=0)
    taken = 0
    for seed in range(40):
        host: Any = Host(clock, {STABLE: 0.004, CANARY: 0.004}, seed=seed)
        taken += bake.watch(OPERATION, [host], REQUESTS, exact).passed is False
    assert taken <= 2


@pytest.mark.parametrize(("seconds", "requests"), [(0.0, REQUESTS), (60.0, [])])
def test_without_time_or_requests_nothing_is_watched(seconds: float, requests: list[Golden], clock: Clock) -> None:
    limits = Bake(seconds, 20.0, 0.0, 0.8, 0)
    assert bake.watch(OPERATION, [], requests, limits).passed is None
    assert clock.now == 0
