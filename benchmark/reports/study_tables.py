"""The tables of a study, the same on its HTML page and in its Markdown."""
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from benchmark.reports import charts, op_counts
from benchmark.reports.environment import described_class
from benchmark.reports.figures import marked, plain, share, short
from benchmark.reports.profile import operation_rows
from benchmark.reports.study_result import TRACED_RUNS, Row, StudyPart, StudyProfile, StudyResult
from benchmark.reports.way import fastest, ratio_text
from benchmark.verdicts.scenario import protocol_name
from benchmark.verdicts.statistics import samples_needed

TRACED = (f"Operations that ran after TensorFlow optimized the graph: medians of {TRACED_RUNS} traced requests, summed "
          "over threads. Tracing takes time itself, most of all where operations are small and many.")
BESIDE = 3  # variants that have a column beside an article's counts


@dataclass(frozen=True)
class Grid:
    """A table: its first `text` columns are words, all others numbers but those in `words`, which can be long."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    text: int = 1
    words: Sequence[str] = field(default=())


def machine(result: StudyResult) -> Grid:
    """What the figures were measured on and with: without it they say nothing."""
    on = result["environment"]
    known = [("measured", result["measured"]), ("class of CPU", result["cpu_class"]),
             ("CPU", f"{on['cpu']}, {on['cpu_quota']:g} CPUs"), ("memory", op_counts.size(on.get("memory_bytes", 0))),
             ("software", plain({"Python": on.get("python", ""), **on.get("packages", {})})),
             ("variables", plain(on.get("variables", {}))), ("inputs", result["inputs"]),
             ("command", f"`{result['command']}`" + (", a quick run" if result["quick"] else "")),
             ("seed", str(result["seed"])), ("commit", result["commit"])]
    return Grid(("", "on and with"), [row for row in known if row[1]], 2)


def article(result: StudyResult) -> list[Grid]:
    """The article's own table and ours: one table if they have rows in common, ours beside the article's; else two.

    Ours are the rows of the first part that have its first protocol and batch size, with their rate where the article
    has one, else their total time. An article's row about operations has ours beside it in either case.
    """
    table, ours = result["article"]["table"], _first_group(result["parts"])
    width = max((len(row) for row in [table["head"], *table["rows"]]), default=0)
    head = [*table["head"], *[""] * (width - len(table["head"]))]
    theirs = [[*row, *[""] * (width - len(row))] for row in table["rows"]]
    rate = any("/s" in name or "second" in name for name in [*head, *(row[0] for row in theirs)])
    own_head = ["examples/s" if rate else "total s", "mean ms", "ratio, 95 %"]
    names = [row[0].lower() for row in theirs]
    if not any(_place(names, row) is not None for row in ours):
        own = Grid(["here", *own_head], [[row["label"], *_here(row, rate)] for row in ours])
        return [*([_with_operations(result, head, theirs)] if theirs else []), *([own] if ours else [])]
    beside: dict[int | None, list[Row]] = {}
    for row in ours:
        beside.setdefault(_place(names, row), []).append(row)
    made = []
    for place, cells in enumerate(theirs):
        made += [[*cells, *_here(row, rate)] for row in beside.get(place, [])] or [[*cells, *[""] * len(own_head)]]
    made += [[row["label"], *[""] * (width - 1), *_here(row, rate)] for row in beside.get(None, [])]
    year = result["article"]["year"]
    return [Grid([head[0], *(f"{year}: {name}" for name in head[1:]), *(f"here: {name}" for name in own_head)], made)]


def beside_the_article(result: StudyResult) -> list[str]:
    """A sentence for each figure of an article: what was published, and what the fastest step reaches here."""
    best = fastest(result["way"])
    here = f"{ratio(best['ratio'], best['ci95'])}: {best['label']}" if best else "no step is proven faster"
    return [f"Published: {each['label']}, {ratio_text(each['ratio'])}; here ({result['way']['title']}), {here}."
            for each in result["way"]["published"]]


def part(result: StudyResult, measured: StudyPart) -> Grid:
    """All rows of one measurement, what matters most on the left; columns without any value are left out."""
    other_machine = not {each["cpu_class"] for each in measured["rows"]} <= {result["cpu_class"]}
    head = ("", "protocol", "batch", "mean ms", "ratio, 95 %", "verdict", "right", "p50 ms", "p99 ms", "examples/s",
            "requests", "total s", "answers", "class of CPU")
    rows = [(each["label"], protocol_name(each["protocol"]), f"{each['batch']:,}", short(each["mean_ms"]),
             "" if each["ratio"] is None else ratio(each["ratio"], each["ci95"]),
             each["verdict"] if each["valid"] else "INVALID", "" if each["right"] is None else share(each["right"]),
             marked(each["p50_ms"], 50, each["requests"]), marked(each["p99_ms"], 99, each["requests"]),
             charts.number(each["examples_per_s"]), f"{each['requests']:,}", _total(each),
             each["answers"], each["cpu_class"] if other_machine else "") for each in measured["rows"]]
    kept = [index for index in range(len(head)) if not index or any(row[index] for row in rows)]
    return Grid([head[index] for index in kept], [[row[index] for index in kept] for row in rows], 2,
                ("verdict", "answers", "class of CPU"))


def variants(result: StudyResult) -> Grid:
    """Operations by variant; variants by operation if there are many variants."""
    own = result["variants"]
    if len(own) > op_counts.SIDE_BY_SIDE:
        return Grid(op_counts.head_by_variant(own), op_counts.rows_by_variant(own))
    return Grid(op_counts.head(own), op_counts.rows(own))


def limits(result: StudyResult) -> Grid:
    """How much of the machine is used: the share of what its best kernels reach in that precision."""
    return Grid(("model", "target", "precision", "batch", "GFLOP", "GFLOP/s", "most here", "share"),
                [(each["model"], each["target"], each["precision"], f"{each['batch']:,}", charts.number(each["gflop"]),
                  charts.number(each["gflop_per_s"]), charts.number(each["ceiling_gflop_per_s"]),
                  f"{each['share']:.0%}") for each in result["limits"]], 3)


def profile(found: StudyProfile) -> Grid:
    """Time by operation, the slowest first, and all operations together."""
    own = [each["operations"] for each in found["targets"]]
    sums = [cell for operations in own for cell in (f"{sum(op['us'] for op in operations) / 1e3:.3f}",
                                                    f"{sum(op['count'] for op in operations):g}")]
    return Grid(("operation", *(head for each in found["targets"] for head in (f"{each['target']}: ms", "runs"))),
                [*operation_rows(own), ("all operations", *sums)])


def goals(result: StudyResult) -> Grid:
    return Grid(("goal", "seen", ""), [(each["goal"], each["seen"], "met" if each["met"] else "NOT met")
                                       for each in result["goals"]], 3)


def missing(result: StudyResult) -> Grid:
    return Grid(("", "why it does not run"), [(each["what"], each["why"]) for each in result["does_not_run"]], 2)


def measured_on(result: StudyResult) -> str:
    """The class of CPU and the date that stand beside figures."""
    kind = result["cpu_class"] or described_class(result["environment"]) or "not known"
    return f"Class of CPU: {kind}; {result['measured'][:10]}" + ("; a quick run." if result["quick"] else ".")


def below(result: StudyResult, measured: StudyPart) -> str:
    """What stands below the rows of one measurement."""
    if not measured["rows"]:
        return "Nothing was measured here."
    few = any(each["requests"] < samples_needed(99) for each in measured["rows"])
    return measured_on(result) + (f" ~: p99 needs {samples_needed(99)} requests to be reliable." if few else "")


def ratio(value: float, ci95: Sequence[float | None] | None) -> str:
    """A ratio and its interval with the same number of decimals: "2.80× [2.75, 2.84]"."""
    bounds = charts.drawable(*ci95) if ci95 else None
    decimals = len(ratio_text(value).rstrip("×").partition(".")[2])
    return ratio_text(value) + (f" [{bounds[0]:.{decimals}f}, {bounds[1]:.{decimals}f}]" if bounds else "")


def groups(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows that were measured in turns: those of one protocol and batch size."""
    def key(row: Row) -> tuple[str, int]:
        return row["protocol"], row["batch"]
    order = list(dict.fromkeys(map(key, rows)))
    return [list(group) for _, group in groupby(sorted(rows, key=lambda row: order.index(key(row))), key)]


