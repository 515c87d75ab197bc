"""What is counted and timed, as Prometheus text under TensorFlow Serving's names; and the access log.

Additional series of this project separate versions, signatures and transports, which the original's do not.
"""
import json
import sys
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import perf_counter
from typing import TextIO

from serving.errors import Code
from serving.readiness import Readiness
from serving.recent_traffic import Counts
from serving.servable import DEFAULT_SIGNATURE, Servable
from serving.timing import Stopwatch, Watched

# Microseconds, and numbers of examples: the original's buckets.
LATENCY = [10.0 * 1.8 ** k for k in range(33)]
_EXAMPLES = [2.0 ** k for k in range(15)]
_QUEUING = [100.0 * 1.2 ** k for k in range(52)]
_BATCH_SIZES = [2.0 ** k for k in range(14)]
# The gRPC methods that the original counts. Of its REST API it counts every request, and labels those with a verb.
_COUNTED = {"Predict", "Classify", "Regress"}
_VERBS = {"predict", "classify", "regress"}
_INFERS = _COUNTED | _VERBS | {"MultiInference"}

# Clients choose the model names in their requests: so many combinations get their own series, the rest share one.
_MOST_COMBINATIONS = 5000

Labels = tuple[str, ...]


@dataclass(slots=True)
class Call:
    """One request, filled in while it is answered."""

    entrypoint: str
    api: str
    began: float
    model: str = ""
    signature: str = ""
    version: int | None = None
    examples: int = 0
    watch: Stopwatch | None = None

    def pinned(self, servable: Servable) -> Servable:
        """Notes which servable answers this request; returns it, timed if the request has a stopwatch."""
        self.version = servable.version
        return servable if self.watch is None else Watched(servable, self.watch)


Observer = Callable[[Call, Code], None]


class Counter:
    """A number for each combination of labels that was ever counted."""

    kind = "counter"

    def __init__(self, name: str, text: str, labels: Labels) -> None:
        self.name, self.text, self.labels = name, text, labels
        self._values: dict[Labels, float] = {}

    def add(self, labels: Labels, amount: float = 1) -> None:
        """Counts. The caller holds the registry's lock."""
        if labels not in self._values and len(self._values) >= _MOST_COMBINATIONS:
            labels = ("other",) * len(labels)
        self._values[labels] = self._values.get(labels, 0) + amount

    def copy(self) -> "Counter":
        """What was counted so far. The caller holds the registry's lock."""
        copied = Counter(self.name, self.text, self.labels)
        copied._values = self._values.copy()
        return copied

    def values(self) -> Iterable[tuple[Labels, float]]:
        return self._values.items()

    def lines(self) -> Iterable[str]:
        for labels, value in sorted(self._values.items()):
            yield f"{self.name}{_braces(self.labels, labels)} {_number(value)}"


class Histogram:
    """How many observations lie below each bound, for each combination of labels."""

    kind = "histogram"

    def __init__(self, name: str, text: str, labels: Labels, bounds: list[float]) -> None:
        self.name, self.text, self.labels = name, text, labels
        self._bounds = bounds
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def observe(self, labels: Labels, value: float) -> None:
        """Counts one observation. The caller holds the registry's lock."""
        if labels not in self._counts and len(self._counts) >= _MOST_COMBINATIONS:
            labels = ("other",) * len(labels)
        counts = self._counts.get(labels)
        if counts is None:
            counts = self._counts[labels] = [0] * (len(self._bounds) + 1)
            self._sums[labels] = 0.0
        # The original's bounds are exclusive: a request of 1 example is not in the bucket that ends at 1.
        counts[bisect_right(self._bounds, value)] += 1
        self._sums[labels] += value

    def copy(self) -> "Histogram":
        """What was observed so far. The caller holds the registry's lock."""
        copied = Histogram(self.name, self.text, self.labels, self._bounds)
        copied._counts = {labels: counts.copy() for labels, counts in self._counts.items()}
        copied._sums = self._sums.copy()
        return copied

    def counts(self) -> Iterable[tuple[Labels, list[int]]]:
        """For each combination of labels, how many observations lie below each bound and above the one before."""
        return self._counts.items()

    def lines(self) -> Iterable[str]:
        edges = [*(f"{bound:.6g}" for bound in self._bounds), "+Inf"]
        for labels, counts in sorted(self._counts.items()):
            total = 0
            for edge, count in zip(edges, counts, strict=True):
                total += count
                yield f"{self.name}_bucket{_braces((*self.labels, 'le'), (*labels, edge))} {total}"
            yield f"{self.name}_sum{_braces(self.labels, labels)} {_number(self._sums[labels])}"
            yield f"{self.name}_count{_braces(self.labels, labels)} {total}"


