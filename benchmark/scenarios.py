"""python -m benchmark scenarios: the catalogue."""
import click
from rich.console import Console
from rich.table import Table

from benchmark.scenario import CATALOGUE
from commandline import json_option
from whole_file import write_json


@click.command(epilog="""\b
Example:
  python -m benchmark scenarios
  python -m benchmark scenarios --json -
""")
@json_option
def command(json_path: str | None) -> None:
    """Lists the scenarios that `run` knows by name, with the question each one answers."""
    if json_path:
        write_json(json_path, [scenario.to_json() for scenario in CATALOGUE.values()])
        return
    table = Table(box=None, pad_edge=False)
    for title in ("name", "question", "arrivals", "seconds"):
        table.add_column(title)
    for scenario in CATALOGUE.values():
        arrivals = scenario.to_json()["arrivals"]
        words = " ".join(f"{key}={value}" for key, value in arrivals.items() if key != "kind")
        table.add_row(scenario.name, scenario.question, f"{arrivals['kind']} {words}", f"{scenario.measure_s:g}")
    Console().print(table)
