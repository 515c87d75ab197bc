"""A canary is watched: the judge sees the same requests of all, until it is certain or the time is over."""
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.client.protocol import AnswerError
from serving.promotion import bake, proving, settings
from serving.promotion.bake import control_of
from serving.promotion.errors import GateFailedError
from serving.promotion.gates import Gate
from serving.promotion.golden import Golden
from serving.promotion.plan import CANARY, PAUSED, STABLE, Kind, Operation, Served, Stage
from serving.promotion.proving import Asked
from serving.promotion.rollout import StageFailedError
from serving.promotion.servers import Server
from serving.promotion.settings import DEFAULTS

GATES = settings.read(DEFAULTS.parent)
LIMITS = GATES.bake
OPERATION = Operation("1", Kind.PROMOTE, "m", 2, Served(frozenset({1}), {STABLE: 1}), Stage.BAKE)
REQUESTS = [Golden({"x": np.full(1, number)}, "") for number in range(2)]
FIRST, SECOND = "first", "second"


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
    """A server of labels, or a control of two models, that answers in so many seconds on average: with the request's x
    and what `other` says; every n-th request to one fails. A control's process ends after `lives` requests."""

    def __init__(self, clock: Clock, seconds: dict[str, float], fails: dict[str, int] | None = None,
                 other: dict[str, float] | None = None, lives: int = 10**9, seed: int = 0) -> None:
        self.clock, self.seconds, self.fails, self.other, self.lives = clock, seconds, fails or {}, other or {}, lives
        self.random, self.asked, self.closed = np.random.default_rng(seed), dict.fromkeys(seconds, 0), 0
        self.process = self

    def poll(self) -> int | None:
        return None if sum(self.asked.values()) < self.lives else -9

    def client(self, model: str, label: str | None = None) -> Any:
        host, who = self, label or model

        class Client:
            def prepare(self, inputs: Any, signature: str) -> Any:
                return inputs["x"]

            def send(self, request: Any) -> Any:
                host.asked[who] += 1
                host.clock.now += host.seconds[who] * float(np.exp(0.1 * host.random.normal()))
                if host.fails.get(who) and host.asked[who] % host.fails[who] == 0:
                    raise AnswerError("500", "no")
                return request + host.other.get(who, 0.0)

            def decode(self, raw: Any, signature: str) -> Any:
                return {"y": raw}

            def close(self) -> None:
                host.closed += 1
        return Client()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(bake, "time", made)
    return made


def _same(signature: str, one: Any, other: Any) -> bool:
    return bool(one["y"] == other["y"])


def _watched(*hosts: Any, control: Any = None, seconds: float = 60.0, requests: Any = None) -> Gate:
    return bake.watch(OPERATION, hosts, itertools.cycle(REQUESTS) if requests is None else iter(requests),
                      replace(LIMITS, seconds=seconds), _same, control, seed=0)


def _equal(clock: Clock, names: tuple[str, ...] = (STABLE, CANARY), **more: Any) -> Host:
    return Host(clock, dict.fromkeys(names, 0.005), **more)


def test_an_equal_canary_passes_as_soon_as_that_is_certain_and_all_are_asked_alike(clock: Clock) -> None:
    hosts, control = [_equal(clock), _equal(clock, seed=1)], _equal(clock, (FIRST, SECOND))
    found = _watched(*hosts, control=control, seconds=600)
    assert found.passed
    assert clock.now < 120
    asked = found.figures["requests"]
    assert hosts[0].asked[CANARY] + hosts[1].asked[CANARY] == asked
    assert 0.8 < hosts[0].asked[STABLE] / hosts[1].asked[STABLE] < 1.25
    assert control.asked == {FIRST: asked, SECOND: asked}
    assert [one.closed for one in (*hosts, control)] == [2, 2, 2]
    assert found.figures["ci95"][0] < 1 < found.figures["ci95"][1]


def test_when_the_time_is_over_nothing_may_be_certain(clock: Clock) -> None:
    found = _watched(_equal(clock), seconds=5)
    assert found.passed is None
    assert "nothing is certain after" in found.words
    assert clock.now == pytest.approx(5, abs=0.1)
    assert 80 <= found.figures["requests"] <= 101  # twenty a second


@pytest.mark.parametrize(("host", "words"), [
    ({"seconds": {STABLE: 0.005, CANARY: 0.007}}, "the canary is slower"),
    ({"seconds": {STABLE: 0.005, CANARY: 0.005}, "fails": {CANARY: 3}}, "fails requests that stable answers"),
    ({"seconds": {STABLE: 0.005, CANARY: 0.005}, "other": {CANARY: 1.0}}, "answers otherwise")])
def test_a_worse_canary_is_refused_before_the_time_is_over(host: dict[str, Any], words: str, clock: Clock) -> None:
    found = _watched(Host(clock, **host), control=_equal(clock, (FIRST, SECOND)))
    assert found.passed is False
    assert words in found.words
    assert clock.now < 10


def test_what_stable_and_the_control_do_too_is_no_reason(clock: Clock) -> None:
    host, control = _equal(clock, fails={STABLE: 7, CANARY: 7}), _equal(clock, (FIRST, SECOND), fails={SECOND: 7})
    assert _watched(host, control=control, seconds=20).passed is not False


