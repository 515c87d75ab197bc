"""python -m benchmark report: stored results as tables, HTML, Markdown; two or more side by side."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from benchmark.reports import compare, overhead, profile, several, split, stored, sweep, tables
from benchmark.reports import run as run_report
from commandline import json_option
from whole_file import write_json, write_text

CONDITIONS = ("cpu", "cpus", "cpu_quota", "governor", "kernel", "python", "packages", "variables", "revision")
PAGES = {"compare": compare.html, "run": run_report.html, "sweep": sweep.html, "search": sweep.html,
         "split": split.html, "profile": profile.html, "overhead": overhead.html}


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
    runs = [stored.load(path) for path in paths]
    names = [Path(path).name for path in paths]
    between = differences(names, runs)
    console = Console(stderr="-" in (json_path, markdown_path), highlight=False)
    for name, run in zip(names, runs, strict=True):
        interrupted = " (interrupted: the rounds finished until then)" if run.get("interrupted") else ""
        console.print(f"[bold]{escape(name)}[/]{interrupted} {run['environment']['time']}", soft_wrap=True)
        show(console, run)
    for line in between:
        console.print(f"[yellow]{line}[/]", soft_wrap=True)
    if json_path:
        write_json(json_path, {"runs": runs, "differences": between})
    if markdown_path:
        write_text(markdown_path, "\n".join(markdown(name, run) for name, run in zip(names, runs, strict=True)))
    if html_path:
        write_text(html_path, html(runs[0]) if len(runs) == 1 else several.html(names, runs, between))


def deliver(result: dict[str, Any], html_path: str | None, json_path: str | None) -> None:
    """Shows a result that was just measured, and writes what was asked for."""
    console = Console(stderr=json_path == "-", highlight=False)
    show(console, result)
    if json_path:
        write_json(json_path, result)
    if html_path:
        write_text(html_path, html(result))
        console.print(f"Report: {Path(html_path).resolve()}", soft_wrap=True)


def html(result: dict[str, Any]) -> str:
    """The page of one result, by its kind."""
    return PAGES[result["kind"]](result)


def show(console: Console, result: dict[str, Any]) -> None:
    for table in tables.tables(result):
        console.print(table)
    for line in tables.lines(result):
        console.print(line, soft_wrap=True)


def markdown(name: str, run: dict[str, Any]) -> str:
    made = [tables.markdown(table) for table in tables.tables(run)]
    words = [f"- {Text.from_markup(line).plain}" for line in tables.lines(run)]
    return "\n".join([f"### {name}", "", *(f"{table}\n" for table in made), *words, ""])


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
