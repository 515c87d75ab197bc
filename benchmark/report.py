"""python -m benchmark report: shows stored results, one or several side by side, as tables, HTML or Markdown."""
from pathlib import Path
from typing import cast

import click
from rich.console import Console
from rich.markup import escape

from benchmark.reports import card, history, kinds, several, stored, terminal
from benchmark.reports.compare import CompareResult
from benchmark.reports.environment import described_class
from benchmark.reports.head import Head
from commandline import json_option
from user_error import UserError
from whole_file import refuse_unwritable, write_json, write_text


@click.command(epilog="""\b
Examples:
  python -m benchmark report reports/demo.json --html reports/demo.html
  python -m benchmark report before.json after.json --markdown -
  python -m benchmark report reports/history --html history.html     # a folder of `compare --store`, over time
\b
Runs at different times are not interleaved, so only the ratios within each run can be compared between runs. Every
difference between their machines, versions or models is listed.
""")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True), metavar="RESULT ... | DIR")
@click.option("--html", "html_path", metavar="PATH", help="Write a report (one file, works offline) to PATH.")
@click.option("--markdown", "markdown_path", metavar="PATH", help="Write Markdown tables to PATH ('-': stdout).")
@click.option("--card", "cards", multiple=True, metavar="PATH", callback=lambda *given: card_paths(*given),
              help="Write the verdicts of a comparison as a picture, .svg or .png, to PATH; repeatable.")
@json_option
def command(paths: tuple[str, ...], html_path: str | None, markdown_path: str | None, cards: tuple[str, ...],
            json_path: str | None) -> None:
    """Shows stored results (--json of the other commands, or the rounds that an interrupted run left)."""
    if folder := next((path for path in paths if Path(path).is_dir()), None):
        if len(paths) > 1 or cards:
            raise UserError(f"{folder} is a folder of results: report it alone, and without --card")
        show_history(history.read(Path(folder)), html_path, markdown_path, json_path)
        return
    results = [stored.load(path) for path in paths]
    names = [Path(path).name for path in paths]
    if cards and (len(results) > 1 or results[0]["kind"] != "compare"):
        raise UserError("--card is of one comparison: name one result of 'compare'")
    different = several.differences(names, results)
    console = Console(stderr="-" in (json_path, markdown_path), highlight=False)
    for name, result in zip(names, results, strict=True):
        interrupted = " (interrupted: the rounds finished until then)" if result.get("interrupted") else ""
        console.print(f"[bold]{escape(name)}[/]{interrupted} {result['environment']['time']}", soft_wrap=True)
        show(console, result)
    for line in different:
        console.print(f"[yellow]{escape(line)}[/]", soft_wrap=True)
    if json_path:
        write_json(json_path, {"runs": results, "differences": different})
    if markdown_path:
        write_text(markdown_path, "\n".join(map(markdown, names, results)))
    for path in cards:
        card.write(path, cast(CompareResult, results[0]))
    if html_path:
        page = kinds.of(results[0]).html(results[0]) if len(results) == 1 else several.html(names, results, different)
        write_text(html_path, page)


def show_history(found: history.History, html_path: str | None, markdown_path: str | None, json_path: str | None
                 ) -> None:
    console = Console(stderr="-" in (json_path, markdown_path), highlight=False)
    for table in history.tables(found):
        console.print(table)
    for line in history.lines(found):
        console.print(line, soft_wrap=True)
    if json_path:
        write_json(json_path, found.to_json())
    if markdown_path:
        tables = [terminal.markdown(table) for table in history.tables(found)]
        write_text(markdown_path, "\n".join([*tables, "", *(f"- {terminal.plain(line)}" for line in
                                                            history.lines(found)), ""]))
    if html_path:
        write_text(html_path, history.html(found))
        console.print(f"Report: {Path(html_path).resolve()}", soft_wrap=True)


def card_paths(_ctx: click.Context, _param: click.Parameter, paths: tuple[str, ...]) -> tuple[str, ...]:
    """Checks, before anything is measured, that each path ends in .svg or .png and can be written."""
    for path in paths:
        refuse_unwritable(Path(path))
        card.kind_of(path)
    return paths


def deliver(result: Head, html_path: str | None, json_path: str | None) -> None:
    """Shows a result that was just measured, and writes the files that were asked for."""
    console = Console(stderr=json_path == "-", highlight=False)
    show(console, result)
    if json_path:
        write_json(json_path, result)
    if html_path:
        write_text(html_path, kinds.of(result).html(result))
        console.print(f"Report: {Path(html_path).resolve()}", soft_wrap=True)


def show(console: Console, result: Head) -> None:
    """Prints a result's tables and sentences, and the class of CPU that they hold for."""
    module = kinds.of(result)
    for table in module.tables(result):
        console.print(table)
    for line in module.lines(result):
        console.print(line, soft_wrap=True)
    if kind := described_class(result["environment"]):
        console.print(f"Class of CPU: {escape(kind)}", soft_wrap=True)


def markdown(name: str, result: Head) -> str:
    module = kinds.of(result)
    tables = [f"{terminal.markdown(table)}\n" for table in module.tables(result)]
    lines = [f"- {terminal.plain(line)}" for line in module.lines(result)]
    if kind := described_class(result["environment"]):
        lines.append(f"- Class of CPU: {kind}")
    return "\n".join([f"### {name}", "", *tables, *lines, ""])
