"""Times the stages of a request: the client's are measured here, the server's are what the server reports."""
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
REPORTED, COUNTED = "server-timing", "metrics"


def timing_client(instance: Instance, protocol: str) -> Any:
    """A client that asks for the server's timing with each request."""
    access = instance.target.access or Access()
    address = instance.rest if protocol == "rest" else instance.grpc
    assert address is not None
    return connect(protocol, address, instance.target.model,
                   replace(access, headers=(*access.headers, ASKS_TIMING)))


def split(instance: Instance, clients: dict[str, Client], signature: str, inputs: Sequence[Arrays],
          requests: int) -> dict[str, Parts]:
    """The parts of requests for each protocol. The protocols are measured alternately, in blocks of 10 requests."""
    rows: dict[str, list[dict[str, float]]] = {protocol: [] for protocol in clients}
    counts = {protocol: np.zeros(4) for protocol in clients}
    for client in clients.values():
        for each in inputs:
            timed_request(client, each, signature)
    reported = all(client.server_timing() for client in clients.values())
    for first in range(0, requests, BLOCK):
        for protocol, client in clients.items():
            before = np.zeros(4) if reported else server_counts(instance)
            rows[protocol] += [timed_request(client, inputs[i % len(inputs)], signature)
                               for i in range(first, min(first + BLOCK, requests))]
            counts[protocol] += np.zeros(4) if reported else server_counts(instance) - before
    return {protocol: typical(rows[protocol]) if reported else by_metrics(rows[protocol], counts[protocol])
            for protocol in clients}


def timed_request(client: Client, inputs: Arrays, signature: str) -> dict[str, float]:
    """Sends one request; returns the seconds of its parts. Server time that is not reported counts as "wire"."""
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
    """Mean parts over the middle half of the requests by total time. Unlike medians, means add up to the whole."""
    ranked = sorted(rows, key=lambda row: sum(row.values()))
    middle = ranked[len(ranked) // 4:len(ranked) - len(ranked) // 4]
    return {"by": REPORTED, "milliseconds": _means_ms(middle), "median_ms": _median_ms(rows)}


def by_metrics(rows: Sequence[dict[str, float]], counts: Any) -> Parts:
    """Mean parts over all requests; `counts` is the growth of `server_counts` meanwhile."""
    inside, run = counts[0] / max(counts[1], 1) / 1e3, counts[2] / max(counts[3], 1) / 1e3
    means = _means_ms(rows)
    parts = {"serialise": means["serialise"], "wire": means["wire"] - inside, "around": inside - run, "run": run,
             "decode": means["decode"]}
    return {"by": COUNTED, "milliseconds": parts, "median_ms": _median_ms(rows)}


def server_counts(instance: Instance) -> Any:
    """[request µs, requests, runtime µs, runs] since the server started, from its Prometheus metrics."""
    if instance.rest is None:
        raise UserError(f"{instance.target.name} does not report its timing over gRPC: give its --url too, where its "
                        "metrics are read")
    connection = http.client.HTTPConnection(urlsplit(instance.rest).netloc, timeout=10)
    connection.request("GET", METRICS_PATH)
    text = connection.getresponse().read().decode()
    connection.close()
    found = counts_in(text)
    if not found[1]:
        raise FailedError(f"{instance.target.name} reports neither timing nor request_latency at {METRICS_PATH}: "
                          f"start it with a --monitoring_config_file that contains '{MONITORING.strip()}'")
    return found


def counts_in(text: str) -> Any:
    """The same four numbers, from the text of the metrics."""
    found = np.zeros(4)
    for name, what, value in SUM.findall(text):
        found[2 * (name == "runtime") + (what == "count")] += float(value)
    return found


def _means_ms(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {part: float(np.mean([row[part] for row in rows])) * 1e3 for part in rows[0]}


def _median_ms(rows: Sequence[dict[str, float]]) -> float:
    return float(np.median([sum(row.values()) for row in rows])) * 1e3
