"""Results of `compare` kept in a folder (--store), drawn over time, and where a ratio has moved to another level.

Only ratios of one machine are in one course. Milliseconds of different runs are never compared: they were not measured
in turns.
"""
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape as html_escape
from math import exp, log
from pathlib import Path
from statistics import median
from typing import Any, cast

from rich.markup import escape
from rich.table import Table

from benchmark.reports import charts, terminal
from benchmark.reports.compare import CompareResult
from benchmark.reports.environment import class_of
from benchmark.reports.figures import interval
from benchmark.reports.page import figure, figures, page, table
from benchmark.reports.stored import load
from benchmark.verdicts.changes import LEAST_RUNS, changes
from benchmark.verdicts.comparison import decisive
from benchmark.verdicts.records import ComparisonRecord
from benchmark.verdicts.scenario import protocol_name
from benchmark.verdicts.statistics import standard_error
from user_error import UserError


@dataclass(frozen=True)
class Point:
    """One run's ratio, baseline over candidate."""

    file: str
    time: str
    ratio: float
    ci95: tuple[float, float]
    verdict: str
    revision: str | None
    baseline_digest: str | None
    candidate_digest: str | None


@dataclass(frozen=True)
class Change:
    """The first run at another level; levels are medians. `with_it`: what else is new in that run."""

    file: str
    time: str
    before: float
    since: float
    with_it: tuple[str, ...]


@dataclass
class Course:
    """The runs of one comparison on one machine, oldest first."""

    model: str
    baseline: str
    candidate: str
    protocol: str
    batch: int
    machine: str
    points: list[Point] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    @property
    def title(self) -> str:
        return f"{self.model}, {protocol_name(self.protocol)} batch {self.batch}: {self.baseline} over {self.candidate}"


@dataclass
class History:
    """All courses of a folder, and why files or comparisons in it are in none."""

    folder: str
    courses: list[Course]
    left_out: list[str]

    def to_json(self) -> dict[str, Any]:
        return {"kind": "history", **asdict(self)}


def read(folder: Path) -> History:
    """The history in a folder. Raises UserError if there is no result of `compare` in it."""
    results, left_out = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            result = load(path)
        except UserError:
            left_out.append(f"{path.name}: not a result of 'python -m benchmark'")
            continue
        if result["kind"] == "compare":
            results.append((path.name, cast(CompareResult, result)))
        else:
            left_out.append(f"{path.name}: a result of '{result['kind']}', not of 'compare'")
    if not results:
        why = f" ({'; '.join(left_out[:3])})" if left_out else ""
        raise UserError(f"{folder} has no result of 'compare'{why}: keep one with "
                        f"'python -m benchmark compare ... --store {folder}'")
    return history(str(folder), results, left_out)


def history(folder: str, results: Iterable[tuple[str, CompareResult]], left_out: Sequence[str] = ()  # decision 235
            ) -> History:
    """The courses of results with their files' names."""
    found: dict[tuple[Any, ...], Course] = {}
    reasons = list(left_out)
    for name, result in sorted(results, key=lambda one: (one[1]["environment"]["time"], one[0])):
        for each in decisive(result["comparisons"]):
            if not each["valid"] or not all(each["ci95"]):
                reasons.append(f"{name}: {protocol_name(each['protocol'])} batch {each['batch']} of "
                               f"{each['candidate']} is INVALID: {'; '.join(each['reasons']) or 'no interval'}")
                continue
            course = Course(result["model"], each["baseline"], each["candidate"], each["protocol"], each["batch"],
                            machine(result))
            key = (course.model, course.baseline, course.candidate, course.protocol, course.batch, course.machine)
            found.setdefault(key, course).points.append(_point(name, result, each))
    for course in found.values():
        course.changes = list(_changes(course.points))
    return History(folder, list(found.values()), reasons)


def machine(result: CompareResult) -> str:
    """What must be the same for ratios to be in one course: the CPU, its class and how much of it there is."""
    conditions = result["environment"]
    return f"{conditions['cpu']}, {class_of(conditions) or 'class not known'}, {conditions['cpu_quota']:g} CPUs"


