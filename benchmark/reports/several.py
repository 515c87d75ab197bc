"""Several stored results on one page: their ratios on one axis, and what differs between their conditions."""
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, cast

from benchmark.reports import charts, compare, kinds
from benchmark.reports.compare import CompareResult
from benchmark.reports.environment import described_class
from benchmark.reports.figures import interval
from benchmark.reports.head import Head
from benchmark.reports.page import figure, figures, from_terminal, page, table
from benchmark.verdicts.comparison import decisive
from benchmark.verdicts.scenario import protocol_name

CONDITIONS = ("cpu", "cpus", "cpu_quota", "governor", "kernel", "python", "packages", "variables", "revision")


def differences(names: Sequence[str], results: Sequence[Head]) -> list[str]:
    """What differs between the first run and each other run: conditions, then the digests of models of one name."""
    found = []
    first: Mapping[str, Any] = results[0]["environment"]
    for name, result in zip(names[1:], results[1:], strict=True):
        other: Mapping[str, Any] = result["environment"]
        found += [f"{name} differs from {names[0]} in {key}: {other.get(key)} instead of {first.get(key)}"
                  for key in CONDITIONS if other.get(key) != first.get(key)]
        classes = [described_class(each["environment"]) for each in (result, results[0])]
        if all(classes) and classes[0] != classes[1]:
            found.append(f"{name} differs from {names[0]} in the class of CPU: {classes[0]} instead of {classes[1]}")
        ours, theirs = first.get("models", {}), other.get("models", {})
        found += [f"{name} measured a different model named '{model}' than {names[0]}"
                  for model in sorted(ours.keys() & theirs.keys()) if ours[model]["digest"] != theirs[model]["digest"]]
    return found


def html(names: Sequence[str], results: Sequence[Head], different: Sequence[str]) -> str:
    """One forest plot of the ratios of means, a table of figures, and what differs between the runs."""
    spans: list[charts.Span] = []
    rows: list[tuple[str, ...]] = []
    own: list[str] = []
    for name, result in zip(names, results, strict=True):
        if result["kind"] != "compare":
            own += [f"<h2>{escape(name)}</h2>{from_terminal(each)}" for each in kinds.of(result).tables(result)]
            continue
        deciding = decisive(cast(CompareResult, result)["comparisons"])
        for c in cast(CompareResult, result)["comparisons"]:
            where = f"{protocol_name(c['protocol'])} {c['batch']}"
            if c in deciding:
                spans.append(compare.span(f"{name[:14]} {where}", c))
            rows.append((name, f"{where}: {c['baseline']} / {c['candidate']}", c["metric"],
                         f"{c['baseline_value']:.3f}", f"{c['candidate_value']:.3f}", f"{c['ratio']:.3f}",
                         interval(c["ci95"], between=" to "), c["verdict"]))
    warnings = "".join(f"<li>{escape(line)}</li>" for line in different) or "<li>none</li>"
    parts = [f"<h2>Differences between the runs</h2><ul>{warnings}</ul>"]
    if rows:
        parts = ["<h2>Ratios, each measured within its own run</h2>",
                 figures([figure("Baseline over candidate", charts.forest(spans))]), *parts, "<h2>Figures</h2>",
                 table(("run", "comparison", "metric", "baseline", "candidate", "ratio", "95 % interval", "verdict"),
                       rows, 3, {7: "verdict"})]
    about = "Runs at different times: compare their ratios, not their milliseconds."
    return page(f"{len(results)} runs: {', '.join(names)}", about, [*parts, *own] if rows else [*own, *parts],
                {"runs": list(results)})
