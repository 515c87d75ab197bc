"""The report over several stored runs: their ratios on one axis."""
from collections.abc import Sequence
from html import escape
from typing import Any

from benchmark.reports import charts
from benchmark.reports.page import figure, from_rich, page, table, tone
from benchmark.reports.tables import bound, tables
from benchmark.verdicts.scenario import protocol_name


def html(names: Sequence[str], runs: Sequence[dict[str, Any]], differences: Sequence[str]) -> str:
    """One forest of the mean's ratios, a table of figures, and what was not the same between the runs."""
    spans: list[charts.Span] = []
    rows: list[tuple[str, ...]] = []
    for name, run in zip(names, runs, strict=True):
        for c in run.get("comparisons", ()):
            if c["metric"] == "mean" and None not in c["ci95"]:
                label = f"{name[:14]} {protocol_name(c['protocol'])} {c['batch']}"
                low, high = c["ci95"]
                spans.append(charts.Span(label, c["ratio"], low, high, c["floor"], tone(c["verdict"])))
        rows += [(name, f"{protocol_name(c['protocol'])} {c['batch']}: {c['baseline']} / {c['candidate']}", c["metric"],
                  f"{c['baseline_value']:.3f}", f"{c['candidate_value']:.3f}", f"{c['ratio']:.3f}",
                  f"{bound(c['ci95'][0])} to {bound(c['ci95'][1])}", c["verdict"]) for c in run.get("comparisons", ())]
    about = "Runs at different times: compare their ratios, not their milliseconds."
    warnings = "".join(f"<li>{escape(line)}</li>" for line in differences) or "<li>none</li>"
    changed = [f"<h2>Differences between the runs</h2><ul>{warnings}</ul>"]
    own = [f"<h2>{escape(name)}</h2>{from_rich(each)}" for name, run in zip(names, runs, strict=True)
           if "comparisons" not in run for each in tables(run)]
    if not rows:
        return page(f"{len(runs)} runs: {', '.join(names)}", about, [*own, *changed], {"runs": list(runs)})
    parts = ['<h2>Ratio of means, each measured within its own run</h2><div class="charts">',
             figure("Baseline over candidate", charts.forest(spans)) if spans else "", "</div>",
             *changed, "<h2>Figures</h2>",
             table(("run", "comparison", "metric", "baseline", "candidate", "ratio", "95 % interval", "verdict"),
                   rows, 3, {7: "verdict"}), *own]
    return page(f"{len(runs)} runs: {', '.join(names)}", about, parts, {"runs": list(runs)})
