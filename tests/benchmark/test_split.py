"""The parts of a request add up to its time, whether the server reports them per request or only in its metrics."""
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from benchmark import split
from benchmark.issuing import stages
from benchmark.reports.split import html, parts_of
from benchmark.targets.starting import Instance
from benchmark.targets.target import Target
from user_error import UserError

INSTANCE = Instance(Target("a", "m", "address"), None, None, "127.0.0.1:1")


class Clock:
    """A clock that only the test advances, so that other load on the machine does not count."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


CLOCK = Clock()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "perf_counter", CLOCK)


class Client:
    """A client whose calls take known times. `timing`: what its server reports in server-timing, in milliseconds."""

    def __init__(self, timing: dict[str, float]) -> None:
        self._timing = timing

    def prepare(self, inputs: Any, signature_name: str = "") -> bytes:
        CLOCK.now += 0.001
        return b""

    def send(self, request: bytes) -> bytes:
        CLOCK.now += 0.010
        return b""

    def decode(self, raw: bytes, signature_name: str = "") -> dict[str, Any]:
        CLOCK.now += 0.002
        return {}

    def server_timing(self) -> dict[str, float]:
        return self._timing


def _split(timing: dict[str, float], requests: int = 12) -> dict[str, dict[str, Any]]:
    clients: Any = {"rest": Client(timing), "grpc": Client(timing)}
    return stages.split(INSTANCE, clients, "", [{}], requests)


def test_the_times_that_the_server_reports_are_subtracted_from_the_wire() -> None:
    found = _split({"parse": 1.0, "queue": 0.5, "run": 3.0, "render": 2.0})
    assert list(found) == ["rest", "grpc"]
    for each in found.values():
        parts = each["milliseconds"]
        assert list(parts) == ["serialise", "wire", "parse", "queue", "run", "render", "decode"]
        assert (parts["parse"], parts["queue"], parts["run"], parts["render"]) == pytest.approx((1, 0.5, 3, 2))
        assert (parts["serialise"], parts["wire"], parts["decode"]) == pytest.approx((1, 3.5, 2))
        assert each["by"] == "server-timing"


def test_a_single_slow_request_does_not_change_the_typical_parts() -> None:
    rows = [{"wire": wire, "run": 0.001} for wire in (0.001, 0.002, 0.003, 0.004, 9.0)]
    parts = stages.typical(rows)["milliseconds"]
    assert parts["wire"] == pytest.approx(3)
    assert parts["run"] == pytest.approx(1)


def test_without_server_timing_the_metrics_give_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two readings of the metrics there are ten requests of 6 ms each, 4 ms of them in the runtime."""
    counts = iter(np.array([60_000.0, 10, 40_000, 10]) * n for n in range(100))
    monkeypatch.setattr(stages, "server_counts", lambda instance: next(counts))
    found = _split({}, 10)
    for each in found.values():
        parts = each["milliseconds"]
        assert list(parts) == ["serialise", "wire", "around", "run", "decode"]
        assert (parts["around"], parts["run"]) == pytest.approx((2, 4))
        assert parts["wire"] == pytest.approx(4)
    result = {"target": "a", "splits": [{"protocol": name, "batch": 1, **each} for name, each in found.items()],
              "kind": "split", "model": "m", "inputs": "none",
              "environment": {"cpu": "x", "cpu_quota": 1.0, "time": "now"}}
    assert "does not report the timing" in html(result)
    head, rows = parts_of(result)
    assert head[-1] == "total"
    assert float(rows[0][-1]) == pytest.approx(sum(map(float, rows[0][1:-1])), abs=0.06)


def test_counters_are_summed_by_kind() -> None:
    text = (':tensorflow:serving:request_latency_sum{API="predict",entrypoint="GRPC",model_name="m"} 500\n'
            ':tensorflow:serving:request_latency_sum{API="predict",entrypoint="REST",model_name="m"} 1.5e+03\n'
            ':tensorflow:serving:request_latency_count{API="predict",entrypoint="REST",model_name="m"} 4\n'
            ':tensorflow:serving:runtime_latency_sum{API="Predict",model_name="m",runtime="TF1"} 900\n'
            ':tensorflow:serving:runtime_latency_count{API="Predict",model_name="m",runtime="TF1"} 3\n')
    assert stages.counts_in(text).tolist() == [2000, 4, 900, 3]


def test_without_timing_and_without_metrics_there_is_no_split() -> None:
    with pytest.raises(UserError, match="give its --url too"):
        _split({})


def test_a_split_of_several_servers_is_refused() -> None:
    done = CliRunner().invoke(split.command, ["original", "--url", "http://127.0.0.1:1"])
    assert "a split is of one server" in str(done.exception)
