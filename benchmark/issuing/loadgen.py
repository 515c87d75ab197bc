"""MLPerf's LoadGen as the engine: it decides when requests are issued and times them; this project's clients send them.

Only this module imports mlcommons_loadgen, and only --engine loadgen imports this module. `engine_figures` are
LoadGen's, read from its log; the histograms are this project's, with the time at which LoadGen issued a query as its
intended start.
"""
import json
import queue
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from benchmark.issuing import runner
from benchmark.targets.connections import PreparedConnection
from benchmark.verdicts.arrivals import Closed, Offline, Poisson
from benchmark.verdicts.measurement import Measurement, Recorder
from benchmark.verdicts.scenario import Scenario
from user_error import UserError

try:
    import mlperf_loadgen as lg  # type: ignore[import-not-found, unused-ignore]
except ImportError:
    raise UserError("--engine loadgen needs MLPerf's LoadGen: pip install mlcommons_loadgen") from None

PREFIX = ":::MLLOG "
FIGURES = {"result_min_latency_ns": "min", "result_mean_latency_ns": "mean",
           "result_50.00_percentile_latency_ns": "p50", "result_90.00_percentile_latency_ns": "p90",
           "result_99.00_percentile_latency_ns": "p99"}
RATE = "result_samples_per_second"
PROBE_S = 0.3


def run(scenario: Scenario, connections: Sequence[PreparedConnection], seconds: float | None = None) -> Measurement:
    """One run with LoadGen; the connections, a thread each, are its system under test."""
    # LoadGen's Offline scenario is one query of rate * time samples, so it needs the rate beforehand.
    rate = runner.run(replace(scenario, arrivals=Closed(len(connections))), connections, PROBE_S).rate_per_s
    settings = _settings(scenario, scenario.measure_s if seconds is None else seconds, rate)
    work: queue.SimpleQueue[tuple[int, int, float] | None] = queue.SimpleQueue()
    recorders = [Recorder() for _ in connections]

    def serve(connection: PreparedConnection, recorder: Recorder) -> None:
        while taken := work.get():
            identity, index, issued = taken
            started = perf_counter()
            try:
                took, raw = connection.send(index)
            except UserError as error:
                recorder.errors[str(error)] += 1
                lg.QuerySamplesComplete([lg.QuerySampleResponse(identity, 0, 0)])
                continue
            lg.QuerySamplesComplete([lg.QuerySampleResponse(identity, 0, 0)])
            recorder.record(issued, started, took)
            recorder.wrong += not connection.right(index, raw)

    def issue(samples: list[Any]) -> None:
        now = perf_counter()
        for sample in samples:
            work.put((sample.id, sample.index, now))

    threads = [threading.Thread(target=serve, args=pair, daemon=True)
               for pair in zip(connections, recorders, strict=True)]
    count = len(connections[0].workload.inputs)
    with ExitStack() as stack:
        outdir = stack.enter_context(tempfile.TemporaryDirectory())
        sut, library = lg.ConstructSUT(issue, _nothing), lg.ConstructQSL(count, count, _ignored, _ignored)
        stack.callback(lg.DestroySUT, sut)
        stack.callback(lg.DestroyQSL, library)
        logs = lg.LogSettings()
        logs.log_output.outdir, logs.log_output.copy_summary_to_stdout = outdir, False
        logs.enable_trace = False
        for thread in threads:
            thread.start()
        began, cpu = perf_counter(), process_time()
        lg.StartTestWithLogSettings(sut, library, settings, logs, str(Path(outdir, "no-audit.config")))
        wall, cpu = perf_counter() - began, process_time() - cpu
        for _ in threads:
            work.put(None)
        for thread in threads:
            thread.join()
        figures = _figures(Path(outdir, "mlperf_log_detail.txt").read_text(encoding="utf-8"))
    total = Recorder()
    for recorder in recorders:
        total.merge(recorder)
    wrong = next((connection.checker.first_wrong for connection in connections if connection.checker.first_wrong), None)
    return Measurement(scenario, total, None, wall, cpu, first_wrong=wrong, engine_figures=figures)


def _settings(scenario: Scenario, seconds: float, rate_per_s: float) -> Any:
    settings, arrivals = lg.TestSettings(), scenario.arrivals
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_duration_ms = settings.max_duration_ms = round(seconds * 1e3)
    settings.min_query_count = 1
    if isinstance(arrivals, Poisson):
        settings.scenario = lg.TestScenario.Server
        settings.server_target_qps = arrivals.rate_per_s
        settings.schedule_rng_seed = arrivals.seed + 1
        settings.server_target_latency_ns = round((scenario.slo.latency_ms if scenario.slo else 1e5) * 1e6)
        percentile = scenario.slo.percentile if scenario.slo else 99
        settings.server_target_latency_percentile = (percentile if 0 < percentile < 100 else 99) / 100
        settings.min_query_count = max(1, round(arrivals.rate_per_s * seconds))
    elif isinstance(arrivals, Offline):
        settings.scenario = lg.TestScenario.Offline
        settings.offline_expected_qps = rate_per_s
    elif scenario.to_json()["arrivals"] == {"kind": "closed", "clients": 1}:
        settings.scenario = lg.TestScenario.SingleStream
        settings.single_stream_target_latency_percentile = scenario.percentile / 100
    else:
        raise UserError(f"LoadGen has no scenario like '{scenario.name}': --engine loadgen runs single-stream, server "
                        "(Poisson) and offline")
    return settings


def _figures(log: str) -> dict[str, float]:
    """Milliseconds (and requests_per_s) from LoadGen's detail log; figures that its scenario does not report are left
    out."""
    found = {}
    for line in log.splitlines():
        if line.startswith(PREFIX):
            entry = json.loads(line.removeprefix(PREFIX))
            if entry["key"] in FIGURES:
                found[FIGURES[entry["key"]]] = entry["value"] / 1e6
            elif entry["key"] == RATE:
                found["requests_per_s"] = entry["value"]
    return found


def _nothing() -> None:
    """LoadGen's flush: nothing to do, since no request is buffered."""


def _ignored(indices: list[int]) -> None:
    """LoadGen's load and unload of samples: nothing to do, since all requests are prepared beforehand."""
