"""The report of a comparison: verdict first, then intervals, plots, figures, targets, the card, conditions."""
from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape as html_escape
from typing import Any, NotRequired, TypedDict, cast

from rich.markup import escape
from rich.table import Table

from benchmark.reports import card as picture
from benchmark.reports import charts, latencies, terminal
from benchmark.reports.figures import interval, marked, measure, megabytes, seconds, share, short
from benchmark.reports.head import Head
from benchmark.reports.in_short import in_short
from benchmark.reports.page import card, cards, figure, figures, result_page, table, tone
from benchmark.reports.undecided import next_step
from benchmark.verdicts.block import Block
from benchmark.verdicts.block import latencies as latencies_of
from benchmark.verdicts.comparison import METRICS, RULES, Rules, compare, decisive
from benchmark.verdicts.records import AgainstRecord, BlockRecord, ComparisonRecord, ConductRecord
from benchmark.verdicts.scenario import protocol_name
from benchmark.verdicts.statistics import METRICS as PERCENTILES
from benchmark.verdicts.statistics import metric_value, samples_needed

COLOURS = {"faster": "green", "equal": "green", "slower": "red", "cannot tell": "yellow"}


class Summary(TypedDict):
    """The figures of one target under one protocol and batch size; times in ms, the total in s."""

    target: str
    protocol: str
    batch: int
    requests: int
    total_s: float
    examples_per_s: float | None
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    min_ms: float
    max_ms: float


class Compared(TypedDict):
    """What was computed from the blocks: the first target is the baseline."""

    baseline: str
    comparisons: list[ComparisonRecord]
    summaries: list[Summary]
    blocks: list[BlockRecord]


class Part(Compared, ConductRecord):
    """A comparison within a larger result: how it was measured, and the metric that decides there."""

    kind: NotRequired[str]
    format: NotRequired[int]
    metric: NotRequired[str]


class Settings(TypedDict, total=False):
    """The settings of a comparison."""

    signature: str
    repeat: int
    warmup: int
    processes: int


class CompareResult(Settings, Compared, ConductRecord, Head):
    """The result of `compare` with all measurements; `against`: the comparisons with a stored result."""

    against: NotRequired[list[AgainstRecord]]


NEEDED = CompareResult.__required_keys__ - {"baseline"}


def compared(targets: Sequence[str], blocks: Sequence[Block], rules: Rules = RULES, seed: int = 0) -> Compared:
    """The comparisons and summaries of targets, computed from blocks."""
    comparisons, summaries = [], []
    for protocol, batch in dict.fromkeys((block.protocol, block.batch) for block in blocks):
        group = [block for block in blocks if (block.protocol, block.batch) == (protocol, batch)]
        # In a duet that was interrupted the last candidates may not have been measured yet.
        there = [target for target in targets if any(block.target == target for block in group)]
        summaries += [summary([block for block in group if block.target == target]) for target in there]
        comparisons += [compare(group, targets[0], candidate, metric, rules, seed).to_json()
                        for candidate in there[1:] for metric in METRICS]
    return {"baseline": targets[0], "comparisons": comparisons, "summaries": summaries,
            "blocks": [block.to_json() for block in blocks]}


def summary(blocks: Sequence[Block]) -> Summary:
    values, wall = latencies_of(blocks), sum(block.wall_s for block in blocks)
    first = blocks[0]
    return cast(Summary, {
        "target": first.target, "protocol": first.protocol, "batch": first.batch, "requests": len(values),
        "total_s": wall, "examples_per_s": first.batch * len(values) / wall if wall else None,
        **{f"{metric}_ms": metric_value(metric, values) * 1e3 for metric in PERCENTILES if len(values)},
        "min_ms": float(values.min()) * 1e3, "max_ms": float(values.max()) * 1e3})


def tables(result: CompareResult) -> list[Table]:
    return [figures_table(result["model"], result)]


