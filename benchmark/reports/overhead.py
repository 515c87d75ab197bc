"""The report of `overhead`: whether the goals are met, then the targets of every part side by side."""
from html import escape
from typing import NotRequired, TypedDict

from rich.markup import escape as escape_markup
from rich.table import Table

from benchmark.reports import charts, compare, terminal
from benchmark.reports.compare import Part
from benchmark.reports.figures import interval, short
from benchmark.reports.head import Head
from benchmark.reports.page import figure, figures, from_terminal, result_page
from benchmark.verdicts.block import Block, latencies
from benchmark.verdicts.scenario import protocol_name
from benchmark.verdicts.statistics import bootstrap_value

TITLES = {"loop": "The server beside a bare Session.run loop",
          "empty": "A trivial model beside handlers that do nothing",
          "instead": "The server beside common alternatives"}


class GoalRecord(TypedDict):
    """Bounds on candidate time over baseline time, and the requests/s to reach; None: no bound."""

    least: float | None
    most: float | None
    rate: float | None


class Finding(TypedDict):
    """One candidate compared with its baseline: `times` is its time over the baseline's time, with its interval;
    `verdict` says whether the goal is met."""

    part: str
    protocol: str
    batch: int
    baseline: str
    candidate: str
    times: float
    ci95: list[float | None]
    valid: bool
    reasons: list[str]
    baseline_ms: float
    candidate_ms: float
    baseline_per_s: float
    candidate_per_s: float
    goal: GoalRecord
    verdict: str


class OverheadResult(Head):
    """The result of `overhead`; each part is a comparison."""

    target: NotRequired[str]
    repeat: NotRequired[int]
    notes: NotRequired[list[str]]
    parts: dict[str, Part]
    findings: list[Finding]


NEEDED = OverheadResult.__required_keys__


def tables(result: OverheadResult) -> list[Table]:
    """Every candidate compared with its baseline: mean times, their ratio, and whether the goal is met."""
    made = []
    for part in dict.fromkeys(each["part"] for each in result["findings"]):
        own = [each for each in result["findings"] if each["part"] == part]
        table = terminal.compact(f"mean times in ms, compared with {own[0]['baseline']}")
        table.add_column("", overflow="fold", min_width=24)
        for title in ("baseline", "mean", "times, 95 %", "goal", "verdict"):
            table.add_column(title, justify="right" if title in ("baseline", "mean") else "left", no_wrap=True)
        for each in own:
            table.add_row(escape_markup(f"{protocol_name(each['protocol'])} {each['batch']} {each['candidate']}"),
                          short(each["baseline_ms"]), short(each["candidate_ms"]),
                          f"{each['times']:.2f} {interval(each['ci95'], 2)}", _goal(each["goal"]),
                          each["verdict"] if each["valid"] else "INVALID")
        made.append(table)
    return made


def lines(result: OverheadResult) -> list[str]:
    """What the tables do not show: time outside Session.run, requests per second, and why a finding is INVALID."""
    made = []
    for each in result["findings"]:
        where = f"{protocol_name(each['protocol'])} batch {each['batch']}"
        if each["part"] == "loop":
            made.append(f"{where}: {short(each['candidate_ms'] - each['baseline_ms'])} ms outside Session.run")
        elif each["part"] == "empty":
            made.append(f"{where}: {each['baseline_per_s']:,.0f} requests/s (goal: {each['goal']['rate']:,.0f}), "
                        f"empty handler {each['candidate_per_s']:,.0f}/s")
        made += [escape_markup(f"INVALID {where} {each['candidate']}: {reason}") for reason in each["reasons"]]
    return [*made, *map(escape_markup, result.get("notes", []))]


def html(result: OverheadResult) -> str:
    items = "".join(f"<li>{escape(terminal.plain(line))}</li>" for line in lines(result))
    parts = ["".join(map(from_terminal, tables(result))), f"<ul>{items}</ul>"]
    for name, part in result["parts"].items():
        parts += [f"<h2>{escape(TITLES.get(name, name))}</h2>", figures(_charts(part)),
                  from_terminal(compare.figures_table(result["model"], part))]
    return result_page(f"What serving {result.get('target', result['model'])} adds to Session.run", parts, result)


def _goal(goal: GoalRecord) -> str:
    bounds = [f"≥ {goal['least']:g}"] if goal["least"] else []
    return ", ".join([*bounds, *([f"≤ {goal['most']:g}"] if goal["most"] else [])])


def _charts(part: Part) -> list[str]:
    """The mean time of every target: one chart for each protocol and batch size."""
    blocks = [Block.from_json(block) for block in part["blocks"]]
    targets = list(dict.fromkeys(block.target for block in blocks))
    made = []
    for protocol, batch in dict.fromkeys((block.protocol, block.batch) for block in blocks):
        own = [block for block in blocks if (block.protocol, block.batch) == (protocol, batch)]
        bars = []
        for target in dict.fromkeys(block.target for block in own):
            rounds = [latencies([block]) for block in own if block.target == target]
            mean, low, high = (value * 1e3 for value in bootstrap_value(rounds))
            bars.append(charts.Bar(f"{protocol_name(protocol)}, batch {batch}", target, mean,
                                   charts.drawable(low, high), targets.index(target)))
        made.append(figure(f"{protocol_name(protocol)}, batch {batch}: mean time", charts.bars(bars, "ms")))
    return made
