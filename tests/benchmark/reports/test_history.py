"""A folder of results over time: courses by machine, changes with what was new, and what is left out."""
import json
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result
from simulated_latency import simulated_blocks

from benchmark import report
from benchmark.reports import stored
from benchmark.reports.compare import CompareResult, compared
from benchmark.reports.head import head
from benchmark.reports.history import read
from benchmark.targets.target import Target
from benchmark.verdicts.comparison import RULES
from user_error import UserError

NAMES = ["original", "optimized"]
TARGETS = [Target(name, "mnist", "address") for name in NAMES]
NEW = "2" * 12


def made(run: int, gain: float = 1.5, **conditions: Any) -> CompareResult:
    """A result of run number `run`, one a day."""
    result = {**head("compare", TARGETS, 0, "images"), "signature": "serving_default", "repeat": 200, "warmup": 10,
              "processes": 2, "measured_by": {"grpc": "a client"}, "targets": {}, "first_wrong": None, "answers": {},
              "ended": {}, "accuracy": {},
              **compared(NAMES, simulated_blocks({"original": 0.01, "optimized": 0.01 / gain}, seed=run,
                                                 protocol="grpc"), RULES, 0)}
    result["environment"] |= {"time": f"2026-01-{run + 1:02}T00:00:00+00:00", "revision": "1" * 12} | conditions
    return cast(CompareResult, result)


def reported(*arguments: object) -> Result:
    return CliRunner().invoke(report.command, list(map(str, arguments)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six runs, then six that are slower, with a new commit."""
    made_here = tmp_path_factory.mktemp("results")
    for run in range(12):
        stored.keep(made_here, made(run) if run < 6 else made(run, 1.2, revision=NEW))
    return made_here


def test_a_change_is_told_with_its_run_and_what_was_new(folder: Path) -> None:
    course, = read(folder).courses
    change, = course.changes
    assert [point.time[:10] for point in course.points] == [f"2026-01-{day:02}" for day in range(1, 13)]
    assert (change.time[:10], change.with_it) == ("2026-01-07", ("commit",))
    assert (change.before, change.since) == (pytest.approx(1.5, abs=0.03), pytest.approx(1.2, abs=0.03))
    done = reported(folder)
    assert done.exit_code == 0
    assert "mnist, gRPC batch 100: original over optimized: since 2026-01-07 00:00 (" in done.output
    assert f"the candidate takes {change.before / change.since:.2f} times as long as before, beside the baseline: " in (
        done.output)
    assert "; new in that run: commit. On " in done.output


def test_the_page_the_markdown_and_the_json_have_the_course(folder: Path, tmp_path: Path) -> None:
    assert reported(folder, "--html", tmp_path / "h.html", "--markdown", tmp_path / "h.md", "--json",
                    tmp_path / "h.json").exit_code == 0
    page = (tmp_path / "h.html").read_text()
    assert page.count('class="whisker"') == 12
    assert page.count('class="limit"') == 1
    assert "blocks" not in page.split('id="result">')[1]
    assert "| mnist, gRPC batch 100: original over optimized | 12 |" in (tmp_path / "h.md").read_text()
    found = json.loads((tmp_path / "h.json").read_text())
    course, = found["courses"]
    assert (found["kind"], len(course["points"]), len(course["changes"])) == ("history", 12, 1)


def test_runs_of_another_machine_are_another_course(tmp_path: Path) -> None:
    for run in range(4):
        stored.keep(tmp_path, made(run, cpu=f"CPU {run % 2}"))
    stored.keep(tmp_path, made(4, cpu="CPU 1", cpu_quota=1.0))
    assert [len(course.points) for course in read(tmp_path).courses] == [2, 2, 1]
    said = reported(tmp_path).output
    assert "Runs of different machines are different courses" in said
    assert "Too few runs to look for a change: 3 are needed before it, and 3 after." in said


def test_what_is_no_valid_comparison_is_left_out_with_its_reason(tmp_path: Path) -> None:
    stored.keep(tmp_path, made(0))
    invalid = made(1)
    for each in invalid["comparisons"]:
        each["valid"], each["reasons"] = False, ["3 of 200 requests failed"]
    stored.keep(tmp_path, invalid)
    (tmp_path / "notes.json").write_text("{}")
    found = read(tmp_path)
    assert len(found.courses[0].points) == 1
    assert [line.split(": ", 1)[1] for line in sorted(found.left_out)] == [
        "gRPC batch 100 of optimized is INVALID: 3 of 200 requests failed",
        "not a result of 'python -m benchmark'"]


def test_a_folder_without_results_says_how_to_keep_one(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        read(tmp_path)
    assert str(refused.value) == (f"{tmp_path} has no result of 'compare': keep one with 'python -m benchmark compare "
                                  f"... --store {tmp_path}'")


def test_a_folder_is_reported_alone(folder: Path) -> None:
    assert "is a folder of results: report it alone" in str(reported(folder, folder).exception)
    assert "is a folder of results: report it alone" in str(reported(folder, "--card", folder / "a.svg").exception)


def test_two_runs_of_one_second_are_two_files(tmp_path: Path) -> None:
    first, second = made(0), made(1)
    second["environment"]["time"] = first["environment"]["time"]
    assert stored.keep(tmp_path / "new", first) != stored.keep(tmp_path / "new", second)
    assert {path.name[:22] for path in (tmp_path / "new").iterdir()} == {"20260101T000000Z-mnist"}


def test_a_folder_that_cannot_be_written_is_refused_before_measuring(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    stored.refuse_folder(tmp_path / "new" / "deeper")
    with pytest.raises(UserError, match=r"cannot keep results in .*file/new: .*file is not a folder"):
        stored.refuse_folder(tmp_path / "file" / "new")
