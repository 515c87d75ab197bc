"""The report of `run`: whether each run is valid, the latency from the intended start, the load generator's figures."""
from html import escape
from typing import NotRequired

from rich.markup import escape as escape_markup
from rich.table import Table

from benchmark.reports import charts, latencies, terminal
from benchmark.reports.figures import short
from benchmark.reports.head import Head
from benchmark.reports.page import card, cards, figure, figures, result_page, table
from benchmark.verdicts.histogram import Histogram
from benchmark.verdicts.records import LatencyRecord, MeasurementRecord, Percentile, ScenarioRecord
from benchmark.verdicts.scenario import protocol_name
from benchmark.verdicts.statistics import samples_needed

SHOWN: tuple[Percentile, ...] = ("p50", "p90", "p99")
SLO_STATES = {True: "SLO met", False: "SLO missed", None: ""}


class Run(MeasurementRecord):
    """One measurement of one target."""

    target: str


class RunResult(Head):
    """The result of `run`."""

    scenario: ScenarioRecord
    engine: NotRequired[str]
    runs: list[Run]


NEEDED = RunResult.__required_keys__


def tables(result: RunResult) -> list[Table]:
    """A row per run: its result, rates, latency from the intended start, and whether it is valid."""
    scenario = result["scenario"]
    made = terminal.compact(f"{scenario['name']}: {protocol_name(scenario['protocol'])}, batch {scenario['batch']}; "
                            f"{result['inputs']}")
    made.add_column("target", overflow="fold")
    for column in ("result", "answered", "req/s", "p50 ms", "p90", "p99", "late p99", "room"):
        made.add_column(column, justify="right", no_wrap=True)
    made.add_column("", overflow="fold")
    for run in result["runs"]:
        name, value = run["result"]["name"], run["result"]["value"]
        figure = "" if value is None else f"{name.removesuffix(' ms')} {short(value)}"
        room = "" if run["headroom"] is None else f"{run['headroom']:.0f}x"
        state = "[green]VALID[/]" if run["valid"] else "[yellow]INVALID[/]"
        made.add_row(escape_markup(run["target"]), figure, f"{run['requests']:,}", f"{run['rate_per_s']:.1f}",
                     *(_at(run["latency_ms"], p) for p in SHOWN), _at(run["late_ms"], "p99"), room,
                     f"{state} {SLO_STATES[run['slo_met']]}".rstrip())
    return [made]


def lines(result: RunResult) -> list[str]:
    """How the generator's threads were scheduled, and why runs are INVALID."""
    how = " and ".join(dict.fromkeys(scheduling(run) for run in result["runs"]))
    return [f"[dim]The generator's threads were {how}[/]",
            *(escape_markup(f"INVALID {run['target']}: {reason}") for run in result["runs"]
              for reason in run["reasons"])]


def scheduling(run: MeasurementRecord) -> str:
    return "real-time" if run.get("real_time") else "scheduled with normal priority"


def html(result: RunResult) -> str:
    scenario, runs = result["scenario"], result["runs"]
    parts = [f'<p class="soft">{escape(scenario["question"])}</p>', cards(_card(scenario, run) for run in runs)]
    if any(run["requests"] for run in runs):
        parts += ["<h2>Latency</h2>", figures(_charts(runs))]
    parts += ["<h2>Figures</h2>", _figures(runs)]
    return result_page(f"{scenario['name']} on {', '.join(dict.fromkeys(run['target'] for run in runs))}", parts,
                       result)


def _card(scenario: ScenarioRecord, run: Run) -> str:
    name, value = run["result"]["name"], run["result"]["value"]
    unit = " ms" if name.endswith(" ms") else ""
    big = f"{name.removesuffix(unit)} {short(value)}{unit}" if value else "no answers"
    state = "VALID" if run["valid"] else f"INVALID: {'; '.join(run['reasons'])}"
    room = f"; the generator could have sent {run['headroom']:.1f} times that" if run["headroom"] else ""
    tone = "cannot" if not run["valid"] else "slower" if run["slo_met"] is False else "faster"
    return card(f"{run['target']}, {protocol_name(scenario['protocol'])}, batch {scenario['batch']}",
                f"{big} {SLO_STATES[run['slo_met']]}".rstrip(),
                f"{state}; {run['requests']:,} requests at {run['rate_per_s']:.1f}/s{room}", tone)


def _charts(runs: list[Run]) -> list[str]:
    """A colour per target; dashes distinguish its repeats, and latency from the intended start from that from the
    actual send."""
    names = list(dict.fromkeys(run["target"] for run in runs))
    tails: list[charts.Line] = []
    repeats: dict[str, int] = {}
    for run in runs:
        if not run["requests"]:
            continue
        repeats[run["target"]] = repeat = repeats.get(run["target"], 0) + 1
        several = f" {repeat}" if sum(each["target"] == run["target"] for each in runs) > 1 else ""
        kinds = [("intended start", run["latency_ms"])]
        if apart(run):
            kinds.append(("actual send", run["latency_from_send_ms"]))
        for sent, (start, values) in enumerate(kinds):
            tails.append(latencies.tail(f"{run['target']}{several}, from the {start}", Histogram.decode(values["hdr"]),
                                        names.index(run["target"]), 2 * (repeat - 1) + sent))
    most = max(run["requests"] for run in runs)
    shares = [charts.Line(line.name, [(ms, 1 - 10**-x) for x, ms in line.points], line.series, line.dash)
              for line in tails]
    note = "" if all(map(apart, runs)) else (
        "The latency from the actual send is not drawn where it equals the latency from the intended start.")
    return [figure("Latency by percentile", charts.lines(tails, "percentile", "latency, ms", latencies.ticks(most)),
                   note, tails),
            figure("Share of requests answered within a time",
                   charts.lines(shares, "latency, ms", "share of requests", step=True), note, shares)]


def apart(run: MeasurementRecord) -> bool:
    """Whether the latencies from the intended start and from the actual send differ by over 1 %, visible in a chart."""
    intended, sent = run["latency_ms"], run["latency_from_send_ms"]
    return any(abs(intended[p] - sent[p]) > 0.01 * intended[p] for p in SHOWN if p in intended and p in sent)


def _figures(runs: list[Run]) -> str:
    """A table for the server and a table for the load generator: one table of both would be wider than a page."""
    served, sent = [], []
    for run in runs:
        latency, beyond = run["latency_ms"], "" if run["requests"] >= samples_needed(99.9) else "~"
        served.append((run["target"], "VALID" if run["valid"] else "INVALID", f"{run['requests']:,}",
                       f"{run['rate_per_s']:.2f}", f"{run['examples_per_s']:,.0f}", *(_at(latency, p) for p in SHOWN),
                       _at(latency, "p99.9") + beyond, sum(run["errors"].values()), run["wrong"]))
        sent.append((run["target"], scheduling(run), f"{run['generator_cpu_s'] / run['wall_s']:.0%}",
                     _at(run["latency_from_send_ms"], "p99"), _at(run["late_ms"], "p99"), run["dropped"]))
    note = f'<p class="soft">~ fewer than the {samples_needed(99.9):,} samples that p99.9 needs.</p>'
    return (table(("target", "", "answered", "requests/s", "examples/s", "p50 ms", "p90", "p99", "p99.9", "errors",
                   "wrong"), served, 2) + note + "<h2>The load generator</h2>"
            + table(("target", "threads", "of one CPU", "p99 ms from send", "late p99 ms", "dropped"), sent, 2))


def _at(values: LatencyRecord, percentile: Percentile) -> str:
    return short(values[percentile]) if percentile in values else ""
