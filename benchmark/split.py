"""python -m benchmark split: where the time of a request goes, REST against gRPC."""
import http.client
import re
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import click
import numpy as np

from benchmark import report, results, targets
from benchmark.environment import environment
from benchmark.inputs import inputs_for
from benchmark.interleaved import DISTINCT, alive, start_all
from benchmark.lanes import Lane
from benchmark.options import model_options, output_options, positive_list
from benchmark.tables import protocol_name
from benchmark.targets import Instance
from commandline import UserError, step

METRICS_PATH = "/monitoring/prometheus/metrics"
MONITORING = f'prometheus_config {{ enable: true, path: "{METRICS_PATH}" }}\n'
SUM = re.compile(r'^:tensorflow:serving:(request|runtime)_latency_(sum|count)\{.*\} ([\d.e+]+)$', re.MULTILINE)
@click.command(epilog="""\b
Examples:
  python -m benchmark split original --batch 1,100
  python -m benchmark split optimized --requests 500 --html reports/split.html
\b
The server's shares are from its metrics (request_latency and runtime_latency of TensorFlow Serving), so they are means.
""")
@click.argument("variant", default="original")
@model_options
@click.option("--batch", "batches", type=positive_list, default="1,100", show_default=True,
              help="Examples per request, comma-separated.")
@click.option("--requests", type=click.IntRange(2), default=100, show_default=True,
              help="Requests per protocol and batch size.")
@output_options
def command(variant: str, model: str, models: Path, signature: str, samples: Path | None, seed: int, grappler: str,
            server_flags: tuple[str, ...], batches: tuple[int, ...], requests: int, html_path: str | None,
            json_path: str | None) -> None:
    """Splits the time of a request to VARIANT into serialise, wire, parse and render, Session.run, decode."""
    target = targets.find(variant, models, model, server_flags)
    if target.backend not in targets.SERVERS:
        raise UserError("a split is of a server's requests: name a variant, not a target in process")
    version = target.version_directory
    result: dict[str, Any] = {
        "kind": "split", "format": results.FORMAT, "model": model, "target": target.name, "requests": requests,
        "splits": [], "environment": environment({target.name: version} if version else None, seed)}
    with ExitStack() as stack:
        monitoring = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".config"))
        monitoring.write(MONITORING)
        monitoring.flush()
        target = replace(target, flags=(*target.flags, f"--monitoring_config_file={monitoring.name}"))
        with step(f"Start {target.name}"):
            instance = stack.enter_context(start_all([target], 1))[target.name][0]
        for protocol in targets.PROTOCOLS:
            for batch in batches:
                with alive(instance, "while it was measured"), step(f"{protocol_name(protocol)} batch {batch}"):
                    lane = instance.lane(protocol, signature)
                    inputs, result["inputs"] = inputs_for(lane.signature(), batch, DISTINCT, samples, version, seed)
                    parts = split(instance, lane, inputs, requests)
                    lane.close()
                result["splits"].append({"protocol": protocol, "batch": batch, "milliseconds": parts})
    report.deliver(result, html_path, json_path)


def split(instance: Instance, lane: Lane, inputs: Any, requests: int) -> dict[str, float]:
    """Mean milliseconds of each part over `requests` requests, after as many as there are inputs to warm up."""
    answers = [lane.timed(lane.prepare(each))[1] for each in inputs]
    serialise, decode = _mean_s(lane.prepare, inputs, requests), _mean_s(lane.decode, answers, requests)
    prepared = [lane.prepare(each) for each in inputs]
    before = server_times(instance)
    seen = float(np.mean([lane.timed(prepared[i % len(prepared)])[0] for i in range(requests)]))
    after = server_times(instance)
    inside, run = ((after[name][0] - before[name][0]) / max(after[name][1] - before[name][1], 1) / 1e6
                   for name in ("request", "runtime"))
    seconds = {"serialise": serialise, "wire": seen - inside, "around": inside - run, "run": run, "decode": decode}
    return {name: value * 1e3 for name, value in seconds.items()}


def server_times(instance: Instance) -> dict[str, tuple[float, int]]:
    """{"request" | "runtime": (microseconds, requests) since the server started}, from its Prometheus metrics."""
    assert instance.rest is not None
    connection = http.client.HTTPConnection(urlsplit(instance.rest).netloc, timeout=10)
    connection.request("GET", METRICS_PATH)
    text = connection.getresponse().read().decode()
    connection.close()
    totals: dict[str, list[float]] = {"request": [0, 0], "runtime": [0, 0]}
    for name, what, value in SUM.findall(text):
        totals[name][what == "count"] += float(value)
    if not totals["request"][1]:
        raise UserError(f"{instance.target.name} reports no request_latency at {METRICS_PATH}: is it a TensorFlow "
                        "Serving with metrics?", 1)
    return {name: (microseconds, int(count)) for name, (microseconds, count) in totals.items()}


def _mean_s(function: Any, values: Any, times: int) -> float:
    began = perf_counter()
    for i in range(times):
        function(values[i % len(values)])
    return (perf_counter() - began) / times