def _point(name: str, result: CompareResult, c: ComparisonRecord) -> Point:
    models: Mapping[str, Any] = result["environment"].get("models", {})
    digests = [models.get(target, {}).get("digest") for target in (c["baseline"], c["candidate"])]
    low, high = (float(cast(float, bound)) for bound in c["ci95"])
    return Point(name, result["environment"]["time"], c["ratio"], (low, high), c["verdict"],
                 result["environment"].get("revision"), digests[0], digests[1])


def _changes(points: Sequence[Point]) -> Iterable[Change]:
    starts = changes([log(point.ratio) for point in points], [standard_error(point.ci95) for point in points])
    ends = [0, *starts, len(points)]
    for before, start, end in zip(ends, starts, ends[2:], strict=False):
        first, last = points[start], points[start - 1]
        new = [what for what, one, other in (
            ("commit", first.revision, last.revision), ("the baseline's files", first.baseline_digest,
             last.baseline_digest), ("the candidate's files", first.candidate_digest, last.candidate_digest))
            if one != other]
        yield Change(first.file, first.time, _level(points[before:start]), _level(points[start:end]), tuple(new))


def _level(points: Sequence[Point]) -> float:
    return exp(median(log(point.ratio) for point in points))


def tables(found: History) -> list[Table]:
    made = terminal.compact("Ratio over time, baseline over candidate")
    for title in ("", "runs", "first", "latest", "latest ratio, 95 %", "changes"):
        made.add_column(title, overflow="fold")
    for course in found.courses:
        last = course.points[-1]
        made.add_row(escape(course.title), str(len(course.points)), course.points[0].time[:10], last.time[:10],
                     f"{last.ratio:.3f} [{interval(last.ci95)}]", str(len(course.changes)))
    return [made]


def lines(found: History) -> list[str]:
    """Each change in words, what is left out, and how many runs a change needs."""
    made = [escape(sentence(course, change)) for course in found.courses for change in course.changes]
    if not made:
        most = max((len(course.points) for course in found.courses), default=0)
        made.append("No ratio has moved to another level." if most >= 2 * LEAST_RUNS else
                    f"Too few runs to look for a change: {LEAST_RUNS} are needed before it, and {LEAST_RUNS} after.")
    if len({course.machine for course in found.courses}) > 1:
        made.append("[dim]Runs of different machines are different courses: a ratio holds for one.[/]")
    return made + [f"[dim]left out: {escape(line)}[/]" for line in found.left_out]


def sentence(course: Course, change: Change) -> str:
    factor = change.since / change.before
    way = f"is {factor:.2f} times as fast" if factor > 1 else f"takes {1 / factor:.2f} times as long"
    new = f"; new in that run: {', '.join(change.with_it)}" if change.with_it else ""
    return (f"{course.title}: since {minute(change.time)} ({change.file}) the candidate {way} as before, beside the "
            f"baseline: ratio {change.before:.3f} until then, {change.since:.3f} since{new}. On {course.machine}.")


def minute(time: str) -> str:
    """2026-01-07T13:05:59+00:00 as 2026-01-07 13:05."""
    return time[:16].replace("T", " ")


def html(found: History) -> str:
    drawn = []
    for course in found.courses:
        dots = [charts.Dot(f"{point.time} {point.file}", point.ratio, point.ci95, point.verdict.split()[0])
                for point in course.points]
        at = [next(i for i, point in enumerate(course.points) if point.file == change.file)
              for change in course.changes]
        ends = (course.points[0].time[:10], course.points[-1].time[:10])
        drawn.append(figure(course.title, charts.course(dots, at, ends), course.machine))
    rows = [(course.title, minute(point.time), point.file, f"{point.ratio:.3f}", interval(point.ci95, between=" to "),
             point.verdict, point.revision or "", point.candidate_digest or "")
            for course in found.courses for point in reversed(course.points)]
    said = "".join(f"<p>{html_escape(terminal.plain(line), quote=False)}</p>" for line in lines(found))
    head = ("comparison", "time", "file", "ratio", "95 % interval", "verdict", "commit", "candidate's files")
    parts = [said, figures(drawn), "<h2>Every run</h2>", table(head, rows, 3, {5: "verdict"})]
    runs = len({point.file for course in found.courses for point in course.points})
    about = "Each ratio was measured within its own run; a dashed line is where a ratio moved to another level."
    return page(f"{runs} runs in {html_escape(found.folder)}", about, parts, found.to_json())
