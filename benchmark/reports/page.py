"""The page of every report: one HTML file that works offline and contains its result as JSON."""
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmark.reports import charts, terminal
from benchmark.reports.environment import described_class
from benchmark.reports.figures import megabytes, plain
from benchmark.reports.head import Head
from benchmark.verdicts.scenario import protocol_name

CSS = Path(__file__).with_name("page.css")


def result_page(title: str, parts: Iterable[str], result: Head, shown: Mapping[str, Any] | None = None) -> str:
    """The page of one result: title, model and machine, the parts, the conditions. `shown` is the JSON that the page
    contains if it is not to be the whole result."""
    conditions = ["<h2>Conditions</h2>", _conditions(result)]
    return page(title, _subtitle(result), [*parts, *conditions], result if shown is None else shown)


def page(title: str, about: str, parts: Iterable[str], result: Mapping[str, Any]) -> str:
    """The HTML of a report; it contains `result` as JSON, for scripts and readers."""
    raw = json.dumps(result).replace("</", "<\\/")
    short = json.dumps(_without_samples(result), indent=1)
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f'<style>{CSS.read_text(encoding="utf-8")}</style></head>'
            f'<body><header><h1>{escape(title)}</h1><p class="soft">{about}</p></header>{"".join(parts)}'
            f"<details><summary>The result as JSON (all samples are in this page's source, element #result)</summary>"
            f"<pre>{escape(short)}</pre></details>"
            f'<script type="application/json" id="result">{raw}</script></body></html>\n')


def _without_samples(value: Any) -> Any:
    return {key: _without_samples(item) for key, item in value.items() if key != "blocks"} if isinstance(
        value, Mapping) else value


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], text_columns: int = 1,
          css: Mapping[int, str] | None = None) -> str:
    """A table whose first `text_columns` columns are text, all others numbers.

    Args:
        css: the CSS class of a column by its index; for "verdict", the class is the verdict's tone in each cell.
    """
    def cell(tag: str, index: int, value: Any) -> str:
        classes = ["text"] if index < text_columns else []
        if css and tag == "td" and index in css:
            classes.append(tone(str(value)) if css[index] == "verdict" else css[index])
        attribute = f' class="{" ".join(classes)}"' if classes else ""
        return f"<{tag}{attribute}>{escape(str(value))}</{tag}>"
    def row(tag: str, values: Sequence[Any]) -> str:
        return "<tr>" + "".join(cell(tag, i, value) for i, value in enumerate(values)) + "</tr>"
    return f'<div class="scroll"><table>{row("th", head)}{"".join(row("td", values) for values in rows)}</table></div>'


def from_terminal(made: Table) -> str:
    """A table made for the terminal, as HTML."""
    head, rows = terminal.cells(made)
    caption = f'<p class="soft">{escape(terminal.title(made))}</p>' if made.title else ""
    return caption + table(head, rows, 1)


def figure(title: str, svg: str, note: str = "", key: Sequence[charts.Line] = ()) -> str:
    caption = f"<figcaption>{escape(note)}</figcaption>" if note else ""
    return f"<figure><h3>{escape(title)}</h3>{charts.legend(key) if key else ''}{svg}{caption}</figure>"


def figures(made: Iterable[str]) -> str:
    """Figures, side by side if the page is wide enough."""
    return f'<div class="charts">{"".join(made)}</div>'


def card(where: str, big: str, sure: str, tone: str) -> str:
    """One verdict: `where` says what was compared, `big` is the verdict, `sure` its interval or reasons.

    `tone` is the CSS class: faster, slower, cannot (for "cannot tell"), or plain.
    """
    return (f'<div class="verdict {tone}"><div class="where">{escape(where)}</div><div class="big">{escape(big)}</div>'
            f'<div class="sure">{escape(sure)}</div></div>')


def cards(made: Iterable[str]) -> str:
    return f'<section class="verdicts">{"".join(made)}</section>'


def tone(verdict: str) -> str:
    return verdict.split()[0] if verdict.split()[:1] else ""


def _subtitle(result: Head) -> str:
    machine, kind = result["environment"], described_class(result["environment"])
    return (f"Model {escape(str(result['model']))}, {escape(str(result['inputs']))}. {escape(str(machine['cpu']))}"
            f"{f' ({escape(kind)})' if kind else ''}, {machine['cpu_quota']:g} CPUs, {escape(str(machine['time']))}.")


def _conditions(result: Mapping[str, Any]) -> str:
    machine = dict(result["environment"])
    machine.pop("models", None)
    if "memory_bytes" in machine:
        machine["memory"] = megabytes(machine.pop("memory_bytes"))
    rows = [(key.replace("_", " "), plain(value)) for key, value in machine.items() if value not in (None, {}, [])]
    rows += [(f"{protocol_name(protocol)} measured by", by) for protocol, by in result.get("measured_by", {}).items()]
    rows += [(f"answers of {where}", summary) for where, summary in result.get("answers", {}).items()]
    return table(("condition", ""), rows, 2, {1: "wrap"})
