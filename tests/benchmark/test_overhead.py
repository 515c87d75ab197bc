"""The overhead command: verdicts on its goals, its report, and the command on real servers with few requests."""
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tiny_saved_model import write_tiny_saved_model

from benchmark import overhead
from benchmark.issuing.plan import Plan
from benchmark.issuing.rounds import Outcome
from benchmark.overhead import Goal, findings, verdict
from benchmark.reports import overhead as overhead_report
from benchmark.reports.compare import compared
from benchmark.targets import baselines
from benchmark.verdicts.block import Block
from serving.client.saved_model import metadata_of
from user_error import FailedError, UserError


@pytest.mark.parametrize(("low", "high", "goal", "found"), [
    (1.01, 1.04, Goal(most=1.05), "met"), (1.01, 1.06, Goal(most=1.05), "cannot tell"),
    (1.06, 1.07, Goal(most=1.05), "missed"), (0.61, 0.7, Goal(least=0.6), "met"),
    (0.5, 0.59, Goal(least=0.6), "missed"),
    (0.59, 0.61, Goal(least=0.6), "cannot tell"), (None, None, Goal(least=0.6), "cannot tell")])
def test_a_goal_is_judged_by_the_whole_interval(low: float | None, high: float | None, goal: Goal,
                                                found: str) -> None:
    assert verdict(low, high, goal) == found


def _made(baseline_s: float, candidate_s: float) -> dict[str, Any]:
    blocks = [Block(target, replica, "grpc", 1, round_, (seconds * (1 + 0.01 * round_),) * 4, seconds * 4.4)
              for round_ in range(8) for replica in (0, 1)
              for target, seconds in (("a", baseline_s), ("b", candidate_s))]
    return {**compared(["a", "b"], blocks), "metric": "mean", "inputs": "", "answers": {}, "measured_by": {}}


def test_findings_are_candidate_over_baseline_with_rates() -> None:
    (row,) = findings("empty", _made(0.002, 0.0015), {("grpc", 1): Goal(least=0.6, rate=400)})
    assert row["times"] == pytest.approx(0.75)
    assert row["ci95"][0] <= row["times"] <= row["ci95"][1]
    assert row["verdict"] == "met"
    assert row["baseline_per_s"] == pytest.approx(1 / 0.0022)
    (row,) = findings("loop", _made(0.001, 0.0015), {("grpc", 1): Goal(most=1.25)})
    assert row["verdict"] == "missed"


def test_tables_and_page_show_the_findings() -> None:
    parts = {"loop": _made(0.01, 0.0103), "empty": _made(0.002, 0.0015)}
    goals = {("grpc", 1): Goal(most=1.05, rate=400)}
    result = {"kind": "overhead", "model": "m", "target": "original", "inputs": "random", "parts": parts,
              "notes": ["no x"],
              "environment": {"cpu": "c", "cpu_quota": 2, "time": "now"},
              "findings": [row for name, made in parts.items() for row in findings(name, made, goals)]}
    assert [table.row_count for table in overhead_report.tables(result)] == [1, 1]
    lines = overhead_report.lines(result)
    assert lines[0] == "gRPC batch 1: 0.310 ms outside Session.run"
    assert lines[1].startswith("gRPC batch 1: 455 requests/s (goal: 400)")
    assert lines[-1] == "no x"
    html = overhead_report.html(result)
    assert "≤ 1.05" in html
    assert html.count('"latencies"') == sum(len(made["blocks"]) for made in parts.values())  # not in the readable JSON


def test_the_trivial_model_returns_its_input(tmp_path: Path) -> None:
    signature = metadata_of(baselines.trivial(tmp_path) / "1").signature("")
    assert signature.inputs["x"] == signature.outputs["x"]


@pytest.mark.proof  # half a minute; the parts are tested by themselves
def test_the_command_measures_all_parts(tmp_path: Path) -> None:
    write_tiny_saved_model(tmp_path / "tiny/original/1")
    done = subprocess.run(
        [sys.executable, "-m", "benchmark", "overhead", "--model", "tiny", "--models", str(tmp_path), "--repeat", "8",
         "--processes", "1", "--json", "-", "--html", str(tmp_path / "overhead.html")],
        capture_output=True, text=True, timeout=500, env={**os.environ, "PATH": ""})
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [(row["part"], row["protocol"], row["batch"], row["candidate"]) for row in result["findings"]] == [
        ("loop", "grpc", 100, "original"), ("loop", "rest", 100, "original"),
        ("empty", "grpc", 1, "empty handler"), ("empty", "rest", 1, "empty handler"),
        ("instead", "rest", 1, "FastAPI + model.predict"), ("instead", "rest", 1, "FastAPI + tf.function"),
        ("instead", "rest", 100, "FastAPI + model.predict"), ("instead", "rest", 100, "FastAPI + tf.function")]
    assert result["notes"] == ["tensorflow_model_server is not on PATH, and so not in the table"]
    assert all(row["times"] > 0 for row in result["findings"])


def test_parts_that_were_measured_are_kept_when_a_later_one_fails(tmp_path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_saved_model(tmp_path / "tiny/original/1")

    def measured(plan: Plan) -> Outcome:
        if plan.targets[0].name == "trivial model":
            raise FailedError("the server of trivial model died")
        return Outcome(plan, "random", blocks=[
            Block(target.name, replica, protocol, 100, round_, (0.01,) * 4, 0.04) for protocol in plan.protocols
            for target in plan.targets for replica in (0, 1) for round_ in range(4)])
    monkeypatch.setattr(overhead, "measure", measured)
    done = CliRunner().invoke(overhead.command, ["--model", "tiny", "--models", str(tmp_path), "--part", "loop,empty",
                                                 "--json", str(tmp_path / "o.json")])
    assert isinstance(done.exception, UserError)
    assert set(json.loads((tmp_path / "o.json").read_text())["parts"]) == {"loop"}


def test_what_cannot_be_measured_is_a_one_line_error(tmp_path: Path) -> None:
    write_tiny_saved_model(tmp_path / "tiny/original/1")
    done = subprocess.run([sys.executable, "-m", "benchmark", "overhead", "session:original", "--model", "tiny",
                           "--models", str(tmp_path)], capture_output=True, text=True, timeout=150)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "name a variant" in done.stderr