def test_a_control_that_dies_is_asked_no_more(clock: Clock) -> None:
    control = _equal(clock, (FIRST, SECOND), lives=100)
    found = _watched(_equal(clock), control=control, seconds=20)
    assert found.figures["requests"] > 300
    assert sum(control.asked.values()) == 100


def test_without_requests_nothing_is_judged(clock: Clock) -> None:
    found = _watched(_equal(clock), requests=[])
    assert (found.passed, found.words) == (None, "there was no traffic to judge by")
    assert found.figures == {"doubtful": True}


def test_a_canary_that_does_not_answer_in_time_is_no_canary_that_passes(clock: Clock) -> None:
    found = _watched(Host(clock, {STABLE: 0.01, CANARY: 50.0}, {CANARY: 1}), seconds=60)
    assert found.passed is None
    assert found.figures["doubtful"]
    assert "the canary answered none of 2 requests" in found.words


@pytest.mark.parametrize(("server", "is_here"), [
    (Server("http://127.0.0.1:8501"), True), (Server("localhost:8501", "127.0.0.1:8500"), True),
    (Server(None, "unix:/run/it"), True), (Server(None, "[::1]:8500"), True),
    (Server("http://127.0.0.1:8501", "10.0.0.7:8500"), False), (Server("http://serving.example:8501"), False),
    (Server("http://127.example.com:8501"), False), (Server("http://localhost.example.com"), False)])
def test_a_control_is_for_servers_of_this_machine(
        server: Server, is_here: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_memory(*given: Any) -> Any:
        raise GateFailedError("it does not load: no memory")
    monkeypatch.setattr(bake, "private_server", no_memory)
    said: list[str] = []
    monkeypatch.setattr(bake, "say", said.append)
    with control_of(tmp_path, [server], LIMITS, ()) as found:
        assert found is None
    assert ("no memory" in said[0]) is is_here
    assert ("is another machine" in said[0]) is not is_here
    with control_of(tmp_path, [server], replace(LIMITS, control=False), ()) as found:
        assert found is None
    assert len(said) == 1


# What the operation makes of a bake.

def _seen(tmp_path: Path, requests: list[Golden], host: Any, asked: Asked | None = None, first: bool = False,
          **limits: Any) -> dict[str, Any]:
    held_to = replace(GATES, bake=replace(LIMITS, control=False, **limits))

    def recorded() -> Iterator[Golden]:
        return iter(requests)
    return proving.watch(OPERATION, [host], recorded, (None if first else tmp_path, tmp_path), held_to,
                         asked or Asked())


class Replaying(Host):
    """The same, which is also asked to predict."""

    def client(self, model: str, label: str | None = None) -> Any:
        client = super().client(model, label)
        client.predict = lambda inputs, signature: client.decode(client.send(client.prepare(inputs, signature)), "")
        return client


@pytest.mark.parametrize(("undecided", "paused"), [("pass", False), ("pause", True)])
def test_if_nothing_is_certain_it_passes_or_pauses_as_is_wished(
        undecided: str, paused: bool, clock: Clock, tmp_path: Path) -> None:
    found = _seen(tmp_path, REQUESTS, Replaying(clock, {STABLE: 0.005, CANARY: 0.005}), seconds=2.0,
                  undecided=undecided)
    assert (PAUSED in found) is paused
    assert found["bake"]["passed"] is None


def test_without_traffic_it_is_paused_whatever_is_wished(clock: Clock, tmp_path: Path) -> None:
    found = _seen(tmp_path, [], Replaying(clock, {STABLE: 0.005, CANARY: 0.005}))
    assert found[PAUSED] == "there was no traffic to judge by"


def test_a_first_version_and_one_that_is_not_to_be_watched_are_not(clock: Clock, tmp_path: Path) -> None:
    host = Replaying(clock, {STABLE: 0.005, CANARY: 0.05})
    assert "nothing to compare" in _seen(tmp_path, REQUESTS, host, first=True)["bake"]["words"]
    assert "not watched" in _seen(tmp_path, REQUESTS, host, seconds=0.0)["bake"]["words"]
    assert host.asked[CANARY] == len(REQUESTS)  # the replay's


@pytest.mark.parametrize("host", [
    {"seconds": {STABLE: 0.005, CANARY: 0.02}}, {"seconds": {STABLE: 0.005, CANARY: 0.005}, "other": {CANARY: 1.0}}])
def test_what_was_forced_is_held_to_its_errors_alone(host: dict[str, Any], clock: Clock, tmp_path: Path) -> None:
    with pytest.raises(StageFailedError):
        _seen(tmp_path, REQUESTS, Replaying(clock, **host), seconds=10.0)
    forced = _seen(tmp_path, REQUESTS, Replaying(clock, **host), Asked(force="trained anew"), seconds=60.0,
                   undecided="pause")
    assert PAUSED not in forced
    assert forced["bake"]["passed"] is True
    with pytest.raises(StageFailedError, match="fails requests"):
        _seen(tmp_path, REQUESTS, Replaying(clock, **host, fails={CANARY: 4}), Asked(force="trained anew"),
              seconds=10.0)
