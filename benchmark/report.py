"""python -m benchmark report: stored results as tables, HTML, Markdown; two or more side by side."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmark import comparison_page, results, runs_page
from benchmark.tables import bound, comparison_table, percentile, protocol_name, sentence, verdict_lines
from commandline import json_option, write_json, write_text

CONDITIONS = ("cpu", "cpus", "cpu_quota", "governor", "kernel", "python", "packages", "variables", "revision")
PAGES = {"compare": comparison_page.html}


@click.command(epilog="""\b
Examples:
  python -m benchmark report reports/demo.json --html reports/demo.html
  python -m benchmark report before.json after.json --markdown -
\b
Runs at different times are not interleaved: between runs only the ratios measured within each are compared,
and every difference of machine, versions or models is listed.
""")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False), metavar="RESULT ...")
@click.option("--html", "html_path", metavar="PATH", help="Write a report (one file, works offline) to PATH.")
@click.option("--markdown", "markdown_path", metavar="PATH", help="Write Markdown tables to PATH ('-': stdout).")
@json_option
def command(paths: tuple[str, ...], html_path: str | None, markdown_path: str | None, json_path: str | None) -> None:
    """Shows stored results (--json of the other commands, or the rounds that an interrupted run left)."""
    runs = [results.load(path) for path in paths]
    names = [Path(path).name for path in paths]
    between = differences(names, runs)
    console = Console(stderr="-" in (json_path, markdown_path), highlight=False)
    for name, run in zip(names, runs, strict=True):
        show(console, name, run)
    for line in between:
        console.print(f"[yellow]{line}[/]", soft_wrap=True)
    if json_path:
        write_json(json_path, {"runs": runs, "differences": between})
    if markdown_path:
        write_text(markdown_path, "\n".join(markdown(name, run) for name, run in zip(names, runs, strict=True)))
    if html_path:
        write_text(html_path, html(runs[0]) if len(runs) == 1 else runs_page.html(names, runs, between))


def html(result: dict[str, Any]) -> str:
    """The page of one result, by its kind."""
    return PAGES[result["kind"]](result)


def show(console: Console, name: str, run: dict[str, Any]) -> None:
    interrupted = " (interrupted: the rounds finished until then)" if run.get("interrupted") else ""
    console.print(f"[bold]{name}[/]{interrupted} {run['environment']['time']}", soft_wrap=True)
    console.print(comparison_table(run))
    for line in verdict_lines(run):
        console.print(line, soft_wrap=True)


def differences(names: Sequence[str], runs: Sequence[dict[str, Any]]) -> list[str]:
    """What was not the same between the first run and each other: conditions, then digests of models of one name."""
    found = []
    first = runs[0]["environment"]
    for name, run in zip(names[1:], runs[1:], strict=True):
        other = run["environment"]
        found += [f"{name} differs from {names[0]} in {key}: {other.get(key)} instead of {first.get(key)}"
                  for key in CONDITIONS if other.get(key) != first.get(key)]
        found += [f"{name} measured another model as '{model}' than {names[0]} did"
                  for model in sorted(first["models"].keys() & other["models"].keys())
                  if first["models"][model]["digest"] != other["models"][model]["digest"]]
    return found


def markdown(name: str, run: dict[str, Any]) -> str:
    """The figures and every ratio as tables of GitHub's Markdown."""
    rows = [f"### {name}", "", "| protocol | variant | batch | total s | mean ms | p50 | p90 | p99 |",
            "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for s in run["summaries"]:
        cells = (protocol_name(s["protocol"]), s["target"], s["batch"], f"{s['total_s']:.2f}", f"{s['mean_ms']:.2f}",
                 *(percentile(s, p) for p in (50, 90, 99)))
        rows.append(f"| {' | '.join(map(str, cells))} |")
    rows += ["", "| comparison | metric | ratio | 95 % interval | noise floor | verdict |",
             "| --- | --- | ---: | --- | ---: | --- |"]
    rows += [f"| {protocol_name(c['protocol'])} {c['batch']}: {c['baseline']} / {c['candidate']} | {c['metric']} | "
             f"{c['ratio']:.3f} | {bound(c['ci95'][0])} to {bound(c['ci95'][1])} | ±{c['floor']:.1%} | "
             f"{c['verdict'] if c['valid'] else 'INVALID'} |" for c in run["comparisons"]]
    sentences = [f"- {sentence(c)}" for c in run["comparisons"] if c["metric"] == "mean"]
    return "\n".join([*rows, "", *sentences, ""])
