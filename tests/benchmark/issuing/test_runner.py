"""The runner against servers that work for a known time: schedules, latency from the intended start, both engines."""
import gc
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import Any

import pytest
from bare_clients import bare_cpu_s

from benchmark.issuing import loadgen, real_time, runner
from benchmark.issuing.warm import generator_ceiling, open_connections
from benchmark.targets.connections import PreparedConnection
from benchmark.targets.inputs import Inputs
from benchmark.targets.starting import Instance
from benchmark.targets.target import Target
from benchmark.verdicts.arrivals import Closed, Constant, Offline, Poisson
from benchmark.verdicts.scenario import Scenario, Slo, Validity, parse_slo


@contextmanager
def connections_for(scenario: Scenario, server: Any) -> Iterator[list[PreparedConnection]]:
    instance = Instance(Target("null", "null", "address"), None, server.rest, server.grpc)
    with open_connections(scenario, instance, Inputs()) as (connections, _):
        for connection in connections:
            connection.send(0)
        yield connections


def _run(scenario: Scenario, server: Any) -> Any:
    with connections_for(scenario, server) as connections:
        return runner.run(scenario, connections)


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_an_open_loop_keeps_its_schedule(protocol: Any, null_server: Callable[..., Any]) -> None:
    scenario = Scenario("x", protocol=protocol, arrivals=Poisson(150, seed=2), measure_s=2)
    measurement = _run(scenario, null_server())
    assert measurement.answered == measurement.scheduled == len(Poisson(150, seed=2).schedule(2))
    assert measurement.wall_s >= 2
    assert measurement.recorder.late.count == measurement.answered
    assert not measurement.failed
    assert not measurement.recorder.wrong


