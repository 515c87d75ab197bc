"""python -m benchmark sweep and search: how much a server takes, and at what latency."""
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from benchmark import report
from benchmark.issuing import runner
from benchmark.issuing.interleaved import alive, start_all
from benchmark.options import address_options, model_options, numbers, output_options
from benchmark.reports import stored
from benchmark.reports.environment import environment
from benchmark.reports.tables import CURVE_PERCENTILE
from benchmark.run import open_connections
from benchmark.targets.connections import Measured
from benchmark.targets.target import PROTOCOLS, Target, find_target
from benchmark.verdicts import capacity, scenario
from benchmark.verdicts.arrivals import Arrivals, Closed, Poisson
from benchmark.verdicts.capacity import Decision, Point
from benchmark.verdicts.measurement import Measurement
from benchmark.verdicts.scenario import Scenario
from commandline import step
from user_error import FailedError, UserError
from whole_file import write_json


@click.command("sweep", epilog="""\b
Examples:
  python -m benchmark sweep original optimized --clients 1,2,4,8 --protocol grpc
  python -m benchmark sweep optimized --rates 5,10,20,40 --measure 10 --html reports/sweep.html
""")
@click.argument("variants", nargs=-1, metavar="[VARIANT ...]")
@model_options
@address_options
@click.option("--protocol", type=click.Choice(PROTOCOLS), default="grpc", show_default=True, help="How to ask.")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Examples per request.")
@click.option("--clients", type=numbers, help="Closed loops of so many clients (default: 1,2,4,8).")
@click.option("--rates", type=numbers, help="Open loops (Poisson) of so many requests per second.")
@click.option("--measure", type=click.FloatRange(0, min_open=True), default=5.0, show_default=True,
              help="Seconds per load.")
@output_options
def sweep(variants: tuple[str, ...], model: str, models: Path, signature: str, samples: Path | None, seed: int,
          grappler: str, server_flags: tuple[str, ...], running: list[Target], protocol: str,
          batch: int, clients: tuple[float, ...] | None, rates: tuple[float, ...] | None, measure: float,
          html_path: str | None, json_path: str | None) -> None:
    """Measures VARIANTs under growing load: the throughput-latency curve and its knee."""
    if clients and rates:
        raise UserError("a sweep is over --clients or over --rates, not both")
    loads: list[Arrivals] = [Poisson(rate, seed) for rate in rates] if rates else [
        Closed(int(count)) for count in clients or (1, 2, 4, 8)]
    chosen = Scenario("sweep", protocol="rest" if protocol == "rest" else "grpc", batch=batch, measure_s=measure)
    found = _found(variants, models, model, server_flags, running)
    result = _document("sweep", chosen, found, seed) | {"over": "rate" if rates else "clients", "curves": []}
    for target in found:
        points, runs = [], []
        widest = replace(chosen, arrivals=max(loads, key=_load))
        with _warm(widest, target, signature, samples, seed) as (connections, words):
            for arrivals in loads:
                with step(f"{target.name}: {_load(arrivals):g} {result['over']}"):
                    each = replace(chosen, arrivals=arrivals)
                    measurement = runner.run(each, connections[:runner.workers_for(each)])
                points.append(_point(measurement))
                runs.append(measurement.to_json())
        result["inputs"] = words
        result["curves"].append({"target": target.name, "knee": asdict(capacity.knee(points)),
                                 "points": [asdict(point) for point in points], "runs": runs})
        if json_path and json_path != "-":
            write_json(json_path, result)
    report.deliver(result, html_path, json_path)


@click.command("search", epilog="""\b
Examples:
  python -m benchmark search optimized --slo p99=50ms
  python -m benchmark search original optimized --slo p95=20ms --protocol rest --start 20
\b
A rate is kept only when, with 95 % confidence, no more requests were slow than the promise allows.
""")
@click.argument("variants", nargs=-1, metavar="[VARIANT ...]")
@model_options
@address_options
@click.option("--slo", required=True, metavar="pP=Nms", help="The promise, such as p99=50ms.")
@click.option("--protocol", type=click.Choice(PROTOCOLS), default="grpc", show_default=True, help="How to ask.")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Examples per request.")
@click.option("--start", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True,
              help="The first rate tried, in requests per second.")
@click.option("--tolerance", type=click.FloatRange(0, 1, min_open=True), default=0.05, show_default=True,
              help="How close the rates kept and broken must come, as a fraction.")
@click.option("--most-s", type=click.FloatRange(0, min_open=True), default=30.0, show_default=True,
              help="Seconds that one rate is measured at most.")