def _first_group(parts: Sequence[StudyPart]) -> list[Row]:
    rows = parts[0]["rows"] if parts else []
    return groups(rows)[0] if rows else []


def _total(row: Row) -> str:
    """Seconds, with two decimals or three digits."""
    return f"{row['total_s']:,.2f}" if row["total_s"] >= 1 else charts.number(row["total_s"])


def _place(names: Sequence[str], row: Row) -> int | None:
    """The index of the article's row of the same name."""
    return next((index for index, name in enumerate(names) if name in (row["label"].lower(), row["target"].lower())),
                None)


def _with_operations(result: StudyResult, head: Sequence[str], theirs: Sequence[Sequence[str]]) -> Grid:
    """The article's table, and beside its rows about operations the counts of the variants here."""
    variants = result["variants"][:BESIDE]
    counts = [op_counts.counts(variants, row[0]) for row in theirs]
    if not any(counts):
        return Grid(head, theirs)
    return Grid([*head, *(f"here: {each['name']}" for each in variants)],
                [[*row, *([f"{each:,}" for each in own] or [""] * len(variants))]
                 for row, own in zip(theirs, counts, strict=True)])


def _here(row: Row, rate: bool) -> list[str]:
    return [charts.number(row["examples_per_s"]) if rate else _total(row), short(row["mean_ms"]),
            "1" if row["ratio"] is None else ratio(row["ratio"], row["ci95"])]
