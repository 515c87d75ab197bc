"""The report of a scenario's runs: whether it counts, the latency from the intended start, what the generator did."""
from html import escape
from typing import Any

from benchmark.reports import charts
from benchmark.reports.compare import PERCENTILE_TICKS, nines
from benchmark.reports.page import environment_table, figure, page, subtitle, table
from benchmark.reports.tables import scheduling, short
from benchmark.verdicts.histogram import Histogram
from benchmark.verdicts.scenario import protocol_name
from benchmark.verdicts.statistics import samples_needed


def html(result: dict[str, Any]) -> str:
    """One page for all runs of one scenario."""
    scenario, runs = result["scenario"], result["runs"]
    parts = [_verdicts(result)]
    if any(run["requests"] for run in runs):
        parts += ["<h2>Latency</h2>", _plots(runs)]
    parts += ["<h2>Figures</h2>", _figures(runs), "<h2>Conditions</h2>", environment_table(result)]
    return page(f"{scenario['name']} on {', '.join(dict.fromkeys(run['target'] for run in runs))}",
                subtitle(result), parts, result)


def _verdicts(result: dict[str, Any]) -> str:
    cards = []
    scenario = result["scenario"]
    for run in result["runs"]:
        met = {True: "SLO met", False: "SLO missed", None: ""}[run["slo_met"]]
        tone = "cannot" if not run["valid"] else "slower" if run["slo_met"] is False else "faster"
        name, value = run["result"]["name"], run["result"]["value"]
        unit = " ms" if name.endswith(" ms") else ""
        big = f"{name.removesuffix(unit)} {short(value)}{unit}" if value else "no answers"
        state = "VALID" if run["valid"] else f"INVALID: {'; '.join(run['reasons'])}"
        where = f"{run['target']}, {protocol_name(scenario['protocol'])}, batch {scenario['batch']}"
        room = f"; the generator could have sent {run['headroom']:.1f} times that" if run["headroom"] else ""
        sure = f"{state}; {run['requests']:,} requests at {run['rate_per_s']:.1f}/s{room}"
        cards.append(f'<div class="verdict {tone}"><div class="where">{escape(where)}</div>'
                     f'<div class="big">{escape(big)} {met}</div><div class="sure">{escape(sure)}</div></div>')
    return f'<p class="soft">{escape(scenario["question"])}</p><section class="verdicts">{"".join(cards)}</section>'


def _plots(runs: list[dict[str, Any]]) -> str:
    tails, names = [], []
    for index, run in enumerate(run for run in runs if run["requests"]):
        for kind, words in (("latency_ms", "intended start"), ("latency_from_send_ms", "actual send")):
            curve = Histogram.decode(run[kind]["hdr"]).curve()
            names.append(f"{run['target']} {index + 1}, from the {words}")
            points = [(nines(p), s * 1e3) for p, s in curve if p < 100 - 50 / run["requests"]]
            tails.append(charts.Line(names[-1], points))
    most = max(run["requests"] for run in runs)
    ticks = [(nines(p), f"p{p:g}") for p in PERCENTILE_TICKS if p < 100 - 50 / most]
    cdf = [charts.Line(line.name, [(ms, 1 - 10**-x) for x, ms in line.points]) for line in tails]
    return ('<div class="charts">'
            + figure("Latency by percentile", charts.lines(tails, "percentile", "latency, ms", ticks), names=names)
            + figure("How many requests are done by then",
                     charts.lines(cdf, "latency, ms", "share of requests", step=True), names=names) + "</div>")


def _figures(runs: list[dict[str, Any]]) -> str:
    rows = []
    for run in runs:
        latency, sent, late = run["latency_ms"], run["latency_from_send_ms"], run["late_ms"]
        rows.append((run["target"], "VALID" if run["valid"] else "INVALID", f"{run['requests']:,}",
                     f"{run['rate_per_s']:.2f}", f"{run['examples_per_s']:,.0f}",
                     *(_at(latency, p) for p in ("p50", "p90", "p99")),
                     _at(latency, "p99.9") + ("" if run["requests"] >= samples_needed(99.9) else "~"),
                     _at(sent, "p99"), _at(late, "p99"), sum(run["errors"].values()), run["dropped"], run["wrong"],
                     f"{run['generator_cpu_s'] / run['wall_s']:.0%}", scheduling(run)))
    head = ("target", "", "answered", "requests/s", "examples/s", "p50 ms", "p90", "p99", "p99.9", "p99 from send",
            "late p99", "errors", "dropped", "wrong", "generator CPU", "its threads")
    return table(head, rows, 2) + (
        f'<p class="soft">~ fewer than the {samples_needed(99.9):,} samples that p99.9 needs.</p>')


def _at(values: dict[str, Any], percentile: str) -> str:
    return short(values[percentile]) if percentile in values else ""