@output_options
def search(variants: tuple[str, ...], model: str, models: Path, signature: str, samples: Path | None, seed: int,
           grappler: str, server_flags: tuple[str, ...], running: list[Target], slo: str,
           protocol: str, batch: int, start: float, tolerance: float, most_s: float, html_path: str | None,
           json_path: str | None) -> None:
    """Finds the highest rate (Poisson arrivals) at which VARIANTs keep a latency promise."""
    promise = scenario.parse_slo(slo)
    assert promise is not None
    chosen = Scenario("search", protocol="rest" if protocol == "rest" else "grpc", batch=batch, slo=promise,
                      percentile=promise.percentile, arrivals=Poisson(start, seed))
    found = _found(variants, models, model, server_flags, running)
    result = _document("search", chosen, found, seed) | {"searches": []}
    for target in found:
        probes: list[dict[str, Any]] = []
        widest = replace(chosen, arrivals=Poisson(runner.MAX_WORKERS, seed))
        with _warm(widest, target, signature, samples, seed) as (connections, words):
            bracket = capacity.search(_probe(chosen, connections, target, most_s, probes), start, tolerance)
        result["inputs"] = words
        result["searches"].append({"target": target.name, "met": bracket.met, "missed": bracket.missed,
                                   "probes": probes})
        if json_path and json_path != "-":
            write_json(json_path, result)
    report.deliver(result, html_path, json_path)


def _probe(chosen: Scenario, connections: list[Measured], target: Target, most_s: float,
           probes: list[dict[str, Any]]) -> Callable[[float], Decision]:
    """Measures one rate until the promise is decided, at most most_s."""
    promise = chosen.slo
    assert promise is not None

    def probe(rate: float) -> Decision:
        # Long enough that no slow request at all would decide it, then twice as long as that where it did not.
        enough = 3.1 / (1 - promise.percentile / 100) / rate
        if enough > most_s:
            raise FailedError(f"at {rate:g} requests/s p{promise.percentile:g} takes {enough:.0f} s to show: allow it "
                            f"with --most-s {enough:.0f}, or promise a lower percentile")
        beyond = requests = 0
        decision: Decision = "undecided"
        with step(f"{target.name}: {rate:.1f}/s"):
            for seconds in (max(1.0, enough), max(3.0, 2 * enough)):
                each = replace(chosen, arrivals=Poisson(rate, len(probes)), measure_s=min(seconds, most_s))
                measurement = runner.run(each, connections[:runner.workers_for(each)])
                # A request that failed or was never sent was not answered in time either.
                lost = measurement.failed + measurement.recorder.dropped
                beyond += measurement.recorder.intended.count_above(promise.latency_ms / 1e3) + lost
                requests += measurement.answered + lost
                decision = capacity.slo_decision(beyond, requests, promise.percentile)
                if decision != "undecided":
                    break
        probes.append({"rate_per_s": rate, "decision": decision, "requests": requests, "beyond": beyond,
                       "latency_ms": measurement.recorder.intended.percentile(promise.percentile) * 1e3})
        return decision
    return probe


@contextmanager
def _warm(widest: Scenario, target: Target, signature: str, samples: Path | None, seed: int
          ) -> Iterator[tuple[list[Measured], str]]:
    """Connections for the heaviest load, to a server that is started and warm."""
    with ExitStack() as stack:
        with step(f"Start {target.name}"):
            instance = stack.enter_context(start_all([target], 1))[target.name][0]
        stack.enter_context(alive(instance, "while it was measured"))
        connections, words = stack.enter_context(open_connections(widest, instance, signature, samples, seed))
        with step(f"Warm up, {widest.warmup_s:g} s"):
            runner.run(replace(widest, arrivals=Closed(len(connections))), connections, widest.warmup_s)
        yield connections, words


def _found(variants: tuple[str, ...], models: Path, model: str, flags: tuple[str, ...],
           running: list[Target]) -> list[Target]:
    found = [*(find_target(text, models, model, flags) for text in variants), *running]
    return found or [find_target("original", models, model, flags)]


def _document(kind: str, chosen: Scenario, found: list[Target], seed: int) -> dict[str, Any]:
    versions = {target.name: path for target in found if (path := target.version_directory)}
    return {"kind": kind, "format": stored.FORMAT, "model": found[0].model, "scenario": chosen.to_json(), "inputs": "",
            "environment": environment(versions, seed)}


def _point(measurement: Measurement) -> Point:
    if not measurement.answered:
        raise FailedError(f"no request was answered: {measurement.recorder.errors.most_common(1)[0][0]}")
    return Point(_load(measurement.scenario.arrivals), measurement.rate_per_s,
                 measurement.recorder.intended.percentile(CURVE_PERCENTILE) * 1e3)


def _load(arrivals: Arrivals) -> float:
    return arrivals.rate_per_s if isinstance(arrivals, Poisson) else getattr(arrivals, "clients", 0)
