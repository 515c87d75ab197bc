"""The load generator keeps its schedule, and its memory does not grow: make proof ONLY=pacing."""
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from proof import Proof

from benchmark.issuing import runner
from benchmark.issuing.warm import open_connections
from benchmark.targets.inputs import Inputs
from benchmark.targets.starting import Instance
from benchmark.targets.target import Target
from benchmark.verdicts.arrivals import Closed, Poisson
from benchmark.verdicts.scenario import Scenario

CODE = ("benchmark/issuing/runner.py", "benchmark/issuing/real_time.py", "benchmark/verdicts/measurement.py",
        "benchmark/verdicts/histogram.py", "benchmark/verdicts/arrivals.py")
SAMPLES = 1_000_000


def _connections(scenario: Scenario, server: Any) -> Any:
    instance = Instance(Target("null", "null", "address"), None, server.rest, server.grpc)
    return open_connections(scenario, instance, Inputs())


def _pacing(protocol: Any, server: Any) -> dict[str, Any]:
    scenario = Scenario("pacing", protocol=protocol, arrivals=Poisson(500, 1), measure_s=20)
    with _connections(scenario, server) as (connections, _):
        runner.run(scenario, connections, 2)
        measurement = runner.run(scenario, connections)
    late = measurement.recorder.late
    return {"requests": measurement.answered, "dropped": measurement.recorder.dropped,
            **{f"late_p{p:g}_ms": round(late.percentile(p) * 1e3, 3) for p in (50, 99, 99.9)}}


@pytest.mark.proof
@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_pacing_at_500_per_second(protocol: str, null_server: Callable[..., Any]) -> None:
    row = Proof("pacing", seed=1, about=CODE).row(f"500/s over {protocol}", lambda: _pacing(protocol, null_server()))
    assert row["dropped"] == 0
    assert row["late_p99_ms"] < 1


def _memory(server: Any) -> dict[str, Any]:
    scenario = Scenario("memory", protocol="rest", arrivals=Closed(1), measure_s=5)
    with _connections(scenario, server) as (connections, _):
        warm = runner.run(scenario, connections)
        before, answered = psutil.Process().memory_info().rss, 0
        while answered < SAMPLES:
            answered += runner.run(scenario, connections, (SAMPLES - answered) / warm.rate_per_s + 1).answered
    return {"samples": answered, "resident_growth_mb": round((psutil.Process().memory_info().rss - before) / 1e6, 2)}


@pytest.mark.proof
def test_pacing_memory_is_flat_over_a_million_samples(null_server: Callable[..., Any]) -> None:
    row = Proof("pacing", seed=1, about=CODE).row("a million samples over rest", lambda: _memory(null_server()))
    assert row["samples"] >= SAMPLES
    assert row["resident_growth_mb"] < 8
