"""The report of `split`: each part of a request's time, REST beside gRPC."""
from html import escape
from typing import NotRequired

from rich.markup import escape as escape_markup
from rich.table import Table

from benchmark.reports import charts, terminal
from benchmark.reports.figures import short
from benchmark.reports.head import Head
from benchmark.reports.page import figure, figures, result_page, table
from benchmark.verdicts.records import Parts
from benchmark.verdicts.scenario import protocol_name

PARTS = {
    "serialise": "client: arrays to bytes",
    "wire": "sockets, HTTP or gRPC, threads: all that the server does not time",
    "parse": "server: bytes to arrays",
    "queue": "server: waiting for a thread (REST) and for a batch",
    "around": "server: parse the request, queue, render the answer",
    "run": "server: Session.run",
    "render": "server: arrays to bytes",
    "decode": "client: bytes to arrays",
}


class Split(Parts):
    """The parts of requests over one protocol at one batch size."""

    protocol: str
    batch: int


class SplitResult(Head):
    """The result of `split`."""

    target: str
    requests: NotRequired[int]
    splits: list[Split]


NEEDED = SplitResult.__required_keys__


def tables(result: SplitResult) -> list[Table]:
    """Where the time of a request goes."""
    made = terminal.compact(f"{result['target']}: milliseconds of a request")
    head, rows = parts_of(result)
    for title in head:
        made.add_column(title, justify="right" if title else "left", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return [made]


def lines(result: SplitResult) -> list[str]:
    return [escape_markup(method(result))]


def parts_of(result: SplitResult) -> tuple[list[str], list[list[str]]]:
    """(head, rows): the parts of each protocol and batch, and their total."""
    names = list(result["splits"][0]["milliseconds"])
    return ["", *names, "total"], [
        [f"{protocol_name(each['protocol'])} {each['batch']}", *(short(each["milliseconds"][name]) for name in names),
         short(sum(each["milliseconds"].values()))] for each in result["splits"]]


def method(result: SplitResult) -> str:
    """Over which requests the parts are means, and whether the server's metrics or its answers reported them."""
    if result["splits"][0]["by"] == "metrics":
        return (f"{result['target']} does not report the timing of single requests. These are means over all requests; "
                "the server's come from its metrics, which do not separate parsing, waiting and rendering.")
    return ("As the server reports for each request (server-timing); REST and gRPC were measured alternately. Means of "
            "the middle half of the requests by total time, so that the parts add up.")


def html(result: SplitResult) -> str:
    """A chart for each batch size, with a bar for every part and protocol."""
    made = []
    for batch in dict.fromkeys(each["batch"] for each in result["splits"]):
        own = [each for each in result["splits"] if each["batch"] == batch]
        bars = [charts.Bar(part, protocol_name(each["protocol"]), each["milliseconds"][part], None, index, "k")
                for part in own[0]["milliseconds"] for index, each in enumerate(own)]
        totals = ", ".join(f"{protocol_name(each['protocol'])} {short(sum(each['milliseconds'].values()))} ms"
                           for each in own)
        made.append(figure(f"Batch {batch}: {totals}", charts.bars(bars, "ms")))
    head, rows = parts_of(result)
    meanings = "".join(f"<li><b>{name}</b>: {text}</li>" for name, text in PARTS.items() if name in head)
    parts = [f'<p>{escape(method(result))}</p>', figures(made), f"<ul>{meanings}</ul>",
             "<h2>Figures, in ms</h2>", table(head, rows, 1)]
    return result_page(f"Where the time of a request to {result['target']} goes", parts, result)
