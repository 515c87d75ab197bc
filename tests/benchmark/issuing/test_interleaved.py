"""When a comparison ends."""
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from simulated_latency import simulated_blocks

from benchmark.issuing import interleaved
from benchmark.issuing.interleaved import Outcome, Plan, measure
from benchmark.targets.connections import PreparedConnection
from benchmark.targets.target import Target
from benchmark.verdicts import comparison
from benchmark.verdicts.comparison import Block, compare, precise


@pytest.mark.parametrize(("repeat", "enough"), [(20, False), (2000, True)])
@pytest.mark.parametrize("candidate", [0.06, 0.03])
def test_precision_depends_only_on_the_width_of_the_interval(repeat: int, enough: bool, candidate: float) -> None:
    assert precise(simulated_blocks({"a": 0.06, "b": candidate}, repeat), ["a", "b"]) is enough


def test_the_ratios_of_the_noise_floor_must_be_precise_too() -> None:
    """Replicas that drift alike in both targets: the ratio of the targets is precise, the A/A ratios are not."""
    random = np.random.default_rng(0)
    slow = np.exp(random.normal(0, 0.2, (50, 2)))
    blocks = [Block(name, replica, "rest", 1, round_, (slow[round_, replica],), slow[round_, replica])
              for round_ in range(50) for replica in (0, 1) for name in "ab"]
    assert compare(blocks, "a", "b", "mean").ci95 == (1, 1)
    assert not precise(blocks, ["a", "b"])


def _requests(outcome: Outcome, name: str) -> int:
    return sum(len(block.latencies) for block in outcome.blocks if block.target == name)


@pytest.mark.parametrize(("most", "precision", "requests"), [(0, 0.0, 8), (20, 0.0, 20), (20, 1e9, 8)])
def test_a_run_goes_on_until_it_is_precise_or_long_enough(
        most: int, precision: float, requests: int, null_server: Callable[..., Any],
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "PRECISE", precision)
    server = null_server()
    targets = tuple(Target(name, "null", "address", rest=server.rest, grpc=server.grpc) for name in "ab")
    outcome = measure(Plan(targets, ("rest",), (1,), repeat=8, most=most, warmup=1))
    assert [_requests(outcome, name) for name in "ab"] == [requests, requests]
    assert sorted({block.round for block in outcome.blocks}) == list(range(requests // 2))


def _plan(null_server: Callable[..., Any], first_ms: float, second_ms: float, **changes: Any) -> Plan:
    servers = {"a": null_server(work_ms=first_ms), "b": null_server(work_ms=second_ms, number=1)}
    targets = tuple(Target(name, "null", "address", grpc=server.grpc) for name, server in servers.items())
    return Plan(targets, ("grpc",), (1,), warmup=1, **changes)


def test_a_long_run_ends_when_its_verdict_is_clear(null_server: Callable[..., Any],
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interleaved, "LONG_S", 0.0)
    monkeypatch.setattr(interleaved, "LEAST_CLEAR", 16)
    outcome = measure(_plan(null_server, 12, 1, repeat=400, most=400, until_clear=True))
    assert 16 <= _requests(outcome, "a") < 400
    assert outcome.ended["gRPC batch 1"].startswith("the verdict was clear after")
    assert outcome.about()["ended"] == outcome.ended


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


@pytest.mark.parametrize(("long_s", "lead_s"), [(0.0, 0.0), (60.0, interleaved.LEAD_S)])
def test_each_turn_of_quick_requests_has_a_lead_and_turns_of_long_ones_have_none(
        long_s: float, lead_s: float, null_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interleaved, "_LONG_REQUEST_S", long_s)
    real, leads = PreparedConnection.block, []

    def block(self: PreparedConnection, count: int, lead: float = 0.0, **labels: Any) -> Block:
        if labels["round"] >= 0:
            leads.append(lead)
        return real(self, count, lead, **labels)
    monkeypatch.setattr(PreparedConnection, "block", block)
    measure(_plan(null_server, 1, 2, repeat=8))
    assert set(leads) == {lead_s}


@pytest.mark.parametrize(("seconds", "most", "sent"), [
    (0.1, 10, 10), (1.0, 10, 4), (30.0, 10, interleaved.LEAST_WARM), (30.0, 1, 1), (1.0, 0, 0)])
def test_a_slow_model_is_warm_after_fewer_requests(seconds: float, most: int, sent: int) -> None:
    took: list[float] = []

    class Slow:
        def send(self, index: int) -> tuple[float, Any]:
            took.append(seconds)
            return seconds, index

        def right(self, index: int, raw: Any) -> bool:
            return bool(raw == index)
    connection: Any = Slow()
    assert interleaved.warm_up(connection, most) == pytest.approx(seconds if sent else 0)
    assert len(took) == sent
