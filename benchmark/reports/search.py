"""The report of `search`: the highest rate at which each target met the SLO, and the rates that were tried."""
from typing import TypedDict

from rich.markup import escape
from rich.table import Table

from benchmark.reports import charts, terminal
from benchmark.reports.figures import short, slo_text
from benchmark.reports.head import Head
from benchmark.reports.page import card, cards, figure, figures, result_page, table
from benchmark.verdicts.records import ProbeRecord, ScenarioRecord, SloRecord
from benchmark.verdicts.scenario import protocol_name


class Found(TypedDict):
    """The highest rate that met the SLO and the lowest rate that did not; None if no such rate was tried."""

    target: str
    met: float | None
    missed: float | None
    probes: list[ProbeRecord]


class SearchResult(Head):
    """The result of `search`; the scenario holds the SLO."""

    scenario: ScenarioRecord
    searches: list[Found]


NEEDED = SearchResult.__required_keys__


def tables(result: SearchResult) -> list[Table]:
    """The rates that were tried."""
    made = terminal.ruled(slo_text(_slo(result)), ("target", "requests/s", "SLO", "requests", "too slow"),
                          ("target", "SLO"))
    for each in result["searches"]:
        for probe in each["probes"]:
            made.add_row(escape(each["target"]), f"{probe['rate_per_s']:.1f}", probe["decision"],
                         str(probe["requests"]), str(probe["beyond"]))
    return [made]


def lines(result: SearchResult) -> list[str]:
    made = []
    for each in result["searches"]:
        met = f"{each['met']:.1f}/s" if each["met"] else "none of the rates tried"
        missed = f", not at {each['missed']:.1f}/s" if each["missed"] else ", the highest rate tried"
        made.append(f"{escape(each['target'])} meets {slo_text(_slo(result))} at {met}{missed}")
    return made


def html(result: SearchResult) -> str:
    scenario, slo = result["scenario"], _slo(result)
    rows = [(each["target"], f"{probe['rate_per_s']:.1f}", probe["decision"], probe["requests"], probe["beyond"],
             short(probe["latency_ms"])) for each in result["searches"] for probe in each["probes"]]
    series = [charts.Line(each["target"], sorted((p["rate_per_s"], p["latency_ms"]) for p in each["probes"]), place)
              for place, each in enumerate(result["searches"])]
    chart = charts.lines(series, "requests/s offered", "ms", dots=True,
                         limit=charts.Limit(f"SLO: {slo['latency_ms']:g} ms", slo["latency_ms"]))
    head = ("target", "requests/s", "SLO", "requests", "too slow", f"p{slo['percentile']:g} ms")
    parts = [cards(_card(result, each) for each in result["searches"]),
             figures([figure(f"p{slo['percentile']:g} at the rates tried", chart, key=series)]),
             "<h2>Rates tried</h2>", table(head, rows, 1)]
    return result_page(f"Capacity: {protocol_name(scenario['protocol'])}, batch {scenario['batch']}", parts, result)


def _card(result: SearchResult, each: Found) -> str:
    return card(f"{each['target']}: {slo_text(_slo(result))}",
                f"{each['met']:.1f} requests/s" if each["met"] else "no rate",
                f"missed or not proven at {each['missed']:.1f}/s" if each["missed"] else "the highest rate tried",
                "faster" if each["met"] else "slower")


def _slo(result: SearchResult) -> SloRecord:
    slo = result["scenario"]["slo"]
    assert slo is not None  # every search has an SLO
    return slo