class BatchingMetrics:
    """The original's series about batches."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        prefix = ":tensorflow:serving:batching_session:"
        # The original leaves the name of the thread pool empty.
        self._queuing = Histogram(f"{prefix}queuing_latency",
                                  "Distribution of wall time spent (in microseconds) in queuing",
                                  ("thread_pool_name",), _QUEUING)
        self._runs = Counter(f"{prefix}wrapped_run_count", "Total count of run calls on the wrapped session", ())
        self._padding = Histogram(f"{prefix}padding_size", "Tracks the padding size distribution on batches.",
                                  ("execution_batch_size",), _BATCH_SIZES)
        self._input = Histogram(f"{prefix}input_batch_size", "Tracks the batch size distribution on the inputs.", (),
                                _BATCH_SIZES)
        self._processed = Histogram(f"{prefix}processed_batch_size",
                                    "Tracks the batch size distribution on processing.", (), _BATCH_SIZES)
        self.all = (self._queuing, self._runs, self._padding, self._input, self._processed)

    def asked(self, size: int, inputs: int) -> None:
        """Counts a request for a batch: `size` rows in each of `inputs` input tensors."""
        with self.lock:
            for _ in range(inputs):
                self._input.observe((), size)

    def waited(self, seconds: Iterable[float]) -> None:
        """Counts how long each request of a batch has waited for it."""
        with self.lock:
            for each in seconds:
                self._queuing.observe(("",), int(each * 1e6))

    def formed(self, size: int, padding: int) -> None:
        """Counts a batch that is about to run: `size` rows, `padding` of them added to reach an allowed size."""
        with self.lock:
            self._padding.observe((str(size),), padding)
            self._processed.observe((), size)

    def ran(self) -> None:
        """Counts a batch that was run."""
        with self.lock:
            self._runs.add(())


class Gauge(Counter):
    """A number that goes up and down."""

    kind = "gauge"


def _standing(readiness: Readiness | None) -> Iterable[Gauge]:
    if readiness is None:
        return
    ready = Gauge("embedded_serving_model_ready", "1 when a version of the model answers requests, else 0.",
                  ("model_name",))
    missing = Gauge("embedded_serving_missing_versions",
                    "Versions that are wanted and do not answer: not found, being loaded, or failed to load.",
                    ("model_name",))
    engine = Gauge("embedded_serving_engine", "1 for each loaded version, with the engine that runs it.",
                   ("model_name", "version", "engine"))
    for name, model in readiness.models.items():
        for version, runs in sorted(model.engines.items()):
            engine.add((name, str(version), runs), 1)
        ready.add((name,), int(model.answers))
        missing.add((name,), len(model.missing))
    yield from (ready, missing, engine)


class Metrics:
    """Every series of one server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.batching = BatchingMetrics()
        self._loads = Counter(":tensorflow:cc:saved_model:load_attempt_count",
                              "The number of times a SavedModel was requested to be loaded.", ("model_path", "status"))
        self._load_time = Counter(":tensorflow:cc:saved_model:load_latency",
                                  "Latency in microseconds for SavedModels that were successfully loaded.",
                                  ("model_path",))
        self._requests = Counter(":tensorflow:serving:request_count", "The total number of requests.",
                                 ("model_name", "status"))
        self._latency = Histogram(":tensorflow:serving:request_latency",
                                  "Distribution of wall time (in microseconds) for Tensorflow Serving request.",
                                  ("API", "entrypoint", "model_name"), LATENCY)
        self._runtime = Histogram(":tensorflow:serving:runtime_latency",
                                  "Distribution of wall time (in microseconds) for Tensorflow runtime.",
                                  ("API", "model_name", "runtime"), LATENCY)
        self._examples = Counter(":tensorflow:serving:request_example_count_total",
                                 "The total number of tensorflow.Examples.", ("model",))
        self._example_counts = Histogram(":tensorflow:serving:request_example_counts",
                                         "The number of tensorflow.Examples per request.", ("model",), _EXAMPLES)
        self._warm_ups = Histogram(":tensorflow:serving:model_warmup_latency",
                                   "Distribution of wall time (in microseconds) for warming up the model.",
                                   ("model_path", "status"), LATENCY)
        self._warm_up_records = Counter(":tensorflow:serving:model_warmup_records_read",
                                        "Total number of warmup records read during model warmup.",
                                        ("model_path", "status"))
        self._calls = Counter("embedded_serving_requests",
                              "Requests by model version and signature.",
                              ("entrypoint", "api", "model_name", "version", "signature_name", "status"))
        self._call_time = Histogram("embedded_serving_request_latency_microseconds",
                                    "Wall time of requests that were answered, by model version and signature.",
                                    ("entrypoint", "api", "model_name", "version", "signature_name"), LATENCY)
        self._logged = Counter("embedded_serving_logged_requests",
                               "Requests that were chosen for the request log, by what became of them.",
                               ("model_name", "outcome"))
        self._all = (self._loads, self._load_time, self._requests, self._latency, self._runtime, self._examples,
                     self._example_counts, self._warm_ups, self._warm_up_records, *self.batching.all,
                     self._calls, self._call_time, self._logged)

    def loaded(self, path: str, seconds: float, success: bool) -> None:
        """Counts an attempt to load a version and its time; like the original, also one that failed."""
        with self._lock:
            self._loads.add((path, "success" if success else "fail"))
            self._load_time.add((path,), int(seconds * 1e6))

    def warmed_up(self, path: str, seconds: float, records: int) -> None:
        """Counts the warm-up of a version."""
        with self._lock:
            self._warm_ups.observe((path, "OK"), int(seconds * 1e6))
            self._warm_up_records.add((path, "OK"), records)

    def ran(self, api: str, model: str, seconds: float) -> None:
        """Counts a run of the graph for a request."""
        with self._lock:
            self._runtime.observe((api, model, "TF1"), int(seconds * 1e6))

    def logged(self, model: str, outcome: str) -> None:
        """Counts a request that was chosen for the request log."""
        with self._lock:
            self._logged.add((model, outcome))

    def answered(self, call: Call, code: Code) -> None:
        """Counts an answered request. This is an Observer."""
        microseconds = int((perf_counter() - call.began) * 1e6)
        version = "" if call.version is None else str(call.version)
        ours = (call.entrypoint, call.api, call.model, version, call.signature or DEFAULT_SIGNATURE)
        with self._lock:
            if call.api in _COUNTED or call.entrypoint == "REST":
                self._requests.add((call.model, code.name))
                if code is Code.OK:
                    api = call.api if call.api in _COUNTED | _VERBS else ""
                    self._latency.observe((api, call.entrypoint, call.model), microseconds)
            if call.examples:
                self._examples.add((call.model,), call.examples)
                self._example_counts.observe((call.model,), call.examples)
            self._calls.add((*ours, code.name))
            if code is Code.OK:
                self._call_time.observe(ours, microseconds)

    def by_version(self) -> dict[tuple[str, int], Counts]:
        """{(model, version): what was counted of requests that ran it}."""
        with self._lock:
            calls, times = self._calls.copy(), self._call_time.copy()
        found: dict[tuple[str, int], Counts] = {}
        for (_, api, model, version, _, status), amount in calls.values():
            if version.isdecimal() and api in _INFERS:
                one = found.setdefault((model, int(version)), Counts())
                one.requests, one.errors = one.requests + int(amount), one.errors + int(amount) * (status != "OK")
        for (_, api, model, version, _), counts in times.counts():
            if version.isdecimal() and api in _INFERS and (model, int(version)) in found:
                one = found[model, int(version)]
                one.answers = list(map(sum, zip(one.answers, counts, strict=True))) if one.answers else counts
        return found

    def text(self, readiness: Readiness | None = None) -> str:
        """All series in Prometheus' text format, with gauges of the models' readiness."""
        with self._lock, self.batching.lock:  # held briefly: requests wait for them
            copies = [metric.copy() for metric in self._all]
        lines: list[str] = []
        for metric in (*copies, *_standing(readiness)):
            values = list(metric.lines())
            if values:
                lines += [f"# HELP {metric.name} {metric.text}", f"# TYPE {metric.name} {metric.kind}", *values]
        return "\n".join(lines) + "\n"


class AccessLog:
    """One JSON line for each request. `answered` is an Observer."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._lock = threading.Lock()

    def answered(self, call: Call, code: Code) -> None:
        line = json.dumps({
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "entrypoint": call.entrypoint, "api": call.api,
            "model": call.model, "version": call.version, "signature": call.signature, "status": code.name,
            "ms": round((perf_counter() - call.began) * 1000, 3)})
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()

    def close(self) -> None:
        """Closes the file, unless it is standard output."""
        if self._file is not sys.stdout:
            self._file.close()


def _braces(names: Labels, values: Labels) -> str:
    pairs = sorted(zip(names, values, strict=True))
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
