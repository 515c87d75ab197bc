"""The report of a sweep or a search: the throughput-latency curve with its knee, or the rates that were tried."""
from html import escape
from typing import Any

from benchmark.reports import charts
from benchmark.reports.page import environment_table, figure, page, subtitle, table
from benchmark.reports.tables import short
from benchmark.verdicts.scenario import protocol_name


def html(result: dict[str, Any]) -> str:
    scenario = result["scenario"]
    where = f"{protocol_name(scenario['protocol'])}, batch {scenario['batch']}"
    parts = _curves(result) if result["kind"] == "sweep" else _searches(result)
    title = f"{'Throughput and latency' if result['kind'] == 'sweep' else 'Capacity'}: {where}"
    return page(title, subtitle(result), [*parts, "<h2>Conditions</h2>", environment_table(result)], result)


def card(where: str, big: str, sure: str, tone: str = "faster") -> str:
    """One verdict at the top of a page."""
    return (f'<div class="verdict {tone}"><div class="where">{escape(where)}</div><div class="big">{escape(big)}</div>'
            f'<div class="sure">{escape(sure)}</div></div>')


def _curves(result: dict[str, Any]) -> list[str]:
    curves = result["curves"]
    cards = []
    for curve in curves:
        at, most = curve["knee"], max(point["rate_per_s"] for point in curve["points"])
        cards.append(card(curve["target"], f"knee at {at['rate_per_s']:.0f} requests/s", f"{at['offered']:g} "
                          f"{result['over']}, p90 {short(at['latency_ms'])} ms; at most {most:.0f}/s were answered"))
    names = [curve["target"] for curve in curves]
    latency = charts.lines(_series(curves, "rate_per_s", "latency_ms"), "requests/s answered", "p90, ms", dots=True)
    answered = charts.lines(_series(curves, "offered", "rate_per_s"), result["over"], "requests/s answered", dots=True)
    rows = [(curve["target"], f"{point['offered']:g}", f"{point['rate_per_s']:.1f}", short(point["latency_ms"]),
             "VALID" if run["valid"] else "; ".join(run["reasons"]))
            for curve in curves for point, run in zip(curve["points"], curve["runs"], strict=True)]
    head = ("target", result["over"], "requests/s", "p90 ms", "")
    return [f'<section class="verdicts">{"".join(cards)}</section><div class="charts">',
            figure("Latency over throughput", latency, names=names),
            figure("Throughput over load", answered, names=names), "</div><h2>Figures</h2>",
            table(head, rows, 1, {4: "wrap"})]


def _series(curves: list[dict[str, Any]], x: str, y: str) -> list[charts.Line]:
    return [charts.Line(curve["target"], [(point[x], point[y]) for point in curve["points"]]) for curve in curves]


def _searches(result: dict[str, Any]) -> list[str]:
    slo = result["scenario"]["slo"]
    promise = f"p{slo['percentile']:g} within {slo['latency_ms']:g} ms"
    cards = [card(f"{each['target']}: {promise}", f"{each['met']:.1f} requests/s" if each["met"] else "no rate",
                  f"not shown at {each['missed']:.1f}/s" if each["missed"] else "never broken",
                  "faster" if each["met"] else "slower") for each in result["searches"]]
    rows = [(each["target"], f"{probe['rate_per_s']:.1f}", probe["decision"], probe["requests"], probe["beyond"],
             short(probe["latency_ms"])) for each in result["searches"] for probe in each["probes"]]
    series = [charts.Line(each["target"], sorted((p["rate_per_s"], p["latency_ms"]) for p in each["probes"]))
              for each in result["searches"]]
    names = [each["target"] for each in result["searches"]]
    head = ("target", "requests/s", "promise", "requests", "beyond", f"p{slo['percentile']:g} ms")
    return [f'<section class="verdicts">{"".join(cards)}</section><div class="charts">',
            figure(f"p{slo['percentile']:g} at the rates tried",
                   charts.lines(series, "requests/s offered", "ms", dots=True), names=names),
            "</div><h2>Rates tried</h2>", table(head, rows, 1)]