def figures_table(model: str, part: Part | CompareResult) -> Table:
    """All targets under every protocol: total and mean time, percentiles, ratio, verdict. 80 columns wide."""
    made = terminal.compact(f"{model}: {part['inputs']}")
    widest = max(len(each["target"]) for each in part["summaries"]) + 1
    # 80 columns leave room for names of 18 letters; longer names are folded, since no figure may be cut.
    made.add_column("", overflow="fold", min_width=min(widest, 11 if part.get("accuracy") else 18))
    right = part.get("accuracy")
    for title in ("total s", "ms/batch", "p50", "p90", "p99", *(("right",) if right else ())):
        made.add_column(title, justify="right", no_wrap=True)
    made.add_column("ratio, 95 %", no_wrap=True)
    made.add_column("verdict", no_wrap=True)
    group = None
    for each in part["summaries"]:
        if group != (group := f"{protocol_name(each['protocol'])} {each['batch']}"):
            made.add_row(f"[bold]{group}[/]")
        ratio, verdict = "baseline", ""
        if comparison := _mean_comparison(part, each):
            ratio = f"{comparison['ratio']:.2f} {interval(comparison['ci95'], 2)}"
            word = comparison["verdict"] if comparison["valid"] else "INVALID"
            verdict = f"[{COLOURS[comparison['verdict']]}]{word}[/]"
        made.add_row(f" {escape(each['target'])}", f"{each['total_s']:.2f}", short(each["mean_ms"]),
                     *_percentiles(each), *((_right(part, each),) if right else ()), ratio, verdict)
    return made


def _right(part: Part | CompareResult, each: Summary) -> str:
    """The share of labelled examples whose top class is right."""
    where = f"{protocol_name(each['protocol'])} batch {each['batch']}"
    found = part.get("accuracy", {}).get(where, {}).get(each["target"])
    return f"{found['right'] / found['examples']:.1%}" if found else ""


def lines(result: CompareResult) -> list[str]:
    """The table in words: each verdict on the average latency, what to do next, and which client measured."""
    decided = decisive(result["comparisons"])
    made = [escape(line) for line in (in_short(decided), *(
        line for each in decided for line in (sentence(each), next_step(each)))) if line]
    made += [escape(against_sentence(each)) for each in result.get("against", [])]
    made += [f"[dim]Answers of {escape(where)}: {escape(found)}[/]" for where, found in
             result.get("answers", {}).items()]
    for where, own in result.get("accuracy", {}).items():
        counted = next(iter(own.values()))
        made.append(f"[dim]{escape(where)}, right: the share of the {counted['examples']:,} labelled examples that "
                    f"were sent whose top class of '{escape(counted['output'])}' is the label[/]")
    made += [f"[dim]{escape(line)}[/]" for line in witnesses(result)]
    made += [f"[dim]{protocol_name(protocol)} measured by {by}[/]" for protocol, by in result["measured_by"].items()]
    made += [f"[dim]{escape(where)} measured {escape(how)}[/]" for where, how in result.get("design", {}).items()]
    made += [f"[dim]{escape(where)} ended: {why}[/]" for where, why in result.get("ended", {}).items()]
    if any(each["requests"] < samples_needed(99) for each in result["summaries"]):
        made.append(f"[dim]~ too few samples for this percentile to be relied on (p99 needs {samples_needed(99)})[/]")
    return made


def accuracies(result: CompareResult) -> list[str]:
    """One line for each protocol and batch size: how many of the labelled examples each target has right."""
    return [f"{where}: right on {next(iter(found.values()))['examples']:,} labelled examples: " + ", ".join(
        f"{name} {one['right'] / one['examples']:.2%}" for name, one in found.items())
        for where, found in result.get("accuracy", {}).items()]


def witnesses(result: CompareResult) -> list[str]:
    """What a request took of each target's process beside its time; it decides nothing."""
    made = []
    for where, own in result.get("used", {}).items():
        for title, key, unit, digits in (("CPU time", "cpu_ms", " ms", 3), ("instructions", "instructions", "", 4),
                                         ("cycles", "cycles", "", 4)):
            found = [f"{name} {value:,.{digits}g}{unit}" for name, one in own.items()
                     if (value := cast(dict[str, Any], one)[key]) is not None]
            if found:
                made.append(f"{where}, {title} of the server's process per request: {', '.join(found)}")
    if made and (why := result.get("not_counted")):
        made.append(f"Instructions and cycles are not counted: {why}")
    return made


