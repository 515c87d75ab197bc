"""The recorder: reports of several workers are added up, and objectives are judged."""
import json

import numpy as np
import pytest

from _plan import planned_users
from _recorder import Recorder, table, verdicts
from serving.client.objective import parse_objective

KEY = ("REST", "m/1 batch 1")


def recorded(latencies_ms: list[float], failures: int = 0, recorder: Recorder | None = None) -> Recorder:
    recorder = recorder or Recorder()
    for at, latency_ms in enumerate(latencies_ms):
        recorder.record(KEY, latency_ms, at < failures)
    return recorder


def test_merged_reports_of_workers_equal_one_recorder_of_all_requests() -> None:
    latencies = np.random.default_rng(1).lognormal(0, 3, 1000).tolist()
    master, whole = Recorder(), Recorder()
    for part in (latencies[:10], latencies[10:700], latencies[700:]):
        # Through JSON, since workers send their reports as plain values.
        master.merge(json.loads(json.dumps(recorded(part, failures=2).take())))
        recorded(part, failures=2, recorder=whole)
    assert whole.requests(KEY) == 1000
    assert master.to_json() == whole.to_json()


def test_a_report_is_taken_once() -> None:
    recorder = recorded([1.0])
    assert len(recorder.take()) == 1
    assert recorder.take() == []


def test_each_request_name_gets_its_own_verdict() -> None:
    recorder = recorded([1.0] * 99 + [100.0])
    for text, kept in (("p50=2ms", True), ("p99=2ms", True), ("max=99ms", False), ("mean=1.9ms", False),
                       ("mean=2ms", True)):
        verdict, errors = verdicts(recorder, (parse_objective(text),), None)
        assert verdict.kept == kept, verdict
        assert errors.kept
    recorder.record(("gRPC", "m/1 batch 1"), 500.0, False)
    kept = [verdict.kept for verdict in verdicts(recorder, (parse_objective("p99=2ms"),), None)]
    assert kept == [True, True, False, True]


def test_failures_have_no_latency_and_fail_the_run_unless_a_share_is_allowed() -> None:
    recorder = recorded([0.01] * 9 + [5.0] * 91, failures=9)  # failures are often fast: connections are refused
    [entry] = recorder.to_json()
    assert (entry["requests"], entry["failures"], entry["latency_ms"]["count"]) == (100, 9, 91)
    assert entry["latency_ms"]["p50"] == pytest.approx(5, rel=0.01)
    assert [verdict.kept for verdict in verdicts(recorder, (parse_objective("p99=6ms"),), None)] == [True, False]
    assert [verdict.kept for verdict in verdicts(recorder, (parse_objective("p99=6ms"),), 0.1)] == [True, True]
    assert [verdict.kept for verdict in verdicts(recorder, (), 0.08)] == [False]
    dead = recorded([0.01] * 5, failures=5)
    assert [(verdict.actual, verdict.kept) for verdict in verdicts(dead, (parse_objective("p99=6ms"),), 1.0)] == [
        ("no answer", False), ("1", True)]
    assert "-" in table(dead.to_json())


def test_without_requests_every_objective_is_missed() -> None:
    assert [verdict.kept for verdict in verdicts(Recorder(), (parse_objective("p99=1s"),), None)] == [False]
    assert [verdict.kept for verdict in verdicts(Recorder(), (), 0.0)] == [False]
    assert verdicts(Recorder(), (), None) == []


def test_latencies_are_shown_with_fractions_of_a_millisecond() -> None:
    text = table(recorded([0.4] * 10 + [1.4] * 2).to_json())
    assert "0.400" in text
    assert "1.400" in text


@pytest.mark.parametrize(("shape", "users"), [
    ("steps", [2, 4, 6, 8, 10]), ("spike", [1, 1, 10, 1, 1]), ("ramp", [1, 3, 5, 7, 9]),
])
def test_shapes(shape: str, users: list[int]) -> None:
    assert [planned_users(shape, at, 50, 10) for at in (5, 15, 25, 35, 45)] == users
    assert planned_users(shape, 50, 50, 10) is None
    assert planned_users(shape, 0, 50, 10) is not None
