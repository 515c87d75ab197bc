"""python -m benchmark split: where the time of a request goes, REST against gRPC."""
import http.client
import re
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import click
import numpy as np

from benchmark.options import Output, output_options, positive_list, source_options
from benchmark.reports.head import head
from benchmark.reports.split import Parts, SplitResult
from benchmark.targets.addresses import Access, connect
from benchmark.targets.source import Source
from benchmark.targets.starting import Instance, alive, start_all
from benchmark.targets.target import IN_PROCESS
from commandline import step
from serving.client.payloads import Arrays
from serving.client.protocol import ASKS_TIMING, Client
from user_error import FailedError, UserError

METRICS_PATH = "/monitoring/prometheus/metrics"
MONITORING = f'prometheus_config {{ enable: true, path: "{METRICS_PATH}" }}\n'
SUM = re.compile(r'^:tensorflow:serving:(request|runtime)_latency_(sum|count)\{.*\} ([\d.e+]+)$', re.MULTILINE)
BLOCK = 10
TOLD, COUNTED = "server-timing", "metrics"


@click.command(epilog="""\b
Examples:
  python -m benchmark split original --batch 1,100
  python -m benchmark split optimized --repeat 500 --html reports/split.html
  python -m benchmark split --url http://127.0.0.1:8501 --grpc 127.0.0.1:8500
\b
Each request asks the server (header x-server-timing) where its own time went. A server that does not say, as the
genuine TensorFlow Serving does not, is split by its metrics, which are means over requests and tell less.
""")
@click.argument("variant", required=False)
@source_options(grappler=False)
@click.option("--batch", "batches", type=positive_list, default="1,100", show_default=True,
              help="Examples per request, comma-separated.")
@click.option("--repeat", type=click.IntRange(2), default=200, show_default=True,
              help="Requests per protocol and batch size.")
@output_options
def command(variant: str | None, source: Source, batches: tuple[int, ...], repeat: int, output: Output) -> None:
    """Splits the time of a request to VARIANT (default: original) or to a server that runs already."""
    if len(source.running) + (variant is not None) > 1:
        raise UserError("a split is of one server: name a variant, or one --url and its --grpc")
    (target,) = source.targets([variant] if variant else [])
    if target.backend in IN_PROCESS:
        raise UserError("a split is of a server's requests: name a variant, not a target in process")
    version = target.version_directory
    result: SplitResult = {**head("split", [target], source.inputs.seed), "target": target.name, "requests": repeat,
                           "splits": []}
    with ExitStack() as stack:
        if not source.running:
            monitoring = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".config"))
            monitoring.write(MONITORING)
            monitoring.flush()
            target = replace(target, flags=(*target.flags, f"--monitoring_config_file={monitoring.name}"))
        with step(f"Start {target.name}"):
            instance = stack.enter_context(start_all([target], 1))[target.name][0]
        for batch in batches:
            with alive(instance, "while it was measured"), step(f"Batch {batch}"):
                clients = {protocol: stack.enter_context(_asking(instance, protocol))
                           for protocol in target.protocols}
                first = next(iter(clients.values()))
                signature = source.inputs.signature
                inputs, result["inputs"] = source.inputs.batches(first.metadata().signature(signature), batch, version)
                result["splits"] += [{"protocol": protocol, "batch": batch, **parts} for protocol, parts in
                                     split(instance, clients, signature, inputs, repeat).items()]
    output.deliver(result)


def _asking(instance: Instance, protocol: str) -> Any:
    """A client whose every request asks for the server's timing."""
    access = instance.target.access or Access()
    address = instance.rest if protocol == "rest" else instance.grpc
    assert address is not None
    return connect(protocol, address, instance.target.model,
                   replace(access, headers=(*access.headers, ASKS_TIMING)))


def split(instance: Instance, clients: dict[str, Client], signature: str, inputs: Sequence[Arrays],
          requests: int) -> dict[str, Parts]:
    """{protocol: {"by", "milliseconds" of each part, "median_ms" of a whole request}}, the protocols in turns."""
    rows: dict[str, list[dict[str, float]]] = {protocol: [] for protocol in clients}
    counts = {protocol: np.zeros(4) for protocol in clients}
    for client in clients.values():
        for each in inputs:
            asked(client, each, signature)
    told = all(client.server_timing() for client in clients.values())
    for first in range(0, requests, BLOCK):
        for protocol, client in clients.items():
            before = np.zeros(4) if told else server_counts(instance)
            rows[protocol] += [asked(client, inputs[i % len(inputs)], signature)
                               for i in range(first, min(first + BLOCK, requests))]
            counts[protocol] += np.zeros(4) if told else server_counts(instance) - before
    return {protocol: typical(rows[protocol]) if told else by_metrics(rows[protocol], counts[protocol])
            for protocol in clients}


def asked(client: Client, inputs: Arrays, signature: str) -> dict[str, float]:
    """One request: the seconds of its parts. What the server does not tell of its own time is in "wire"."""
    began = perf_counter()
    request = client.prepare(inputs, signature)
    ready = perf_counter()
    raw = client.send(request)
    answered = perf_counter()
    server = {stage: milliseconds / 1e3 for stage, milliseconds in client.server_timing().items()}
    reading = perf_counter()
    client.decode(raw, signature)
    return {"serialise": ready - began, "wire": answered - ready - sum(server.values()), **server,
            "decode": perf_counter() - reading}


def typical(rows: Sequence[dict[str, float]]) -> Parts:
    """The parts of the middle half of requests, by their whole time: means, so that the parts add up to the whole."""
    ranked = sorted(rows, key=lambda row: sum(row.values()))
    middle = ranked[len(ranked) // 4:len(ranked) - len(ranked) // 4]
    return {"by": TOLD, "milliseconds": _means_ms(middle), "median_ms": _median_ms(rows)}


def by_metrics(rows: Sequence[dict[str, float]], counts: Any) -> Parts:
    """The same from what the server counted meanwhile: request and runtime microseconds and numbers of them."""
    inside, run = counts[0] / max(counts[1], 1) / 1e3, counts[2] / max(counts[3], 1) / 1e3
    means = _means_ms(rows)
    parts = {"serialise": means["serialise"], "wire": means["wire"] - inside, "around": inside - run, "run": run,
             "decode": means["decode"]}
    return {"by": COUNTED, "milliseconds": parts, "median_ms": _median_ms(rows)}


def server_counts(instance: Instance) -> Any:
    """[request µs, requests, runtime µs, runs] since the server started, from its Prometheus metrics."""
    if instance.rest is None:
        raise UserError(f"{instance.target.name} does not tell its timing over gRPC: give its --url too, for its "
                        "metrics")
    connection = http.client.HTTPConnection(urlsplit(instance.rest).netloc, timeout=10)
    connection.request("GET", METRICS_PATH)
    text = connection.getresponse().read().decode()
    connection.close()
    found = counts_in(text)
    if not found[1]:
        raise FailedError(f"{instance.target.name} tells neither timing nor request_latency at {METRICS_PATH}: "
                          f"start it with a --monitoring_config_file that holds '{MONITORING.strip()}'")
    return found


def counts_in(text: str) -> Any:
    """server_counts of the metrics' text."""
    found = np.zeros(4)
    for name, what, value in SUM.findall(text):
        found[2 * (name == "runtime") + (what == "count")] += float(value)
    return found


def _means_ms(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {part: float(np.mean([row[part] for row in rows])) * 1e3 for part in rows[0]}


def _median_ms(rows: Sequence[dict[str, float]]) -> float:
    return float(np.median([sum(row.values()) for row in rows])) * 1e3
