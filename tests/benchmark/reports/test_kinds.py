"""Each kind of result is a module with the same four names; a new kind needs one file and one line in the list."""
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import cast

import pytest
from click.testing import CliRunner
from rich.table import Table

from benchmark import report
from benchmark.reports import kinds
from benchmark.reports.head import Head, head
from benchmark.reports.kinds import KINDS, Kind
from benchmark.reports.page import result_page
from benchmark.targets.target import Target

ROOT = Path(__file__).resolve().parents[3]
SHARED = {"__init__", "kinds", "stored", "several", "head", "environment", "page", "terminal", "figures", "charts",
          "card", "latencies", "flame", "undecided", "way", "picture", "op_counts", "study_result", "study_tables",
          "study_page", "history", "in_short"}


class TemperatureResult(Head):
    """A made-up kind of result."""

    celsius: float


def _temperature() -> Kind:
    """The module of a made-up kind of result."""
    def tables(result: TemperatureResult) -> list[Table]:
        table = Table("°C")
        table.add_row(f"{result['celsius']:g}")
        return [table]

    def lines(result: TemperatureResult) -> list[str]:
        return ["[bold]It is warm[/]"]

    def html(result: TemperatureResult) -> str:
        return result_page("Temperature", [f"<p>{result['celsius']:g} °C</p>"], result)

    module = ModuleType("benchmark.reports.temperature")
    module.__dict__.update(NEEDED=TemperatureResult.__required_keys__, tables=tables, lines=lines, html=html)
    return cast(Kind, module)


def test_a_new_kind_needs_one_module_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kinds.KINDS, "temperature", _temperature())
    result: TemperatureResult = {**head("temperature", [Target("original", "mnist", "address")], 0), "celsius": 21.5}
    result["inputs"] = "none"
    report.deliver(result, str(tmp_path / "now.html"), str(tmp_path / "t.json"))
    done = CliRunner().invoke(report.command, [str(tmp_path / "t.json"), "--html", str(tmp_path / "later.html"),
                                               "--markdown", str(tmp_path / "t.md")])
    assert done.exception is None
    assert "21.5" in done.stdout
    assert "It is warm" in done.stdout
    assert "| °C |" in (tmp_path / "t.md").read_text()
    page = (tmp_path / "later.html").read_text()
    assert page == (tmp_path / "now.html").read_text()
    assert "<p>21.5 °C</p>" in page
    (tmp_path / "t.json").write_text(json.dumps({**result, "kind": "humidity"}))
    assert CliRunner().invoke(report.command, [str(tmp_path / "t.json")]).exception is not None


def test_the_list_has_every_kind_in_the_folder() -> None:
    there = {path.stem for path in (ROOT / "benchmark/reports").glob("*.py")} - SHARED
    assert there == set(KINDS)


def test_every_kind_has_a_row_in_the_docs() -> None:
    text = (ROOT / "docs/benchmarking.md").read_text()
    documented = re.findall(r"^\| `(\w+)` \| .*`(\w+)\.py` \|", text, re.MULTILINE)
    assert documented == [(kind, kind) for kind in KINDS]


def test_mypy_reports_a_misspelt_key_of_any_result(tmp_path: Path) -> None:
    """Checks a module that reads, from each kind of result, a key that exists and a misspelt key."""
    imports, functions = [], []
    for kind in KINDS:
        name = f"{kind.title()}Result"
        imports.append(f"from benchmark.reports.{kind} import {name}")
        functions.append(f"def {kind}(result: {name}) -> object:\n    return result['environment']['time'], "
                         "result['enviroment']\n")
    (tmp_path / "snippet.py").write_text("\n".join([*imports, *functions]))
    done = subprocess.run([sys.executable, "-m", "mypy", "--cache-dir", str(ROOT / ".mypy_cache"),
                           str(tmp_path / "snippet.py")], cwd=ROOT, capture_output=True, text=True, timeout=170)
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(errors) == len(KINDS), done.stdout
    for kind, error in zip(KINDS, errors, strict=True):
        assert f'TypedDict "{kind.title()}Result" has no key "enviroment"' in error
