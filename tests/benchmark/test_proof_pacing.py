"""What the generator promises about itself, in full: make proof ONLY=pacing."""
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from proof import Proof

from benchmark import runner
from benchmark.arrivals import Closed, Poisson
from benchmark.run import open_lanes
from benchmark.scenario import Scenario
from benchmark.targets import Instance, Target

CODE = tuple(f"benchmark/{name}.py" for name in ("runner", "punctual", "measurement", "histogram", "arrivals"))
SAMPLES = 1_000_000


def _lanes(scenario: Scenario, server: Any) -> Any:
    instance = Instance(Target("null", "null", "address"), None, server.rest, server.grpc)
    return open_lanes(scenario, instance, "", None, 0)


def _pacing(protocol: Any, server: Any) -> dict[str, Any]:
    scenario = Scenario("pacing", protocol=protocol, arrivals=Poisson(500, 1), measure_s=20)
    with _lanes(scenario, server) as (lanes, _):
        runner.run(scenario, lanes, 2)
        measurement = runner.run(scenario, lanes)
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
    with _lanes(scenario, server) as (lanes, _):
        warm = runner.run(scenario, lanes)
        before, answered = psutil.Process().memory_info().rss, 0
        while answered < SAMPLES:
            answered += runner.run(scenario, lanes, (SAMPLES - answered) / warm.rate_per_s + 1).answered
    return {"samples": answered, "resident_growth_mb": round((psutil.Process().memory_info().rss - before) / 1e6, 2)}


@pytest.mark.proof
def test_pacing_memory_is_flat_over_a_million_samples(null_server: Callable[..., Any]) -> None:
    row = Proof("pacing", seed=1, about=CODE).row("a million samples over rest", lambda: _memory(null_server()))
    assert row["samples"] >= SAMPLES
    assert row["resident_growth_mb"] < 8
