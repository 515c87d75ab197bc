"""The result of one run of a scenario, and whether it is valid."""
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from benchmark.verdicts.histogram import Histogram
from benchmark.verdicts.records import MeasurementRecord
from benchmark.verdicts.scenario import Scenario
from benchmark.verdicts.statistics import samples_needed


@dataclass
class Recorder:
    """What one worker measured, in constant memory however long the run. The recorders of all workers are merged."""

    intended: Histogram = field(default_factory=Histogram)
    sent: Histogram = field(default_factory=Histogram)
    late: Histogram = field(default_factory=Histogram)
    errors: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    dropped: int = 0

    def record(self, intended: float, started: float, seconds: float) -> None:
        """A request meant for `intended`, sent at `started` (the same clock), answered `seconds` later."""
        self.intended.record(started - intended + seconds)
        self.sent.record(seconds)
        self.late.record(started - intended)

    def merge(self, other: "Recorder") -> None:
        for name in ("intended", "sent", "late"):
            getattr(self, name).merge(getattr(other, name))
        self.errors.update(other.errors)
        self.wrong += other.wrong
        self.dropped += other.dropped


@dataclass(frozen=True)
class Measurement:
    """One run. `cpu_s` is the load generator's CPU time; `ceiling_per_s` the most requests per second that it can send
    (measured without real-time threads); `engine_figures` the latencies (ms) that another load generator reports of the
    same run; `real_time` whether the generator's threads had real-time priority."""

    scenario: Scenario
    recorder: Recorder
    scheduled: int | None
    wall_s: float
    cpu_s: float
    ceiling_per_s: float | None = None
    first_wrong: str | None = None
    engine_figures: dict[str, float] | None = None
    real_time: bool = False

    @property
    def answered(self) -> int:
        return self.recorder.sent.count

    @property
    def failed(self) -> int:
        return sum(self.recorder.errors.values())

    @property
    def rate_per_s(self) -> float:
        return self.answered / self.wall_s

    @property
    def headroom(self) -> float | None:
        """How many times the measured rate the generator could have sent; near 1, the generator was the limit."""
        return self.ceiling_per_s / self.rate_per_s if self.ceiling_per_s and self.rate_per_s else None

    def reasons(self) -> list[str]:
        """Why the result is INVALID; empty when it is VALID."""
        rules, found, recorder = self.scenario.validity, [], self.recorder
        wanted = self.scenario.rate_per_s
        if wanted is not None and self.rate_per_s < wanted * (1 - rules.max_rate_error):
            found.append(f"rate missed: {self.rate_per_s:.1f}/s were answered of {wanted:g}/s: lower the rate, "
                         "this is more than the server can answer")
        sent = self.answered + self.failed
        if self.failed > rules.max_error_ratio * max(sent, 1):
            kind, count = recorder.errors.most_common(1)[0]
            found.append(f"{self.failed} of {sent} requests failed, {count} with: {kind}")
        if recorder.dropped:
            found.append(f"{recorder.dropped} requests were not sent in time: lower the rate or give more workers")
        if recorder.wrong:
            found.append(f"{recorder.wrong} answers are wrong: {self.first_wrong}")
        busy = self.cpu_s / self.wall_s
        if busy > rules.max_generator_cpu:
            found.append(f"the load generator was busy {busy:.0%} of one CPU, so the result shows its speed, "
                         "not the server's")
        if wanted is not None and self.answered and recorder.late.percentile(99) * 1e3 > rules.max_late_ms:
            found.append(f"requests started late, p99 {recorder.late.percentile(99) * 1e3:.1f} ms after their time: "
                         "use a quieter machine, or allow the generator real-time threads (ulimit -r)")
        percentiles = {self.scenario.percentile} | ({self.scenario.slo.percentile} if self.scenario.slo else set())
        for percentile in sorted(percentiles - {0.0, 100.0}):  # a mean or a maximum needs no minimum of samples
            need = samples_needed(percentile)
            if self.answered < need:
                found.append(f"p{percentile:g} needs {need:,} samples, there are {self.answered:,}: measure longer")
        return found

    def slo_met(self) -> bool | None:
        """Whether the SLO was met, with latency from the intended start; None without an SLO or answers."""
        slo = self.scenario.slo
        if slo is None or not self.answered:
            return None
        intended = self.recorder.intended
        return (intended.percentile(slo.percentile) if slo.percentile else intended.mean) * 1e3 <= slo.latency_ms

    def result(self) -> tuple[str, float]:
        """The name and value of the scenario's one result, as MLPerf defines it for the like scenario."""
        kind = self.scenario.to_json()["arrivals"]["kind"]
        if kind == "offline" or (kind == "closed" and self.scenario.to_json()["arrivals"]["clients"] > 1):
            return "examples/s", self.rate_per_s * self.scenario.batch
        percentile = self.scenario.percentile
        return f"p{percentile:g} ms", self.recorder.intended.percentile(percentile) * 1e3

    def to_json(self) -> MeasurementRecord:
        name, value = self.result() if self.answered else ("", None)
        reasons = self.reasons()
        return {
            "scenario": self.scenario.to_json(), "result": {"name": name, "value": value}, "valid": not reasons,
            "reasons": reasons, "slo_met": self.slo_met(), "requests": self.answered, "scheduled": self.scheduled,
            "errors": dict(self.recorder.errors), "dropped": self.recorder.dropped, "wrong": self.recorder.wrong,
            "rate_per_s": self.rate_per_s, "examples_per_s": self.rate_per_s * self.scenario.batch,
            "wall_s": self.wall_s, "generator_cpu_s": self.cpu_s,
            "generator_ceiling_per_s": self.ceiling_per_s, "headroom": self.headroom, "real_time": self.real_time,
            "latency_ms": self.recorder.intended.to_json(), "latency_from_send_ms": self.recorder.sent.to_json(),
            "late_ms": self.recorder.late.to_json(), "engine_figures_ms": self.engine_figures}


def merged(parts: Sequence[Measurement]) -> Measurement:
    """Several runs of one scenario on one target as one run: their counts and times are added up."""
    recorder = Recorder()
    for part in parts:
        recorder.merge(part.recorder)
    scheduled = None if parts[0].scheduled is None else sum(part.scheduled or 0 for part in parts)
    return replace(parts[0], recorder=recorder, scheduled=scheduled, wall_s=sum(part.wall_s for part in parts),
                   cpu_s=sum(part.cpu_s for part in parts), real_time=all(part.real_time for part in parts),
                   first_wrong=next((part.first_wrong for part in parts if part.first_wrong), None))
