"""When a comparison ends."""
import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import cores
from benchmark.issuing import group
from benchmark.issuing.plan import Plan
from benchmark.issuing.rounds import Outcome, measure
from benchmark.targets.connections import PreparedConnection
from benchmark.targets.target import Target
from benchmark.verdicts.block import Block
from benchmark.verdicts.comparison import TYPICAL, Rules, compare


def _requests(outcome: Outcome, name: str) -> int:
    return sum(len(block.latencies) for block in outcome.blocks if block.target == name)


def test_a_number_of_requests_is_measured_exactly(null_server: Callable[..., Any]) -> None:
    server = null_server()
    targets = tuple(Target(name, "null", "address", rest=server.rest, grpc=server.grpc) for name in "ab")
    outcome = measure(Plan(targets, ("rest",), (1,), repeat=8, warmup=1))
    assert [_requests(outcome, name) for name in "ab"] == [8, 8]
    assert sorted({block.round for block in outcome.blocks}) == [0, 1, 2, 3]


def _plan(null_server: Callable[..., Any], first_ms: float, second_ms: float, **changes: Any) -> Plan:
    servers = {"a": null_server(work_ms=first_ms), "b": null_server(work_ms=second_ms, number=1)}
    targets = tuple(Target(name, "null", "address", grpc=server.grpc) for name, server in servers.items())
    return Plan(targets, ("grpc",), (1,), warmup=1, **changes)


@pytest.mark.parametrize(("second_ms", "verdict"), [(1, "faster"), (4, "slower")])
def test_a_run_ends_when_its_verdict_is_certain(second_ms: float, verdict: str, null_server: Callable[..., Any],
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "LONG_S", 0.0)
    monkeypatch.setattr(group, "BLOCK_S", 0.004)
    outcome = measure(_plan(null_server, 2, second_ms, repeat=100_000, until_certain=True))
    assert _requests(outcome, "a") < 2000
    assert outcome.ended["gRPC batch 1"].startswith("the verdict was certain after")
    assert outcome.about()["ended"] == outcome.ended
    assert compare(outcome.blocks, "a", "b", TYPICAL).verdict == verdict


def test_a_run_without_a_verdict_ends_after_its_time_and_requests(null_server: Callable[..., Any],
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "LONG_S", 0.0)
    monkeypatch.setattr(group, "BLOCK_S", 0.01)
    plan = _plan(null_server, 2, 2, repeat=40, until_certain=True, rules=Rules(equal_within=0.0))
    outcome = measure(plan)
    assert 40 <= _requests(outcome, "a") < 60
    assert re.fullmatch(r"no verdict in \d+ s, after \d+ requests per target", outcome.ended["gRPC batch 1"])


def test_what_is_demanded_is_measured_though_the_verdict_is_certain(null_server: Callable[..., Any],
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "LONG_S", 0.0)
    monkeypatch.setattr(group, "BLOCK_S", 0.02)
    outcome = measure(_plan(null_server, 0, 3, repeat=10, until_certain=True, demanded=1200))
    assert _requests(outcome, "b") >= 1200


def test_the_time_limit_ends_a_run_and_keeps_its_rounds(null_server: Callable[..., Any]) -> None:
    plan = _plan(null_server, 2, 2, repeat=1_000_000, max_s=0.5)
    outcome = measure(replace(plan, batches=(1, 2)))
    for batch in (1, 2):
        assert outcome.ended[f"gRPC batch {batch}"].startswith("the time limit (--max-time), after")
        # At least two rounds: a single round has no spread.
        assert len({block.round for block in outcome.blocks if block.batch == batch}) >= 2


def test_warming_up_takes_nothing_of_the_time_limit(null_server: Callable[..., Any]) -> None:
    plan = _plan(null_server, 12, 12, repeat=400, max_s=2)
    # The warm-up of its four connections takes at least 2.4 s, and a round of 16 requests some 0.2 s.
    outcome = measure(replace(plan, warmup=50))
    assert outcome.ended["gRPC batch 1"].startswith("the time limit (--max-time), after")
    assert len({block.round for block in outcome.blocks}) >= 4


@pytest.mark.parametrize(("long_s", "lead_s"), [(0.0, 0.0), (60.0, group.LEAD_S)])
def test_each_turn_of_quick_requests_has_a_lead_and_turns_of_long_ones_have_none(
        long_s: float, lead_s: float, null_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "_LONG_REQUEST_S", long_s)
    real, leads = PreparedConnection.block, []

    def block(self: PreparedConnection, count: int, lead: float = 0.0, **labels: Any) -> Block:
        if labels["round"] >= 0:
            leads.append(lead)
        return real(self, count, lead, **labels)
    monkeypatch.setattr(PreparedConnection, "block", block)
    measure(_plan(null_server, 1, 2, repeat=8))
    assert set(leads) == {lead_s}


@pytest.mark.parametrize(("seconds", "most", "sent"), [
    (0.1, 10, 10), (1.0, 10, 4), (30.0, 10, group.LEAST_WARM), (30.0, 1, 1), (1.0, 0, 0)])
def test_a_slow_model_is_warm_after_fewer_requests(seconds: float, most: int, sent: int) -> None:
    took: list[float] = []

    class Slow:
        def send(self, index: int) -> tuple[float, Any]:
            took.append(seconds)
            return seconds, index

        def right(self, index: int, raw: Any) -> bool:
            return bool(raw == index)
    connection: Any = Slow()
    assert group.warm_up(connection, most) == pytest.approx(seconds if sent else 0)
    assert len(took) == sent


@pytest.mark.parametrize(("design", "words"), [
    ("duet", "not pinned; --design duet cannot be"), ("auto", "not pinned"), ("interleaved", "not pinned")])
def test_where_processes_are_not_ours_they_take_turns_and_the_result_says_why(
        design: str, words: str, null_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "allowed", lambda: (0, 1))
    monkeypatch.setattr(cores, "cpu_quota", lambda: 2.0)
    outcome = measure(_plan(null_server, 1, 1, repeat=8, design=design))
    how = outcome.about()["design"]["gRPC batch 1"]
    assert how.startswith("interleaved: processes that were not started here")
    assert how.endswith(words)


@pytest.mark.parametrize(("there", "quota", "why"), [
    ((), 2.0, "this system pins no process"), ((0,), 1.0, "there is one core"),
    ((0, 1), 0.5, "the CPU quota is 0.5 CPUs")])
def test_with_one_core_they_take_turns(there: tuple[int, ...], quota: float, why: str, null_server: Callable[..., Any],
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "allowed", lambda: there)
    monkeypatch.setattr(cores, "cpu_quota", lambda: quota)
    outcome = measure(_plan(null_server, 1, 1, repeat=8, design="duet"))
    assert outcome.design["gRPC batch 1"] == f"interleaved: {why}; --design duet cannot be"


def test_a_clock_that_steps_changes_no_time(null_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock goes back and forth by hours, as when a machine is set or wakes up."""
    steps = itertools.cycle([1e9, 1e9 - 7200, 1e9 + 7200])
    servers = [null_server(work_ms=2), null_server(work_ms=2, number=1)]
    targets = tuple(Target(server.rest, "null", "address", rest=server.rest) for server in servers)
    monkeypatch.setattr("time.time", lambda: next(steps))
    outcome = measure(Plan(targets, ("rest",), (1,), repeat=8, warmup=1, max_s=60.0))
    assert outcome.ended["REST batch 1"] == "all 8 requests per target"
    assert all(0.001 < value < 5 for block in outcome.blocks for value in (block.wall_s, *block.latencies))
