"""The report of a comparison: verdict first, then plots, tables, environment, and the raw result inside."""
import math
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from benchmark.reports import charts
from benchmark.reports.page import environment_table, figure, megabytes, page, seconds, subtitle, table, tone
from benchmark.reports.tables import bound, percentile
from benchmark.verdicts.comparison import Block, latencies
from benchmark.verdicts.histogram import Histogram
from benchmark.verdicts.scenario import protocol_name
from benchmark.verdicts.statistics import bootstrap_value, samples_needed

PERCENTILE_TICKS = (50.0, 90.0, 99.0, 99.9, 99.99)
SHOWN = ("mean", "p50", "p90", "p99")


def html(result: dict[str, Any]) -> str:
    """The report of a comparison (a document of benchmark.results)."""
    names = list(dict.fromkeys(summary["target"] for summary in result["summaries"]))
    title = f"{', '.join(names[1:])} against {names[0]}"
    blocks = [Block.from_json(block) for block in result["blocks"]]
    groups = list(dict.fromkeys((block.protocol, block.batch) for block in blocks))
    parts = [_verdicts(result), '<h2>Every ratio, its interval and the noise floor</h2>',
             '<p class="soft">Baseline over candidate: over 1 the candidate is faster. The shaded band is how far '
             "equals were apart in this run: an interval that touches it decides nothing.</p>", _forests(result)]
    for protocol, batch in groups:
        own = [block for block in blocks if (block.protocol, block.batch) == (protocol, batch)]
        parts += [f"<h2>{protocol_name(protocol)}, batch {batch}</h2>", _plots(own, names)]
    parts += ["<h2>Figures</h2>", _summaries(result), "<h2>What was measured</h2>", _targets(result, names),
              "<h2>Conditions</h2>", environment_table(result)]
    return page(title, subtitle(result), parts, result)


def _verdicts(result: dict[str, Any]) -> str:
    cards = []
    for c in result["comparisons"]:
        if c["metric"] != "mean":
            continue
        where = f"{protocol_name(c['protocol'])}, batch {c['batch']}, average latency"
        factor = c["ratio"] if c["verdict"] == "faster" else 1 / c["ratio"]
        big = f"{c['candidate']} is {factor:.2f}× {c['verdict']}" if c["verdict"] != "cannot tell" else "cannot tell"
        before, after = charts.number(c["baseline_value"]), charts.number(c["candidate_value"])
        interval = f"ratio {c['ratio']:.3f}, 95 % sure between {bound(c['ci95'][0])} and {bound(c['ci95'][1])}"
        why = f"INVALID: {'; '.join(c['reasons'])}" if not c["valid"] else f"noise floor ±{c['floor']:.1%}"
        if c["verdict"] == "cannot tell" and c["valid"] and c["least_effect"] is not None:
            why += f"; a difference of {c['least_effect']:.1%} would have been seen"
        cards.append(f'<div class="verdict {tone(c["verdict"])}"><div class="where">{escape(where)}</div>'
                     f'<div class="big">{escape(big)}</div><div class="sure">{before} → {after} {c["unit"]}; '
                     f"{escape(interval)}; {escape(why)}</div></div>")
    return f'<section class="verdicts">{"".join(cards)}</section>'


def _forests(result: dict[str, Any]) -> str:
    figures = []
    for candidate in dict.fromkeys(c["candidate"] for c in result["comparisons"]):
        own = [c for c in result["comparisons"] if c["candidate"] == candidate and None not in c["ci95"]]
        spans = [charts.Span(f"{protocol_name(c['protocol'])} {c['batch']} {c['metric']}{'' if c['valid'] else ' ~'}",
                             c["ratio"], c["ci95"][0], c["ci95"][1], c["floor"], tone(c["verdict"])) for c in own]
        if spans:
            note = "~ not valid: too few samples for this percentile, or as the verdict says" if any(
                not c["valid"] for c in own) else ""
            figures.append(figure(f"{candidate} against {result['baseline']}", charts.forest(spans), note))
    return f'<div class="charts">{"".join(figures)}</div>'


