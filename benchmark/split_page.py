"""The report of a split: a bar for each part of a request."""
from typing import Any

from benchmark import charts
from benchmark.page import environment_table, figure, page, subtitle, table
from benchmark.tables import protocol_name, short

PARTS = {
    "serialise": "client: arrays to bytes",
    "wire": "sockets, HTTP or gRPC, threads: what the server's own clock does not see",
    "around": "server: parse the request, queue, render the answer",
    "run": "server: Session.run",
    "decode": "client: bytes to arrays",
}


def html(result: dict[str, Any]) -> str:
    """A bar per part, protocol and batch."""
    bars, rows = [], []
    for each in result["splits"]:
        name, total = protocol_name(each["protocol"]), short(_total(each))
        bars += [charts.Bar(f"{name}, batch {each['batch']}: {total} ms", part, value, value, value, index)
                 for index, (part, value) in enumerate(each["milliseconds"].items())]
        rows.append((name, each["batch"], *map(short, each["milliseconds"].values()), total))
    words = "".join(f"<li><b>{name}</b>: {text}</li>" for name, text in PARTS.items())
    parts = [f'<div class="charts">{figure("Mean time of each part", charts.bars(bars, "ms"))}</div><ul>{words}</ul>',
             "<h2>Figures</h2>", table(("protocol", "batch", *PARTS, "total ms"), rows, 1),
             "<h2>Conditions</h2>", environment_table(result)]
    return page(f"Where the time of a request to {result['target']} goes", subtitle(result), parts, result)


def _total(each: dict[str, Any]) -> float:
    return float(sum(each["milliseconds"].values()))