def test_the_schedule_starts_after_the_generator_is_ready(
        null_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process with a large heap, the garbage collection before a run takes some time."""
    ready, began = list[float](), list[float]()
    monkeypatch.setattr(real_time.gc, "collect", lambda: ready.append(perf_counter()))
    issue = runner._open
    monkeypatch.setattr(runner, "_open", lambda connection, recorder, start, queue: (
        began.append(start), issue(connection, recorder, start, queue)))
    assert _run(Scenario("x", arrivals=Constant(20), measure_s=0.5), null_server()).answered
    assert len(ready) == 1
    assert min(began) > ready[0]


def test_latency_counts_from_the_intended_start(null_server: Callable[..., Any]) -> None:
    """A server that takes 20 ms, with a request every 10 ms on one connection, falls behind: latency grows."""
    scenario = Scenario("x", arrivals=Constant(100), measure_s=1)
    with connections_for(scenario, null_server(work_ms=20)) as connections:
        measurement = runner.run(scenario, connections[:1])
    # The 90th request waits for 89 requests, each of which adds at least 10 ms.
    assert measurement.recorder.intended.percentile(90) > 10 * measurement.recorder.sent.percentile(50)
    assert any(reason.startswith("rate missed") for reason in measurement.reasons())
    assert any(reason.startswith("requests started late") for reason in measurement.reasons())


def test_requests_that_were_never_sent_are_counted_as_dropped(
        null_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "GRACE_S", 0.1)
    scenario = Scenario("x", arrivals=Constant(200), measure_s=1)
    with connections_for(scenario, null_server(work_ms=30)) as connections:
        measurement = runner.run(scenario, connections[:1])
    assert measurement.recorder.dropped > 100
    assert measurement.answered + measurement.recorder.dropped == measurement.scheduled == 200
    assert any("were not sent in time" in reason for reason in measurement.reasons())


def test_a_closed_loop_has_as_many_requests_in_flight_as_clients(null_server: Callable[..., Any]) -> None:
    server = null_server(work_ms=5)
    measurement = _run(Scenario("x", arrivals=Closed(1), measure_s=1), server)
    assert measurement.rate_per_s < 200
    assert measurement.recorder.sent.percentile(50) >= 0.005
    # Each request is due when it is sent: its latency contains nothing of the previous request.
    assert measurement.recorder.intended.percentile(50) < 1.5 * measurement.recorder.sent.percentile(50)
    assert Offline(3).clients == len(_connection_count(Scenario("x", arrivals=Offline(3)), server))


def _connection_count(scenario: Scenario, server: Any) -> list[PreparedConnection]:
    with connections_for(scenario, server) as connections:
        return connections


def test_errors_are_counted_by_kind(null_server: Callable[..., Any]) -> None:
    server = null_server(number=1)
    with ExitStack() as stack:
        connections = stack.enter_context(connections_for(Scenario("x", arrivals=Closed(1), measure_s=0.3), server))
        server.child.stop()
        measurement = runner.run(Scenario("x", arrivals=Closed(1), measure_s=0.3), connections)
    assert measurement.failed > 0
    assert not measurement.answered
    assert any("requests failed" in reason for reason in measurement.reasons())
    assert measurement.to_json()["result"]["value"] is None


def test_too_few_samples_for_the_percentile_make_a_run_invalid(null_server: Callable[..., Any]) -> None:
    scenario = Scenario("x", arrivals=Constant(50), measure_s=1, percentile=99.9, slo=Slo(99, 1000),
                        validity=Validity(max_rate_error=1e6, max_late_ms=1e6, max_generator_cpu=1e6))
    reasons = _run(scenario, null_server()).reasons()
    assert reasons == ["p99 needs 662 samples, there are 50: measure longer",
                       "p99.9 needs 6,636 samples, there are 50: measure longer"]


def test_an_slo_is_met_or_missed(null_server: Callable[..., Any]) -> None:
    scenario = Scenario("x", arrivals=Closed(1), measure_s=0.5, slo=Slo(50, 100_000))
    server = null_server(work_ms=4)
    assert _run(scenario, server).slo_met() is True
    assert _run(Scenario("x", arrivals=Closed(1), measure_s=0.5, slo=Slo(50, 2)), server).slo_met() is False
    # An SLO of the mean or the maximum, which needs no minimum number of samples.
    slos = {text: parse_slo(text) for text in ("mean=1ms", "max=1ms", "mean=100s", "max=100s")}
    met = {text: _run(Scenario("x", arrivals=Closed(1), measure_s=0.2, slo=slo), server).slo_met()
           for text, slo in slos.items()}
    assert met == {"mean=1ms": False, "max=1ms": False, "mean=100s": True, "max=100s": True}


@pytest.mark.slow
@pytest.mark.parametrize("scenario", [
    Scenario("single-stream", arrivals=Closed(1)), Scenario("server", arrivals=Poisson(40, 3)),
    Scenario("offline", arrivals=Offline(2))], ids=lambda s: s.name)
def test_loadgen_agrees_with_our_runner(scenario: Scenario, null_server: Callable[..., Any]) -> None:
    """Both engines measure the same 5 ms server alternately: the fastest requests that they report agree."""
    offline, our_times, loadgen_times = scenario.name == "offline", [], []
    with connections_for(scenario, null_server(work_ms=5)) as connections:
        for rounds in range(1, 41):
            own, other = runner.run(scenario, connections, 0.25), loadgen.run(scenario, connections, 0.25)
            assert not other.failed
            assert not other.recorder.wrong
            figures = other.engine_figures
            assert figures is not None
            our_times.append(1 / own.rate_per_s if offline else own.recorder.intended.percentile(0))
            loadgen_times.append(1 / figures["requests_per_s"] if offline else figures["min"] / 1e3)
            assert other.recorder.intended.percentile(50) <= figures.get("p99", 1e9) / 1e3
            # Noise only adds time: each engine's lowest time over all rounds counts. A busy machine needs more rounds.
            if rounds >= 3 and 1 / 2 < min(loadgen_times) / min(our_times) < 2:
                return
    pytest.fail(f"after {rounds} rounds LoadGen says {min(loadgen_times):.4f} s and our runner {min(our_times):.4f} s")


# The CPU time of a request through the runner, which checks every answer: at most this many times that of a request
# without client code.
MOST = {"rest": 40, "grpc": 8}


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_a_request_costs_little_more_cpu_than_without_the_runner(
        protocol: Any, null_server: Callable[..., Any]) -> None:
    scenario, server = Scenario("x", protocol=protocol, arrivals=Closed(1), measure_s=0.5), null_server()
    with connections_for(scenario, server) as connections:
        runs = [runner.run(scenario, connections) for _ in range(3)]
        inputs = connections[0].workload.inputs[0]
        body = connections[0].connection.prepare(inputs) if protocol == "grpc" else b'{"instances": [[1.0]]}'
        bare = bare_cpu_s(protocol, getattr(server, protocol), body)
    assert min(run.cpu_s / run.answered for run in runs) < MOST[protocol] * bare


def _kept(run: Callable[[], Any]) -> tuple[int, int]:
    """(number of answered requests, bytes of memory that the measurement takes)."""
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    measurement = run()
    gc.collect()
    return measurement.answered, tracemalloc.get_traced_memory()[0] - before


@pytest.mark.slow
def test_memory_is_flat_however_many_samples(null_server: Callable[..., Any]) -> None:
    scenario = Scenario("x", protocol="rest", arrivals=Closed(1), measure_s=0.3)
    with connections_for(scenario, null_server()) as connections:
        runner.run(scenario, connections)
        tracemalloc.start()
        try:
            _kept(lambda: runner.run(scenario, connections))
            few, least = _kept(lambda: runner.run(scenario, connections))
            seconds = 0.3 * max(1, 4000 / few) + 1.0
            many, most = _kept(lambda: runner.run(scenario, connections, seconds))
        finally:
            tracemalloc.stop()
    assert many > few + 1000
    # A list of numbers would grow by 32 bytes a sample.
    assert most - least < 8 * (many - few)


def test_the_ceiling_is_measured_with_the_same_workload(null_server: Callable[..., Any]) -> None:
    """The generator's ceiling is near the rate that one connection reaches here against a null server."""
    rates = {}
    for batch in (64, 4096):
        scenario = Scenario("x", protocol="rest", batch=batch, arrivals=Closed(1), measure_s=0.5)
        with connections_for(scenario, null_server()) as connections:
            # Noise only lowers a rate: the highest rate counts, and a busy machine needs more tries.
            for _ in range(20):
                rates[batch] = max(rates.get(batch, 0.0), runner.run(scenario, connections[:1]).rate_per_s)
                ceiling = generator_ceiling(scenario, connections[0].workload)
                if 1 / 5 < ceiling / rates[batch] < 5:
                    break
            assert 1 / 5 < ceiling / rates[batch] < 5