def _plots(blocks: Sequence[Block], names: Sequence[str]) -> str:
    own = {name: [block for block in blocks if block.target == name] for name in names}
    bars, cdf, tail, time = [], [], [], []
    for series, name in enumerate(names):
        values = latencies(own[name]) * 1e3
        rounds: dict[int, list[float]] = {}
        for block in own[name]:
            rounds.setdefault(block.round, []).extend(value * 1e3 for value in block.latencies)
        for metric in SHOWN:
            value, low, high = bootstrap_value([np.array(each) for each in rounds.values()], metric)
            bars.append((SHOWN.index(metric), series, charts.Bar(metric, name, value, low, high, series)))
        ranked = sorted(values)
        cdf.append(charts.Line(name, [(value, (i + 1) / len(ranked)) for i, value in _thinned(ranked)]))
        curve = Histogram.of(values / 1e3).curve()
        tail.append(charts.Line(name, [(nines(p), s * 1e3) for p, s in curve if p < 100 - 50 / len(values)]))
        time.append(charts.Line(name, [(i, sum(r) / len(r)) for i, r in sorted(rounds.items())]))
    most = min(len(latencies(own[name])) for name in names)
    ticks = [(nines(p), f"p{p:g}") for p in PERCENTILE_TICKS if p < 100 - 50 / most]
    return '<div class="charts">' + "".join((
        figure("Before and after", charts.bars([bar for _, _, bar in sorted(bars, key=lambda b: b[:2])], "ms"),
               "Whiskers: 95 % interval from resampled rounds."),
        figure("How many requests are done by then",
               charts.lines(cdf, "latency, ms", "share of requests", step=True), names=names),
        figure("Latency by percentile", charts.lines(tail, "percentile", "latency, ms", ticks), names=names),
        figure("Over the run", charts.lines(time, "round", "mean latency, ms", dots=True),
               "Each point is one round, measured in turns: what slows both is the machine.", names))) + "</div>"


def _summaries(result: dict[str, Any]) -> str:
    return table(
        ("protocol", "variant", "batch", "requests", "total s", "mean ms", "p50", "p90", "p99", "max", "examples/s"),
        [(protocol_name(s["protocol"]), s["target"], s["batch"], s["requests"], f"{s['total_s']:.2f}",
          f"{s['mean_ms']:.3f}", *(percentile(s, p) for p in (50, 90, 99)), f"{s['max_ms']:.2f}",
          f"{s['examples_per_s']:,.0f}")
         for s in result["summaries"]], 2) + (
        f'<p class="soft">~ fewer samples than this percentile needs (p99: {samples_needed(99)}).</p>') + table(
        ("comparison", "metric", "ratio", "95 % interval", "noise floor", "least effect", "verdict", "valid"),
        [(f"{protocol_name(c['protocol'])} {c['batch']}: {c['baseline']} / {c['candidate']}", c["metric"],
          f"{c['ratio']:.3f}", f"{bound(c['ci95'][0])} to {bound(c['ci95'][1])}", f"±{c['floor']:.1%}",
          "?" if c["least_effect"] is None else f"{c['least_effect']:.1%}", c["verdict"],
          "VALID" if c["valid"] else f"INVALID: {'; '.join(c['reasons'])}") for c in result["comparisons"]],
        2, {6: "verdict", 7: "wrap"})


def _targets(result: dict[str, Any], names: Sequence[str]) -> str:
    rows = []
    for name in names:
        facts = result.get("targets", {}).get(name, {})
        model = result["environment"]["models"].get(name, {})
        rows.append((name, facts.get("backend", "?"), model.get("version", ""), megabytes(model.get("bytes")),
                     seconds(facts.get("load_s")), seconds(facts.get("first_request_s")),
                     megabytes(facts.get("resident_bytes")), facts.get("nodes", ""), model.get("digest", "")))
    donuts = [figure(f"Operations of {name}", charts.donut(list(ops.items()), f"{sum(ops.values())} ops"))
              for name in names if (ops := result.get("targets", {}).get(name, {}).get("ops"))]
    head = ("variant", "backend", "version", "on disk", "load", "cold first request", "resident memory", "nodes",
            "digest")
    return table(head, rows, 2) + (f'<div class="charts below">{"".join(donuts)}</div>' if donuts else "")


def _thinned(ranked: Sequence[float], most: int = 400) -> list[tuple[int, float]]:
    stride = max(1, len(ranked) // most)
    return [(i, value) for i, value in enumerate(ranked) if i % stride == 0 or i == len(ranked) - 1]


def nines(percentile: float) -> float:
    return -math.log10(max(1 - percentile / 100, 1e-7))
