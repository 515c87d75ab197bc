"""Results on a terminal."""
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from benchmark.verdicts.scenario import protocol_name
from benchmark.verdicts.statistics import samples_needed

CURVE_PERCENTILE = 90
COLOURS = {"faster": "green", "slower": "red", "cannot tell": "yellow"}


def tables(result: dict[str, Any]) -> list[Table]:
    """The tables of a result of any kind."""
    return {"compare": comparison_table, "run": run_table, "sweep": curve_table, "search": search_table,
            "split": split_table, "profile": profile_table, "overhead": overhead_tables}[result["kind"]](result)


def lines(result: dict[str, Any]) -> list[str]:
    """What the tables say, in words."""
    if result["kind"] == "compare":
        return verdict_lines(result)
    if result["kind"] == "run":
        how = "and ".join(dict.fromkeys(f"{scheduling(run)} " for run in result["runs"]))
        return [f"[dim]The generator's threads were {how.strip()}[/]",
                *(escape(f"INVALID {run['target']}: {reason}") for run in result["runs"] for reason in run["reasons"])]
    if result["kind"] == "overhead":
        return overhead_lines(result)
    if result["kind"] == "profile":
        return [escape(instruction_line(result["instructions"]))]
    if result["kind"] == "split":
        return [escape(split_words(result))]
    return [search_line(result, each) for each in result["searches"]] if result["kind"] == "search" else []