def sentence(comparison: ComparisonRecord) -> str:
    """One line: which target is faster, by which ratio and interval."""
    c = comparison
    what = measure(c)
    where = f"{protocol_name(c['protocol'])} batch {c['batch']}"
    bounds = interval(c["ci95"], between=", ")
    ratio = f"ratio {c['ratio']:.3f} [{bounds}]" if None not in c["ci95"] else f"ratio {c['ratio']:.3f}, {bounds}"
    if not c["valid"]:
        return f"{where}: INVALID, cannot tell ({'; '.join(c['reasons'])})"
    if c["verdict"] == "cannot tell":
        return (f"{where}: cannot tell {c['candidate']} from {c['baseline']} by {what}: {ratio}, noise floor "
                f"±{c['floor']:.1%}; a difference of {share(c['least_effect'])} would have been detected")
    found = f"is {c['verdict']} than"
    if c["verdict"] == "equal":
        found = f"equals, within {c.get('equal_within') or 0:.1%},"
    return (f"{where}: {c['candidate']} {found} {c['baseline']} by {what}: {ratio}, "
            f"noise floor ±{c['floor']:.1%}")


def against_sentence(c: AgainstRecord) -> str:
    """One line: whether the candidate is faster or slower than in a stored result."""
    where = f"{protocol_name(c['protocol'])} batch {c['batch']}"
    then = "its stored result" + (f" ({c['stored']})" if c["stored"] != c["candidate"] else "")
    if not c["valid"]:
        return f"{where}: INVALID, cannot tell {c['candidate']} from {then} ({'; '.join(c['reasons'])})"
    found = {"cannot tell": f"cannot tell {c['candidate']} from", "equal": f"{c['candidate']} equals"}.get(
        c["verdict"], f"{c['candidate']} is {c['verdict']} than")
    return (f"{where}: {found} {then}, by the ratio over {c['baseline']} in each run ({measure(c)}): {c['ratio']:.3f} "
            f"[{interval(c['ci95'], between=', ')}], noise floor ±{c['floor']:.1%}")


def html(result: CompareResult) -> str:
    names = list(dict.fromkeys(each["target"] for each in result["summaries"]))
    blocks = [Block.from_json(block) for block in result["blocks"]]
    decided = decisive(result["comparisons"])
    parts = [cards(verdict_card(c) for c in decided),
             *(f"<p>{html_escape(words, quote=False)}</p>" for words in (in_short(decided),) if words),
             *(f"<p>{protocol_name(c['protocol'])}, batch {c['batch']}: {html_escape(words, quote=False)}</p>"
               for c in decided if (words := next_step(c))),
             *(f"<p>{html_escape(against_sentence(c))}</p>" for c in result.get("against", [])),
             *(f"<p>{html_escape(line)}</p>" for line in accuracies(result)),
             *(f'<p class="soft">{html_escape(line)}</p>' for line in witnesses(result)),
             '<h2>Every ratio, its interval and the noise floor</h2>',
             '<p class="soft">Baseline over candidate: over 1 the candidate is faster. The shaded band is the noise '
             "floor, how far equal processes were apart in this run: an interval that touches it gives no verdict.</p>",
             _forests(result)]
    for protocol, batch in dict.fromkeys((block.protocol, block.batch) for block in blocks):
        own = [block for block in blocks if (block.protocol, block.batch) == (protocol, batch)]
        parts += [f"<h2>{protocol_name(protocol)}, batch {batch}</h2>", figures(latencies.charts_of(own, names))]
    drawn = picture.svg(result)
    encoded = b64encode(drawn.encode()).decode()
    link = f'<a download="verdict.svg" href="data:image/svg+xml;base64,{encoded}">Save it</a>'
    parts += ["<h2>Figures</h2>", _summaries(result), "<h2>What was measured</h2>", _targets(result, names),
              "<h2>Verdict card</h2>", f'<p class="soft">The verdicts as one picture, to paste elsewhere. {link}.</p>',
              f'<figure class="scroll">{drawn}</figure>']
    return result_page(f"{', '.join(names[1:])} against {names[0]}", parts, result)


def verdict_card(c: ComparisonRecord) -> str:
    factor = c["ratio"] if c["verdict"] == "faster" else 1 / c["ratio"]
    big = {"cannot tell": "cannot tell", "equal": f"{c['candidate']} is equal"}.get(
        c["verdict"], f"{c['candidate']} is {factor:.2f}× {c['verdict']}")
    known = "no interval" if None in c["ci95"] else f"95 % sure between {interval(c['ci95'], between=' and ')}"
    why = f"INVALID: {'; '.join(c['reasons'])}" if not c["valid"] else f"noise floor ±{c['floor']:.1%}"
    if c["verdict"] == "cannot tell" and c["valid"] and c["least_effect"] is not None:
        why += f"; a difference of {share(c['least_effect'])} would have been detected"
    values = f"{charts.number(c['baseline_value'])} → {charts.number(c['candidate_value'])} {c['unit']}"
    return card(f"{protocol_name(c['protocol'])}, batch {c['batch']}, {measure(c)}", big,
                f"{values}; ratio {c['ratio']:.3f}, {known}; {why}", tone(c["verdict"]))


