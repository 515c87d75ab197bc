"""HDR histograms beside Locust's statistics, merged from all workers, and the verdict on them.

Locust rounds response times below 100 ms to whole milliseconds. These histograms keep three significant digits, and
merging those of several workers gives the histogram that one process would have recorded.
"""
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.verdicts.histogram import Histogram
from serving.client.objective import Objective

Key = tuple[str, str]  # Locust's request type ("REST", "gRPC") and name
SERVICE = "from send"


class Recorder:
    """By request name: latency from the intended start and (open loop) also from the actual send, and failures.

    Only right answers have a latency: a refused connection is quick, and would make a dead server look fast.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        # Not setdefault, which would make a histogram (50 us) for every request.
        self.latency: defaultdict[Key, Histogram] = defaultdict(Histogram)
        self.service: defaultdict[Key, Histogram] = defaultdict(Histogram)
        self.failures: Counter[Key] = Counter()

    def record(self, key: Key, latency_ms: float, failed: bool, service_ms: float | None = None) -> None:
        if failed:
            self.failures[key] += 1
            return
        self.latency[key].record(latency_ms / 1e3)
        if service_ms is not None:
            self.service[key].record(service_ms / 1e3)

    @property
    def keys(self) -> list[Key]:
        return sorted({*self.latency, *self.failures})

    def requests(self, key: Key) -> int:
        return self.failures[key] + (self.latency[key].count if key in self.latency else 0)

    def take(self) -> list[Any]:
        """Everything recorded since the last call, as plain values for a worker's report; then clears it."""
        taken = [[*key, self.failures[key], *(part[key].encode() if key in part else None
                                              for part in (self.latency, self.service))] for key in self.keys]
        self.clear()
        return taken

    def merge(self, taken: list[Any]) -> None:
        for kind, name, failures, *histograms in taken:
            key = (kind, name)
            if failures:
                self.failures[key] += failures
            for part, histogram in zip((self.latency, self.service), histograms, strict=True):
                if histogram is not None:
                    part[key].merge(Histogram.decode(histogram))

    def to_json(self) -> list[dict[str, Any]]:
        """One entry per request name: counts, and milliseconds of the right answers at the usual percentiles."""
        return [{"protocol": key[0], "name": key[1], "requests": self.requests(key), "failures": self.failures[key],
                 **{label: part[key].to_json() for label, part in (
                     ("latency_ms", self.latency), ("from_send_ms", self.service)) if key in part}}
                for key in self.keys]


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
    """The verdict on each objective for each request name; a name without any right answer misses all of them.

    If objectives are given without a maximum error ratio, no failure is allowed: latency covers only right answers.
    """
    if objectives and max_error_ratio is None:
        max_error_ratio = 0.0
    if max_error_ratio is None:
        return []
    if not recorder.keys:
        return [Verdict("all", "at least one request", "0 requests", False)]
    found = []
    for key in recorder.keys:
        name, ratio = " ".join(key), recorder.failures[key] / recorder.requests(key)
        for objective in objectives:
            actual = value_of(recorder.latency[key], objective) if key in recorder.latency else None
            found.append(Verdict(name, str(objective), "no answer" if actual is None else f"{actual * 1e3:.3g} ms",
                                 actual is not None and actual <= objective.seconds))
        found.append(Verdict(name, f"error ratio <= {max_error_ratio:g}", f"{ratio:.4g}", ratio <= max_error_ratio))
    return found


def value_of(histogram: Histogram, objective: Objective) -> float:
    return histogram.percentile(objective.percentile) if objective.percentile else histogram.mean


def table(entries: Sequence[Mapping[str, Any]]) -> str:
    """The entries of `to_json` as aligned text."""
    columns = ("p50", "p90", "p99", "p99.9", "max")
    rows: list[tuple[str, ...]] = [("HDR latency in ms", "requests", "failed", "mean", *columns)]
    for entry in entries:
        for label, key in (("", "latency_ms"), (f" {SERVICE}", "from_send_ms")):
            if key in entry or not label:
                latency = entry.get(key, {})
                rows.append((f"{entry['protocol']} {entry['name']}{label}", str(entry["requests"]),
                             str(entry["failures"]), *(f"{latency[column]:.3f}" if latency else "-"
                                                       for column in ("mean", *columns))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(" ".join(cell.ljust(width) if at == 0 else cell.rjust(width)
                              for at, (cell, width) in enumerate(zip(row, widths, strict=True))) for row in rows)
