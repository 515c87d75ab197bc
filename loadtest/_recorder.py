"""HDR histograms beside Locust's statistics, merged from all workers, and the verdict on them.

Locust keeps response times below 100 ms in buckets of 1 ms, which cannot tell 0.4 ms from 1.4 ms. These keep three
significant digits, and a merge of workers' histograms is the histogram that one process would have recorded.
"""
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from _options import Objective
from benchmark.histogram import Histogram

Key = tuple[str, str]  # Locust's request type ("REST", "gRPC") and name
SERVICE = "from send"


class Recorder:
    """Latency by request, from the intended start and (open loop) also from the actual send, and failures."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        # Not setdefault, which would make a histogram (50 us) for every request.
        self.latency: defaultdict[Key, Histogram] = defaultdict(Histogram)
        self.service: defaultdict[Key, Histogram] = defaultdict(Histogram)
        self.failures: Counter[Key] = Counter()

    def record(self, key: Key, latency_ms: float, failed: bool, service_ms: float | None = None) -> None:
        self.latency[key].record(latency_ms / 1e3)
        self.failures[key] += failed
        if service_ms is not None:
            self.service[key].record(service_ms / 1e3)

    def take(self) -> list[Any]:
        """All that was recorded since the last call, as plain values for a worker's report."""
        taken = [[*key, histogram.encode(), self.failures[key],
                  self.service[key].encode() if key in self.service else None]
                 for key, histogram in self.latency.items()]
        self.clear()
        return taken

    def merge(self, taken: list[Any]) -> None:
        for kind, name, latency, failures, service in taken:
            key = (kind, name)
            self.latency[key].merge(Histogram.decode(latency))
            self.failures[key] += failures
            if service is not None:
                self.service[key].merge(Histogram.decode(service))

    def to_json(self) -> list[dict[str, Any]]:
        """One entry per request name: counts, and milliseconds at the usual percentiles."""
        return [{"protocol": key[0], "name": key[1], "requests": histogram.count, "failures": self.failures[key],
                 "latency_ms": histogram.to_json(),
                 **({"from_send_ms": self.service[key].to_json()} if key in self.service else {})}
                for key, histogram in sorted(self.latency.items())]


@dataclass(frozen=True)
class Verdict:
    """Whether one request name kept one objective."""
    name: str
    objective: str
    actual: str
    kept: bool

    def __str__(self) -> str:
        return f"{'kept' if self.kept else 'MISSED'}: {self.name}: {self.objective} (is {self.actual})"


def verdicts(recorder: Recorder, objectives: tuple[Objective, ...], max_error_ratio: float | None) -> list[Verdict]:
    """Each objective for each request name; none recorded misses all of them, since nothing was shown."""
    if not recorder.latency and (objectives or max_error_ratio is not None):
        return [Verdict("all", "at least one request", "0 requests", False)]
    found = []
    for key, histogram in sorted(recorder.latency.items()):
        name = " ".join(key)
        for objective in objectives:
            actual = value_of(histogram, objective)
            found.append(Verdict(name, str(objective), f"{actual * 1e3:.3g} ms", actual <= objective.seconds))
        if max_error_ratio is not None:
            ratio = recorder.failures[key] / histogram.count
            found.append(Verdict(name, f"error ratio <= {max_error_ratio:g}", f"{ratio:.4g}",
                                 ratio <= max_error_ratio))
    return found


def value_of(histogram: Histogram, objective: Objective) -> float:
    return histogram.percentile(objective.percentile) if objective.percentile else histogram.mean


def table(entries: Sequence[Mapping[str, Any]]) -> str:
    """The entries of `to_json` as aligned text."""
    columns = ("p50", "p90", "p99", "p99.9", "max")
    rows: list[tuple[str, ...]] = [("HDR latency in ms", "requests", "failed", "mean", *columns)]
    for entry in entries:
        for label, key in (("", "latency_ms"), (f" {SERVICE}", "from_send_ms")):
            if key in entry:
                latency = entry[key]
                rows.append((f"{entry['protocol']} {entry['name']}{label}", str(entry["requests"]),
                             str(entry["failures"]), *(f"{latency[column]:.3f}" for column in ("mean", *columns))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(" ".join(cell.ljust(width) if at == 0 else cell.rjust(width)
                              for at, (cell, width) in enumerate(zip(row, widths, strict=True))) for row in rows)
