"""python -m benchmark scenarios: lists the scenarios that `run` knows by name."""
import click
from rich.console import Console
from rich.table import Table

from benchmark.verdicts import scenario
from commandline import json_option
from whole_file import write_json


@click.command("scenarios", epilog="""\b
Example:
  python -m benchmark scenarios
  python -m benchmark scenarios --json -
""")
@json_option
def command(json_path: str | None) -> None:
    """Lists the scenarios that `run` knows by name, with the question each one answers."""
    if json_path:
        write_json(json_path, [each.to_json() for each in scenario.CATALOGUE.values()])
        return
    table = Table(box=None, pad_edge=False)
    for title in ("name", "question", "arrivals", "seconds"):
        table.add_column(title)
    for each in scenario.CATALOGUE.values():
        arrivals = each.to_json()["arrivals"]
        settings = " ".join(f"{key}={value}" for key, value in arrivals.items() if key != "kind")
        table.add_row(each.name, each.question, f"{arrivals['kind']} {settings}", f"{each.measure_s:g}")
    Console().print(table)