def comparison_table(result: dict[str, Any]) -> list[Table]:
    """Both variants under every protocol: the article's figures, percentiles, ratio, verdict. 80 columns wide."""
    table = Table(title=f"{result['model']}: {result['inputs']}", title_justify="left", box=None,
                  pad_edge=False, padding=(0, 1, 0, 0))
    widest = max(len(each["target"]) for each in result["summaries"]) + 1
    # 80 columns hold names of 18 letters; longer ones are folded, since no figure may be cut.
    table.add_column("", overflow="fold", min_width=min(widest, 18))
    for title in ("total s", "ms/batch", "p50", "p90", "p99"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("ratio, 95 %", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    group = None
    for each in result["summaries"]:
        if group != (group := f"{protocol_name(each['protocol'])} {each['batch']}"):
            table.add_row(f"[bold]{group}[/]")
        ratio, verdict = "baseline", ""
        if comparison := of_mean(result, each):
            low, high = comparison["ci95"]
            ratio = f"{comparison['ratio']:.2f} {bound(low, 2)}-{bound(high, 2)}"
            word = comparison["verdict"] if comparison["valid"] else "INVALID"
            verdict = f"[{COLOURS[comparison['verdict']]}]{word}[/]"
        table.add_row(f" {escape(each['target'])}", f"{each['total_s']:.2f}", short(each["mean_ms"]),
                      *(percentile(each, p) for p in (50, 90, 99)), ratio, verdict)
    return [table]


def verdict_lines(result: dict[str, Any]) -> list[str]:
    """The table in words: each verdict on the average latency, and who measured."""
    lines = [escape(sentence(each)) for each in result["comparisons"] if each["metric"] == "mean"]
    lines += [f"[dim]Answers of {escape(where)}: {escape(summary)}[/]"
              for where, summary in result.get("answers", {}).items()]
    lines += [f"[dim]{protocol_name(protocol)} measured by {by}[/]" for protocol, by in result["measured_by"].items()]
    if any(each["requests"] < samples_needed(99) for each in result["summaries"]):
        lines.append(f"[dim]~ too few samples for this percentile to be relied on (p99 needs {samples_needed(99)})[/]")
    return lines


def sentence(comparison: dict[str, Any]) -> str:
    """One line that can be read out: who is faster, by how much, how surely."""
    c = comparison
    what = {"mean": "average latency", "throughput": "throughput"}.get(c["metric"], f"{c['metric']} latency")
    where = f"{protocol_name(c['protocol'])} batch {c['batch']}"
    ratio = f"ratio {c['ratio']:.3f} [{bound(c['ci95'][0])}, {bound(c['ci95'][1])}]"
    if not c["valid"]:
        return f"{where}: INVALID, cannot tell ({'; '.join(c['reasons'])})"
    least = "no" if c["least_effect"] is None else f"{c['least_effect']:.1%}"
    if c["verdict"] == "cannot tell":
        return (f"{where}: cannot tell {c['candidate']} from {c['baseline']} by {what}: {ratio}, noise floor "
                f"±{c['floor']:.1%}; a difference of {least} would have been seen")
    return (f"{where}: {c['candidate']} is {c['verdict']} than {c['baseline']} by {what}: {ratio}, "
            f"noise floor ±{c['floor']:.1%}")


def of_mean(result: dict[str, Any], summary: dict[str, Any]) -> dict[str, Any] | None:
    """The comparison of means whose candidate is the target of a summary."""
    return next((c for c in result["comparisons"] if c["metric"] == "mean" and c["candidate"] == summary["target"]
                 and (c["protocol"], c["batch"]) == (summary["protocol"], summary["batch"])), None)


def percentile(summary: dict[str, Any], p: int) -> str:
    mark = "" if summary["requests"] >= samples_needed(p) else "~"
    return f"{mark}{short(summary[f'p{p}_ms'])}"


def short(milliseconds: float) -> str:
    """As many digits as mean something: 0.412, 5.32, 76.5, 189.8."""
    return f"{milliseconds:.{3 if milliseconds < 1 else 2 if milliseconds < 10 else 1}f}"


def bound(value: float | None, digits: int = 3) -> str:
    return "?" if value is None else f"{value:.{digits}f}"


def run_table(result: dict[str, Any]) -> list[Table]:
    """Runs of a scenario: its figure, rates, latency from the intended start, and whether it counts."""
    scenario = result["scenario"]
    title = f"{scenario['name']}: {protocol_name(scenario['protocol'])}, batch {scenario['batch']}; {result['inputs']}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("target", overflow="fold")
    for column in ("result", "answered", "req/s", "p50 ms", "p90", "p99", "late p99", "room"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for run in result["runs"]:
        name, value = run["result"]["name"], run["result"]["value"]
        latency, late = run["latency_ms"], run["late_ms"]
        figure = "" if value is None else f"{name.removesuffix(' ms')} {short(value)}"
        cells = [short(latency[p]) if p in latency else "" for p in ("p50", "p90", "p99")]
        room = "" if run["headroom"] is None else f"{run['headroom']:.0f}x"
        slo = {True: " SLO met", False: " SLO missed", None: ""}[run["slo_met"]]
        table.add_row(escape(run["target"]), figure, f"{run['requests']:,}", f"{run['rate_per_s']:.1f}", *cells,
                      short(late["p99"]) if "p99" in late else "", room,
                      ("[green]VALID[/]" if run["valid"] else "[yellow]INVALID[/]") + slo)
    return [table]


def scheduling(run: dict[str, Any]) -> str:
    return "real-time" if run.get("real_time") else "scheduled as all others"


def curve_table(result: dict[str, Any]) -> list[Table]:
    """A throughput-latency curve, a row per load."""
    table = Table(title=f"p{CURVE_PERCENTILE} from the intended start", title_justify="left", box=SIMPLE_HEAD)
    for title in ("target", result["over"], "requests/s", f"p{CURVE_PERCENTILE} ms", ""):
        table.add_column(title, justify="left" if title in ("target", "") else "right")
    for curve in result["curves"]:
        for point in curve["points"]:
            table.add_row(escape(curve["target"]), f"{point['offered']:g}", f"{point['rate_per_s']:.1f}",
                          short(point["latency_ms"]), "knee" if point == curve["knee"] else "")
    return [table]


def search_table(result: dict[str, Any]) -> list[Table]:
    """The rates that were tried."""
    slo = result["scenario"]["slo"]
    title = f"p{slo['percentile']:g} within {slo['latency_ms']:g} ms"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for title in ("target", "requests/s", "promise", "requests", "beyond"):
        table.add_column(title, justify="left" if title in ("target", "promise") else "right")
    for each in result["searches"]:
        for probe in each["probes"]:
            table.add_row(escape(each["target"]), f"{probe['rate_per_s']:.1f}", probe["decision"],
                          str(probe["requests"]), str(probe["beyond"]))
    return [table]


def search_line(result: dict[str, Any], each: dict[str, Any]) -> str:
    slo = result["scenario"]["slo"]
    kept = f"{each['met']:.1f}/s" if each["met"] else "no rate that was tried"
    broken = f", not at {each['missed']:.1f}/s" if each["missed"] else ", and was never broken"
    return f"{escape(each['target'])} keeps p{slo['percentile']:g} within {slo['latency_ms']:g} ms at {kept}{broken}"


def split_table(result: dict[str, Any]) -> list[Table]:
    """Where the time of a request goes."""
    table = Table(title=f"{escape(result['target'])}: milliseconds of a request", title_justify="left",
                  box=None, pad_edge=False, padding=(0, 1, 0, 0))
    head, rows = split_rows(result)
    for title in head:
        table.add_column(title, justify="right" if title else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return [table]


def split_rows(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The parts of each protocol and batch, and the whole they add up to."""
    names = list(result["splits"][0]["milliseconds"])
    return ["", *names, "total"], [
        [f"{protocol_name(each['protocol'])} {each['batch']}", *(short(each["milliseconds"][name]) for name in names),
         short(sum(each["milliseconds"].values()))] for each in result["splits"]]


def split_words(result: dict[str, Any]) -> str:
    """What the parts are of, and who told them."""
    if result["splits"][0]["by"] == "metrics":
        return (f"{result['target']} does not tell the timing of a request: means over all requests, the server's from "
                "its metrics, which do not separate parsing, waiting and rendering.")
    return ("As the server tells of each request (server-timing), protocols in turns: means of the middle half of the "
            "requests by their whole time, so that the parts add up.")


def overhead_tables(result: dict[str, Any]) -> list[Table]:
    """Every candidate beside its baseline: mean times, their ratio, and whether the goal is met."""
    made = []
    for part in dict.fromkeys(each["part"] for each in result["findings"]):
        own = [each for each in result["findings"] if each["part"] == part]
        table = Table(title=escape(f"beside {own[0]['baseline']}, in ms"), title_justify="left", box=None,
                      pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("", overflow="fold", min_width=24)
        for title in ("its mean", "mean", "times, 95 %", "goal", "verdict"):
            table.add_column(title, justify="right" if title.endswith("mean") else "left", no_wrap=True)
        for each in own:
            low, high = each["ci95"]
            goal = [f"{sign} {each['goal'][key]:g}" for key, sign in (("least", "≥"), ("most", "≤"))
                    if each["goal"][key]]
            table.add_row(escape(f"{protocol_name(each['protocol'])} {each['batch']} {each['candidate']}"),
                          short(each["baseline_ms"]), short(each["candidate_ms"]),
                          f"{each['times']:.2f} {bound(low, 2)}-{bound(high, 2)}", *goal or [""],
                          each["verdict"] if each["valid"] else "INVALID")
        made.append(table)
    return made


def overhead_lines(result: dict[str, Any]) -> list[str]:
    """What the tables do not show: time outside Session.run, requests per second, and why something does not count."""
    lines = []
    for each in result["findings"]:
        where = f"{protocol_name(each['protocol'])} batch {each['batch']}"
        if each["part"] == "loop":
            lines.append(f"{where}: {short(each['candidate_ms'] - each['baseline_ms'])} ms outside Session.run")
        elif each["part"] == "empty":
            lines.append(f"{where}: {each['baseline_per_s']:,.0f} requests/s (aimed at: {each['goal']['rate']:,.0f}), "
                         f"empty handler {each['candidate_per_s']:,.0f}/s")
        lines += [escape(f"INVALID {where} {each['candidate']}: {reason}") for reason in each["reasons"]]
    return [*lines, *map(escape, result["notes"])]


def profile_table(result: dict[str, Any]) -> list[Table]:
    """Time by operation, slowest first."""
    table = Table(title=f"time by operation, batch {result['batch']}", title_justify="left", box=SIMPLE_HEAD)
    names = [profile["target"] for profile in result["profiles"]]
    table.add_column("operation")
    for name in names:
        table.add_column(f"{escape(name)} ms", justify="right")
        table.add_column("runs", justify="right")
    for row in operation_rows(result["profiles"]):
        table.add_row(*map(str, row))
    return [table]


def operation_rows(profiles: list[dict[str, Any]], most: int = 12) -> list[tuple[str, ...]]:
    """(op, ms and runs of each profile), slowest in any of them first."""
    found = [{op["op"]: op for op in profile["operations"]} for profile in profiles]
    slowest = sorted({name for ops in found for name in ops},
                     key=lambda name: -max(ops[name]["us"] for ops in found if name in ops))
    return [(name, *(cell for ops in found for cell in (
        (f"{ops[name]['us'] / 1e3:.3f}", f"{ops[name]['count']:g}") if name in ops else ("", ""))))
        for name in slowest[:most]]


def instruction_line(found: dict[str, Any]) -> str:
    unused = ", ".join(found["not_in_tensorflow_build"]) or "none of them"
    return (f"The CPU has {', '.join(found['cpu'])}; TensorFlow's general code was built without "
            f"{unused}; oneDNN's kernels use {found['onednn'] or 'nothing (it is off)'}")


def markdown(table: Table) -> str:
    """A table as GitHub's Markdown."""
    head, rows = plain_cells(table)
    rule = ["---:" if column.justify == "right" else "---" for column in table.columns]
    title = [f"**{Text.from_markup(str(table.title)).plain}**", ""] if table.title else []
    return "\n".join([*title, *(f"| {' | '.join(row)} |" for row in (head, rule, *rows))])


def plain_cells(table: Table) -> tuple[list[str], list[tuple[str, ...]]]:
    """The headers and rows of a table without markup."""
    columns = [[Text.from_markup(str(cell)).plain.strip() for cell in column.cells] for column in table.columns]
    return [Text.from_markup(str(column.header)).plain for column in table.columns], list(zip(*columns, strict=True))
