"""--fail-if, --fail-if-not and --budget on made-up figures; and comparisons with a stored run."""
from typing import Any, cast

import pytest

from benchmark.verdicts.against import against
from benchmark.verdicts.block import Block
from benchmark.verdicts.demands import Demands, over_budget
from benchmark.verdicts.records import ComparisonRecord
from benchmark.verdicts.statistics import samples_needed
from serving.client.objective import parse_objective


def _mean(ratio: float = 1.0, low: float | None = 0.99, high: float | None = 1.01, floor: float = 0.01,
          verdict: str = "cannot tell", reasons: tuple[str, ...] = ()) -> ComparisonRecord:
    return cast(ComparisonRecord, {
        "baseline": "a", "candidate": "b", "protocol": "grpc", "batch": 1, "metric": "mean", "ratio": ratio,
        "ci95": [low, high], "verdict": verdict, "valid": not reasons, "reasons": list(reasons), "floor": floor})


@pytest.mark.parametrize(("verdict", "reasons", "fails"), [
    ("faster", (), set()), ("cannot tell", (), {"--fail-if-not faster"}),
    ("slower", (), {"--fail-if slower", "--fail-if-not faster"}),
    ("cannot tell", ("A/A differs",), {"--fail-if slower", "--fail-if-not faster"})])
def test_cannot_tell_is_neither_slower_nor_faster_and_invalid_fails_every_demand(
        verdict: str, reasons: tuple[str, ...], fails: set[str]) -> None:
    record = _mean(verdict=verdict, reasons=reasons)
    found = {Demands(fail_if="slower").failed(record), Demands(fail_if_not="faster").failed(record)}
    assert found - {None} == fails
    assert Demands().failed(record) is None


def _block(milliseconds: list[float], errors: int = 0) -> Block:
    seconds = tuple(value / 1e3 for value in milliseconds)
    return Block("b", 0, "grpc", 1, 0, seconds, sum(seconds), errors=errors)


@pytest.mark.parametrize(("budget", "why"), [
    ("p99=5ms", "9 ms"), ("p99=9ms", None), ("p50=1ms", None), ("p50=0.9ms", "1 ms"), ("mean=2ms", None),
    ("mean=1ms", "1.16 ms"), ("max=9ms", None), ("max=8ms", "9 ms"), ("p99.9=50ms", "cannot tell from 700 requests")])
def test_a_budget_limits_the_latency_at_its_percentile(budget: str, why: str | None) -> None:
    found = over_budget(parse_objective(budget), [_block([1.0] * 343 + [9.0] * 7), _block([1.0] * 343 + [9.0] * 7)])
    assert found == why if why is None else found is not None and found.startswith(why)


def test_a_budget_is_exceeded_if_requests_failed() -> None:
    assert over_budget(parse_objective("mean=1s"), [_block([1.0], errors=2)]) == "2 requests failed"


def test_demands_give_the_number_of_requests_that_they_need() -> None:
    assert Demands(budgets=(parse_objective("p99=5ms"), parse_objective("p50=1ms"))).requests() == samples_needed(99)
    assert Demands(budgets=(parse_objective("mean=5ms"),)).requests() == 1
    assert Demands().requests() == 0


@pytest.mark.parametrize(("now", "stored", "verdict"), [
    ((1.0, 0.99, 1.01), (1.5, 1.48, 1.52), "slower"), ((1.5, 1.48, 1.52), (1.0, 0.99, 1.01), "faster"),
    ((1.2, 1.18, 1.22), (1.2, 1.18, 1.22), "cannot tell")])
def test_two_runs_are_compared_by_their_ratios(now: tuple[float, ...], stored: tuple[float, ...],
                                               verdict: str) -> None:
    found = against(_mean(*now), _mean(*stored))
    assert found["verdict"] == verdict
    assert found["valid"]
    assert found["ratio"] == pytest.approx(now[0] / stored[0])
    low, high = cast(tuple[float, float], found["ci95"])
    widest = max((now[2] - now[1]) / now[0], (stored[2] - stored[1]) / stored[0])
    assert (high - low) / found["ratio"] > widest  # the uncertainty of both runs adds up
    assert found["floor"] > 0.01


def test_an_invalid_run_gives_no_verdict_against_another() -> None:
    found = against(_mean(1.0), _mean(2.0, 1.9, 2.1, reasons=("A/A differs",)))
    assert (found["verdict"], found["valid"], found["reasons"]) == ("cannot tell", False, ["stored: A/A differs"])
    unknown: Any = against(_mean(1.0, None, None), _mean(2.0, 1.9, 2.1))
    assert (unknown["verdict"], unknown["reasons"]) == ("cannot tell", ["one of the two has no interval"])
