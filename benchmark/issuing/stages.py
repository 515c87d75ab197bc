"""Times the stages of a request: the client's by its own clock, the server's by what the server reports."""
import http.client
import re
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from benchmark.targets.addresses import Access, connect
from benchmark.targets.starting import Instance
from benchmark.verdicts.records import Parts
from serving.client.payloads import Arrays
from serving.client.protocol import ASKS_TIMING, Client
from user_error import FailedError, UserError

METRICS_PATH = "/monitoring/prometheus/metrics"
MONITORING = f'prometheus_config {{ enable: true, path: "{METRICS_PATH}" }}\n'
SUM = re.compile(r'^:tensorflow:serving:(request|runtime)_latency_(sum|count)\{.*\} ([\d.e+]+)$', re.MULTILINE)
BLOCK = 10
TOLD, COUNTED = "server-timing", "metrics"


def asking(instance: Instance, protocol: str) -> Any:
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
    """One request: the seconds of its parts. Server time that the server does not report counts as "wire"."""
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
        raise UserError(f"{instance.target.name} does not report its timing over gRPC: give its --url too, for its "
                        "metrics")
    connection = http.client.HTTPConnection(urlsplit(instance.rest).netloc, timeout=10)
    connection.request("GET", METRICS_PATH)
    text = connection.getresponse().read().decode()
    connection.close()
    found = counts_in(text)
    if not found[1]:
        raise FailedError(f"{instance.target.name} reports neither timing nor request_latency at {METRICS_PATH}: "
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
