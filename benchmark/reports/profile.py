"""The report of `profile`: flame graphs, time by operation for each target, CPU instructions."""
from collections.abc import Sequence
from html import escape
from typing import Any, NotRequired, TypedDict

from rich.markup import escape as escape_markup
from rich.table import Table

from benchmark.reports import charts, terminal
from benchmark.reports.head import Head
from benchmark.reports.page import figure, figures, result_page, table
from benchmark.verdicts.records import Instructions, Operation


class Sampled(TypedDict):
    """The file with the server's stacks, the functions in which most samples ended, and the flame graph (SVG)."""

    target: str
    stacks: NotRequired[str]
    hottest: NotRequired[list[tuple[str, int]]]
    flame: str


class Profile(Sampled):
    """The profile of one target."""

    operations: list[Operation]


class ProfileResult(Head):
    """The result of `profile`."""

    batch: int
    profiles: list[Profile]
    instructions: Instructions


NEEDED = ProfileResult.__required_keys__


def tables(result: ProfileResult) -> list[Table]:
    """Time by operation, slowest first."""
    columns = ["operation"]
    for profile in result["profiles"]:
        columns += [f"{profile['target']} ms", "runs"]
    made = terminal.ruled(f"time by operation, batch {result['batch']}", columns, ("operation",))
    for row in operation_rows([each["operations"] for each in result["profiles"]]):
        made.add_row(*map(escape_markup, row))
    return [made]


def lines(result: ProfileResult) -> list[str]:
    return [escape_markup(instruction_line(result["instructions"]))]


def operation_rows(profiles: Sequence[Sequence[Operation]], most: int = 12) -> list[tuple[str, ...]]:
    """(op, ms and runs of each profile), ordered by the longest time in any profile."""
    found = [{op["op"]: op for op in operations} for operations in profiles]
    slowest = sorted({name for ops in found for name in ops},
                     key=lambda name: -max(ops[name]["us"] for ops in found if name in ops))
    return [(name, *(cell for ops in found for cell in (
        (f"{ops[name]['us'] / 1e3:.3f}", f"{ops[name]['count']:g}") if name in ops else ("", ""))))
        for name in slowest[:most]]


def instruction_line(found: Instructions) -> str:
    unused = ", ".join(found["not_in_tensorflow_build"]) or "none of them"
    return (f"The CPU has {', '.join(found['cpu'])}; TensorFlow's general code was built without "
            f"{unused}; oneDNN's kernels use {found['onednn'] or 'nothing (it is off)'}")


def html(result: ProfileResult) -> str:
    profiles = result["profiles"]
    names = [profile["target"] for profile in profiles]
    parts = ["<h2>Time by operation</h2>", '<p class="soft">As Session.run executed them, after TensorFlow\'s graph '
             f"optimizations; targets were traced alternately. Median of the traced runs at batch {result['batch']}, "
             "summed over threads.</p>",
             figures(figure(f"Operations of {profile['target']}", charts.donut(
                 [(op["op"], op["us"] / 1e3) for op in profile["operations"]], "ms")) for profile in profiles),
             table(("operation", *(f"{name}: {what}" for name in names for what in ("ms", "runs"))),
                   operation_rows([each["operations"] for each in profiles])),
             "<h2>CPU instructions</h2>", f"<p>{escape(instruction_line(result['instructions']))}</p>"]
    for profile in profiles:
        parts += [f"<h2>Flame graph of {escape(profile['target'])}</h2>",
                  '<p class="soft">Python\'s threads, sampled under load; each function is drawn below its caller. '
                  "Waiting for work, the start and imports are left out. Below Session.run are the operations as "
                  "TensorFlow traced them, by scope; their widths are shares of the time of all its threads. "
                  "Blue is Python, orange is TensorFlow.</p>",
                  f'<figure class="scroll">{profile["flame"]}</figure>']
    shown: dict[str, Any] = {**result, "profiles": [{**each, "flame": "drawn above"} for each in profiles]}
    return result_page(f"Where the time goes: {', '.join(names)}", parts, result, shown)
