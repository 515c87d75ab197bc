"""The report of a split: each part of a request, REST beside gRPC."""
from html import escape
from typing import Any

from benchmark.reports import charts
from benchmark.reports.page import environment_table, figure, page, subtitle, table
from benchmark.reports.tables import short, split_rows, split_words
from benchmark.verdicts.scenario import protocol_name

PARTS = {
    "serialise": "client: arrays to bytes",
    "wire": "sockets, HTTP or gRPC, threads: what the server's own clock does not see",
    "parse": "server: bytes to arrays",
    "queue": "server: waiting for a thread (REST) and for a batch",
    "around": "server: parse the request, queue, render the answer",
    "run": "server: Session.run",
    "render": "server: arrays to bytes",
    "decode": "client: bytes to arrays",
}


def html(result: dict[str, Any]) -> str:
    """A chart per batch size: for every part a bar per protocol."""
    splits = result["splits"]
    charts_made = []
    for batch in dict.fromkeys(each["batch"] for each in splits):
        own = [each for each in splits if each["batch"] == batch]
        bars = [charts.Bar(part, protocol_name(each["protocol"]), value, value, value, index)
                for part in own[0]["milliseconds"] for index, each in enumerate(own)
                for value in [each["milliseconds"][part]]]
        totals = ", ".join(f"{protocol_name(each['protocol'])} {short(sum(each['milliseconds'].values()))} ms"
                           for each in own)
        charts_made.append(figure(f"Batch {batch}: {totals}", charts.bars(bars, "ms")))
    head, rows = split_rows(result)
    words = "".join(f"<li><b>{name}</b>: {text}</li>" for name, text in PARTS.items() if name in head)
    parts = [f'<p>{escape(split_words(result))}</p><div class="charts">{"".join(charts_made)}</div><ul>{words}</ul>',
             "<h2>Figures, in ms</h2>", table(head, rows, 1), "<h2>Conditions</h2>", environment_table(result)]
    return page(f"Where the time of a request to {result['target']} goes", subtitle(result), parts, result)