def span(label: str, c: ComparisonRecord) -> charts.Span:
    return charts.Span(label, c["ratio"], charts.drawable(*c["ci95"]), c["floor"], tone(c["verdict"]))


def _forests(result: CompareResult) -> str:
    made = []
    for candidate in dict.fromkeys(c["candidate"] for c in result["comparisons"]):
        own = [c for c in result["comparisons"] if c["candidate"] == candidate]
        spans = [span(f"{protocol_name(c['protocol'])} {c['batch']} {c['metric']}{'' if c['valid'] else ' ~'}", c)
                 for c in own]
        note = "" if all(c["valid"] for c in own) else (
            "~ INVALID: too few samples for this percentile, or the reason given with the verdict")
        made.append(figure(f"{candidate} against {own[0]['baseline']}", charts.forest(spans), note))
    return figures(made)


def _summaries(result: CompareResult) -> str:
    return table(
        ("protocol", "variant", "batch", "requests", "total s", "mean ms", "p50", "p90", "p99", "max", "examples/s"),
        [(protocol_name(s["protocol"]), s["target"], s["batch"], s["requests"], f"{s['total_s']:.2f}",
          f"{s['mean_ms']:.3f}", *_percentiles(s), f"{s['max_ms']:.2f}",
          "" if s["examples_per_s"] is None else f"{s['examples_per_s']:,.0f}")
         for s in result["summaries"]], 2) + (
        f'<p class="soft">~ fewer samples than this percentile needs (p99: {samples_needed(99)}).</p>') + table(
        ("comparison", "metric", "ratio", "95 % interval", "noise floor", "least effect", "verdict", "valid"),
        [(f"{protocol_name(c['protocol'])} {c['batch']}: {c['baseline']} / {c['candidate']}", c["metric"],
          f"{c['ratio']:.3f}", interval(c["ci95"], between=" to "), f"±{c['floor']:.1%}",
          "?" if c["least_effect"] is None else share(c["least_effect"]), c["verdict"],
          "VALID" if c["valid"] else f"INVALID: {'; '.join(c['reasons'])}") for c in result["comparisons"]],
        2, {6: "verdict", 7: "wrap"})


def _targets(result: CompareResult, names: Sequence[str]) -> str:
    rows, donuts = [], []
    versions = result["environment"].get("models", {})
    for name in names:
        facts: Mapping[str, Any] = result.get("targets", {}).get(name, {})
        version: Mapping[str, Any] = versions.get(name, {})
        run_by = ", ".join(filter(None, (facts.get("backend", "?"), facts.get("engine"))))
        rows.append((name, run_by, version.get("version", ""), megabytes(version.get("bytes")),
                     seconds(facts.get("load_s")), seconds(facts.get("first_request_s")),
                     megabytes(facts.get("resident_bytes")), facts.get("nodes", ""), version.get("digest", "")))
        if ops := facts.get("ops"):
            donuts.append(figure(f"Operations of {name}", charts.donut(list(ops.items()), f"{sum(ops.values())} ops")))
    head = ("variant", "backend", "version", "on disk", "load", "cold first request", "resident memory", "nodes",
            "digest")
    return table(head, rows, 2) + (f'<div class="charts below">{"".join(donuts)}</div>' if donuts else "")


def _mean_comparison(part: Part | CompareResult, each: Summary) -> ComparisonRecord | None:
    """The comparison of means whose candidate is the target of this summary."""
    return next((c for c in decisive(part["comparisons"]) if c["candidate"] == each["target"]
                 and (c["protocol"], c["batch"]) == (each["protocol"], each["batch"])), None)


def _percentiles(each: Summary) -> list[str]:
    return [marked(each["p50_ms"], 50, each["requests"]), marked(each["p90_ms"], 90, each["requests"]),
            marked(each["p99_ms"], 99, each["requests"])]
