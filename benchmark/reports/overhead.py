"""The report of an overhead: the goals, then every part's targets side by side."""
from typing import Any

from benchmark.reports import charts, tables
from benchmark.reports.page import environment_table, figure, from_rich, page, subtitle
from benchmark.verdicts.comparison import Block, latencies
from benchmark.verdicts.scenario import protocol_name
from benchmark.verdicts.statistics import bootstrap_value

TITLES = {"loop": "The server beside a bare Session.run loop",
          "empty": "A trivial model beside handlers that do nothing",
          "instead": "The server beside what people write instead"}


def html(result: dict[str, Any]) -> str:
    parts = ["".join(map(from_rich, tables.overhead_tables(result))),
             f"<ul>{''.join(f'<li>{line}</li>' for line in tables.overhead_lines(result))}</ul>"]
    for name, made in result["parts"].items():
        parts += [f"<h2>{TITLES[name]}</h2>", f'<div class="charts">{_charts(made)}</div>',
                  "".join(map(from_rich, tables.comparison_table(made | {"model": result["model"]})))]
    parts += ["<h2>Conditions</h2>", environment_table(result)]
    return page(f"What serving {result['target']} costs beside Session.run", subtitle(result), parts, result)


def _charts(made: dict[str, Any]) -> str:
    """Mean time of every target, a figure for each protocol and batch size."""
    blocks = [Block.from_json(block) for block in made["blocks"]]
    figures = []
    for protocol, batch in dict.fromkeys((block.protocol, block.batch) for block in blocks):
        own = [block for block in blocks if (block.protocol, block.batch) == (protocol, batch)]
        bars = []
        for index, target in enumerate(dict.fromkeys(block.target for block in own)):
            rounds = [latencies([block]) for block in own if block.target == target]
            mean, low, high = (value * 1e3 for value in bootstrap_value(rounds))
            bars.append(charts.Bar(f"{protocol_name(protocol)}, batch {batch}", target, mean, low, high, index))
        figures.append(figure(f"{protocol_name(protocol)}, batch {batch}: mean time", charts.bars(bars, "ms")))
    return "".join(figures)
