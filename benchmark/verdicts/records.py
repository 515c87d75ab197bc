"""The JSON forms of measurements, as result files hold them. Keys that end in _ms are milliseconds."""
from typing import Any, Literal, NotRequired, TypedDict

Verdict = Literal["faster", "slower", "equal", "cannot tell"]
Decision = Literal["met", "missed", "undecided"]
Percentile = Literal["p50", "p75", "p90", "p95", "p99", "p99.9", "p99.99", "max"]

# A histogram: milliseconds at percentiles (absent if nothing was recorded); `hdr` is the whole histogram in base64.
LatencyRecord = TypedDict("LatencyRecord", {
    "count": int, "mean": float | None, "p50": NotRequired[float], "p75": NotRequired[float],
    "p90": NotRequired[float], "p95": NotRequired[float], "p99": NotRequired[float], "p99.9": NotRequired[float],
    "p99.99": NotRequired[float], "max": NotRequired[float], "hdr": str})


class BlockRecord(TypedDict):
    """A comparison.Block; times are seconds."""

    target: str
    replica: int
    protocol: str
    batch: int
    round: int
    latencies: list[float]
    wall_s: float
    cpu_s: float
    errors: int
    wrong: int


class ComparisonRecord(TypedDict):
    """A comparison.Comparison; an unknown bound of an interval is None."""

    baseline: str
    candidate: str
    protocol: str
    batch: int
    metric: str
    ratio: float
    ci95: list[float | None]
    verdict: Verdict
    valid: bool
    reasons: list[str]
    baseline_value: float
    candidate_value: float
    unit: str
    floor: float
    aa_ratio: float
    aa_ci95: list[float | None]
    least_effect: float | None
    samples: int
    rounds: int
    equal_within: NotRequired[float | None]  # of the metric that decides; results of before 2026-12 do not have it


class AgainstRecord(TypedDict):
    """A candidate's ratio over its ratio in a stored result; both are over the same baseline."""

    baseline: str
    candidate: str
    stored: str  # the candidate's name in the stored result
    protocol: str
    batch: int
    metric: str
    ratio: float
    ci95: list[float | None]
    floor: float
    verdict: Verdict
    valid: bool
    reasons: list[str]


class SloRecord(TypedDict):
    """A scenario.Slo."""

    percentile: float
    latency_ms: float


class ScenarioRecord(TypedDict):
    """A scenario.Scenario; `arrivals` holds its kind and the settings of that kind."""

    name: str
    question: str
    protocol: str
    batch: int
    arrivals: dict[str, Any]
    warmup_s: float
    measure_s: float
    repeats: int
    percentile: float
    slo: SloRecord | None
    validity: dict[str, float]


class FigureRecord(TypedDict):
    """The one result of a scenario, such as "p99 ms"; the value is None if no request was answered."""

    name: str
    value: float | None


class MeasurementRecord(TypedDict):
    """A measurement.Measurement."""

    scenario: ScenarioRecord
    result: FigureRecord
    valid: bool
    reasons: list[str]
    slo_met: bool | None
    requests: int
    scheduled: int | None
    errors: dict[str, int]
    dropped: int
    wrong: int
    rate_per_s: float
    examples_per_s: float
    wall_s: float
    generator_cpu_s: float
    generator_ceiling_per_s: float | None
    headroom: float | None
    real_time: NotRequired[bool]  # results of before 2026-11 do not have it
    latency_ms: LatencyRecord
    latency_from_send_ms: LatencyRecord
    late_ms: LatencyRecord
    engine_figures_ms: dict[str, float] | None


class ProbeRecord(TypedDict):
    """One rate that a search tried: the latency at the SLO's percentile; `beyond` requests were too slow."""

    rate_per_s: float
    decision: Decision
    requests: int
    beyond: int
    latency_ms: float


class PointRecord(TypedDict):
    """A capacity.Point."""

    offered: float
    rate_per_s: float
    latency_ms: float


class OperationsRecord(TypedDict):
    """The number of nodes in a version's graph, in total and of each operation."""

    nodes: NotRequired[int]
    ops: NotRequired[dict[str, int]]


class TargetRecord(OperationsRecord):
    """What one target of a comparison is, and what its start cost; without operations if its files are unknown."""

    backend: str
    engine: NotRequired[str]  # "" if the target's name has none; results of before 2026-12 do not have it
    path: str | None
    load_s: float | None
    first_request_s: float | None
    resident_bytes: int | None


class AccuracyRecord(TypedDict):
    """Of the labelled examples that were sent, how many have the right top class in one output."""

    output: str
    right: int
    examples: int


class UsedRecord(TypedDict):
    """What one request took of the server's process, the measured and the unmeasured of a run together. CPU time is of
    all its threads; None where it is not counted."""

    requests: int
    cpu_ms: float | None
    instructions: float | None
    cycles: float | None


class ConductRecord(TypedDict):
    """How the blocks of a comparison were measured: a description of the inputs, clients by protocol, targets by
    name."""

    inputs: str
    measured_by: dict[str, str]
    targets: NotRequired[dict[str, TargetRecord]]
    first_wrong: NotRequired[str | None]
    accuracy: NotRequired[dict[str, dict[str, AccuracyRecord]]]  # by "REST batch 100", then by target
    used: NotRequired[dict[str, dict[str, UsedRecord]]]  # by "REST batch 100", then by target
    not_counted: NotRequired[str]  # why there are no instructions and cycles
    answers: NotRequired[dict[str, str]]
    ended: NotRequired[dict[str, str]]
    design: NotRequired[dict[str, str]]  # by "REST batch 100": how it was measured, and why so


class Parts(TypedDict):
    """The milliseconds of each part of a request, and the median of whole requests; "by" is who measured the parts."""

    by: str
    milliseconds: dict[str, float]
    median_ms: float


class GainRecord(TypedDict):
    """Throughput of the best settings over that of the defaults, in turns; only words if the defaults were best."""

    verdict: Verdict | str
    ratio: NotRequired[float]
    ci95: NotRequired[list[float]]
    floor: NotRequired[float]
    least_effect: NotRequired[float]
    metric: NotRequired[str]
    defaults_per_s: NotRequired[float]
    best_per_s: NotRequired[float]


class Operation(TypedDict):
    """All runs of one operation in one Session.run: microseconds over all threads, and the number of runs."""

    op: str
    us: float
    count: float


class Traced(TypedDict):
    """A traced model. `scopes`: "scope;node;operation" -> the mean microseconds of a run, over all threads."""

    operations: list[Operation]
    scopes: dict[str, float]


class Instructions(TypedDict):
    """The CPU's instruction sets, those of them that TensorFlow's general code was not built with, and the one that
    oneDNN's kernels use."""

    cpu: list[str]
    not_in_tensorflow_build: list[str]
    onednn: str | None
