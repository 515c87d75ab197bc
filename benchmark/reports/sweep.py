"""The report of `sweep`: the throughput-latency curve of each target, and its knee."""
from collections.abc import Sequence
from typing import TypedDict

from rich.markup import escape
from rich.table import Table

from benchmark.reports import charts, terminal
from benchmark.reports.figures import marked, short
from benchmark.reports.head import Head
from benchmark.reports.page import card, cards, figure, figures, result_page, table
from benchmark.verdicts.capacity import CURVE_PERCENTILE
from benchmark.verdicts.records import MeasurementRecord, PointRecord, ScenarioRecord
from benchmark.verdicts.scenario import protocol_name
from benchmark.verdicts.statistics import samples_needed

SHOWN = f"p{CURVE_PERCENTILE}"


class Curve(TypedDict):
    """One target under each load: the points of the curve, and the measurements that they come from."""

    target: str
    knee: PointRecord
    points: list[PointRecord]
    runs: list[MeasurementRecord]


class SweepResult(Head):
    """The result of `sweep`; `over` is what the load varied, "clients" or "rate"."""

    scenario: ScenarioRecord
    over: str
    curves: list[Curve]


NEEDED = SweepResult.__required_keys__ - {"scenario"}


def tables(result: SweepResult) -> list[Table]:
    """A row per load."""
    made = terminal.ruled(f"{SHOWN} from the intended start",
                          ("target", result["over"], "requests/s", f"{SHOWN} ms", ""), ("target", ""))
    for curve in result["curves"]:
        for point in curve["points"]:
            made.add_row(escape(curve["target"]), f"{point['offered']:g}", f"{point['rate_per_s']:.1f}",
                         short(point["latency_ms"]), "knee" if point == curve["knee"] else "")
    return [made]


def lines(result: SweepResult) -> list[str]:
    return []


def html(result: SweepResult) -> str:
    curves, scenario = result["curves"], result["scenario"]
    p90 = [_line(curve, series, [(point["rate_per_s"], point["latency_ms"]) for point in curve["points"]])
           for series, curve in enumerate(curves)]
    # p99 only where there are enough requests for it: a sweep is short, and mostly has enough only for p90.
    p99 = [charts.Line(f"{curve['target']}, p99", points, series, 1) for series, curve in enumerate(curves)
           if (points := _valid_p99(curve))]
    answered = [charts.Line(curve["target"], [(point["offered"], point["rate_per_s"]) for point in curve["points"]],
                            series) for series, curve in enumerate(curves)]
    knees = [(curve["knee"], "knee") for curve in curves]
    note = "" if any(p99) else f"p99 is not drawn: it needs {samples_needed(99):,} requests at a load."
    parts = [cards(_card(result, curve) for curve in curves), figures((
        figure("Latency over throughput",
               charts.lines([*p90, *p99], "requests/s answered", "latency, ms", dots=True,
                            marks=[(at["rate_per_s"], at["latency_ms"], word) for at, word in knees]),
               note, [*p90, *p99]),
        figure("Throughput over load",
               charts.lines(answered, result["over"], "requests/s answered", dots=True,
                            marks=[(at["offered"], at["rate_per_s"], word) for at, word in knees]), key=answered))),
             "<h2>Figures</h2>", _figures(result)]
    return result_page(f"Throughput and latency: {protocol_name(scenario['protocol'])}, batch {scenario['batch']}",
                       parts, result)


def _line(curve: Curve, series: int, points: Sequence[tuple[float, float]]) -> charts.Line:
    return charts.Line(f"{curve['target']}, {SHOWN}", points, series)


def _valid_p99(curve: Curve) -> list[tuple[float, float]]:
    return [(run["rate_per_s"], run["latency_ms"]["p99"]) for run in curve["runs"]
            if run["requests"] >= samples_needed(99) and "p99" in run["latency_ms"]]


def _card(result: SweepResult, curve: Curve) -> str:
    """The card of a knee. It has no verdict's colour, since a knee is neither good nor bad; it says if the knee is the
    least or the greatest load measured, because the true knee may then be outside."""
    at, loads = curve["knee"], [point["offered"] for point in curve["points"]]
    most = max(point["rate_per_s"] for point in curve["points"])
    where = ""
    if len(loads) > 1 and at["offered"] == min(loads):
        where = ", the least load measured: more load brought less throughput per latency"
    elif len(loads) > 1 and at["offered"] == max(loads):
        where = ", the greatest load measured: the knee may lie beyond"
    return card(curve["target"], f"knee at {at['rate_per_s']:.0f} requests/s",
                f"{at['offered']:g} {result['over']}{where}; {SHOWN} {short(at['latency_ms'])} ms; "
                f"at most {most:.0f}/s were answered", f"plain c{result['curves'].index(curve) % charts.SERIES}")


def _figures(result: SweepResult) -> str:
    rows = [(curve["target"], f"{point['offered']:g}", f"{point['rate_per_s']:.1f}",
             marked(point["latency_ms"], CURVE_PERCENTILE, run["requests"]),
             marked(run["latency_ms"]["p99"], 99, run["requests"]) if "p99" in run["latency_ms"] else "",
             "VALID" if run["valid"] else "; ".join(run["reasons"]))
            for curve in result["curves"] for point, run in zip(curve["points"], curve["runs"], strict=True)]
    return table(("target", result["over"], "requests/s", f"{SHOWN} ms", "p99 ms", ""), rows, 1, {5: "wrap"}) + (
        '<p class="soft">~ fewer requests than this percentile needs.</p>')
