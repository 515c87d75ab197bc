"""run, sweep, search and report against null servers: real sockets, and a known time for each request."""
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmark import report, side_by_side
from benchmark.__main__ import COMMANDS
from benchmark.issuing import bracketing
from benchmark.verdicts.scenario import parse_percentile_slo
from commandline import status_of
from user_error import UserError

pytestmark = pytest.mark.slow


def _benchmark(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "benchmark", *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def _refusal(name: str, *arguments: str) -> str:
    """The error with which the command refuses. It runs in this process: starting Python sixteen times is slow."""
    done = CliRunner().invoke(COMMANDS, [name, *arguments])
    assert isinstance(done.exception, UserError)
    assert status_of(done.exception) == 2
    return str(done.exception)


def test_run_writes_its_result_and_page(null_server: Callable[..., Any], tmp_path: Path) -> None:
    server, out, html = null_server(work_ms=2), tmp_path / "r.json", tmp_path / "r.html"
    rules = tmp_path / "mine.toml"
    rules.write_text('name = "mine"\nprotocol = "rest"\npercentile = 50\nwarmup_s = 0.2\nmeasure_s = 0.8\nrepeats = 2\n'
                     'arrivals = {kind = "poisson", rate_per_s = 60, seed = 3}\n'
                     'validity = {max_rate_error = 0.9, max_late_ms = 10000, max_generator_cpu = 9}\n')
    done = _benchmark("run", str(rules), "--url", server.rest, "--model", "null", "--json", str(out), "--html",
                      str(html))
    result = json.loads(out.read_text())
    assert result["scenario"]["arrivals"] == {"kind": "poisson", "rate_per_s": 60, "seed": 3}
    assert len(result["runs"]) == 2
    for run in result["runs"]:
        assert run["valid"], run["reasons"]
        assert run["requests"] == run["scheduled"]
        assert run["latency_ms"]["p50"] >= 2
        assert run["headroom"] > 1
    assert "VALID" in done.stdout
    assert "from the intended start" in html.read_text()
    shown = _benchmark("report", str(out))
    assert "mine" in shown.stdout


def test_an_invalid_run_prints_its_reasons_and_exits_1(null_server: Callable[..., Any]) -> None:
    done = _benchmark("run", "single-stream", "--grpc", null_server(work_ms=20).grpc, "--model", "null",
                      "--warmup-seconds", "0.1", "--seconds", "0.5", "--slo", "p99=1ms", status=1)
    assert "p99 needs 662 samples" in done.stdout
    assert "SLO" in done.stdout
    assert "missed" in done.stdout


@pytest.mark.parametrize(("slo", "status"), [("p50=1ms", 1), ("p50=1000ms", 0)])
def test_a_missed_slo_is_exit_status_1(slo: str, status: int, null_server: Callable[..., Any],
                                       tmp_path: Path) -> None:
    """The run is VALID in both cases: only the SLO decides the exit status."""
    rules = tmp_path / "mine.toml"
    rules.write_text('protocol = "grpc"\npercentile = 50\nwarmup_s = 0.1\nmeasure_s = 0.8\n'
                     'validity = {max_generator_cpu = 9}\n')
    done = _benchmark("run", str(rules), "--grpc", null_server(work_ms=5).grpc, "--model", "null", "--slo", slo,
                      "--json", "-", status=status)
    (run,) = json.loads(done.stdout)["runs"]
    assert run["valid"], run["reasons"]
    assert run["slo_met"] is (status == 0)


def test_a_sweep_finds_the_knee_of_a_server_with_one_thread(null_server: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "s.json"
    _benchmark("sweep", "--url", null_server(work_ms=8).rest, "--model", "null", "--protocol", "rest", "--clients",
               "1,6", "--seconds", "0.7", "--json", str(out), "--html", str(tmp_path / "s.html"))
    curve = json.loads(out.read_text())["curves"][0]
    assert curve["knee"]["offered"] == 1
    assert curve["points"][1]["latency_ms"] > 3 * curve["points"][0]["latency_ms"]
    assert "knee at" in (tmp_path / "s.html").read_text()


def test_a_search_stays_below_the_capacity_of_the_server(null_server: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "s.json"
    _benchmark("search", "--url", null_server(work_ms=12).rest, "--model", "null", "--protocol", "rest", "--slo",
               "p50=60ms", "--start", "50", "--tolerance", "1", "--json", str(out), "--html",
               str(tmp_path / "s.html"))
    found = json.loads(out.read_text())["searches"][0]
    assert found["missed"] is not None
    assert (found["met"] or 0) < 1000 / 12
    assert {probe["decision"] for probe in found["probes"]} <= {"met", "missed", "undecided"}


def test_a_search_that_needs_more_time_fails_and_says_how_much(null_server: Callable[..., Any]) -> None:
    done = _benchmark("search", "--url", null_server().rest, "--model", "null", "--protocol", "rest", "--slo",
                      "p99.9=60ms", "--start", "5", status=2)
    assert done.stderr.startswith("error: at 5 requests/s p99.9 takes 620 s to measure: allow it with --seconds 620")


@pytest.mark.parametrize(("slo", "most_s", "rate"), [("p50=5ms", 30, 10), ("p99=50ms", 30, 11), ("p99.9=50ms", 30, 104),
                                                     ("p99=50ms", 60, 10)])
def test_the_first_rate_can_be_measured_in_the_time_allowed(slo: str, most_s: float, rate: float) -> None:
    objective = parse_percentile_slo(slo)
    assert objective is not None
    assert bracketing.first_rate(objective, most_s) == rate
    bracketing.refuse_too_long(rate, objective, most_s)


def test_a_search_ends_at_the_lowest_rate_that_can_be_measured(null_server: Callable[..., Any],
                                                              tmp_path: Path) -> None:
    _benchmark("search", "--url", null_server(work_ms=12).rest, "--model", "null", "--protocol", "rest", "--slo",
               "p90=1ms", "--seconds", "4", "--json", str(tmp_path / "s.json"))
    found = json.loads((tmp_path / "s.json").read_text())["searches"][0]
    assert found["met"] is None
    assert found["missed"] == pytest.approx(3.1 / 0.1 / 4)
    assert [probe["rate_per_s"] for probe in found["probes"]] == [10, found["missed"]]


@pytest.mark.parametrize(("text", "words"), [
    ('arrivals = {kind = "poisson"}', "rate_per_s"), ('arrivals = {kind = "often"}', "arrivals.kind is 'often'"),
    ('protocol = "smtp"', "choose rest or grpc"), ("bach = 3", "no key 'bach'"), ('batch = "3"', "batch is a number"),
    ("batch = 0", "above 0"), ("slo = 3", "slo is a table of percentile, latency_ms"), ("= 3", "is not TOML"),
    ("percentile = 100", "between 0 and 100")])
def test_a_wrong_scenario_file_names_the_mistake(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text)
    refusal = _refusal("run", str(path))
    assert str(path) in refusal
    assert words in refusal


@pytest.mark.parametrize(("arguments", "words"), [
    (["run", "nothing"], "no scenario 'nothing'"), (["run", "server", "--clients", "3"], "is an open loop"),
    (["run", "closed", "--rate", "3"], "has no rate"), (["run", "server", "--slo", "fast"], "'fast' is no objective"),
    (["search", "--slo", "mean=5ms"], "this command needs a percentile"),
    (["sweep", "--clients", "1", "--rates", "1"], "not both"), (["split", "session:original"], "no model")])
def test_what_cannot_run_is_a_one_line_error(arguments: list[str], words: str, tmp_path: Path) -> None:
    assert words in _refusal(*arguments, "--models", str(tmp_path))


def test_scenarios_are_listed() -> None:
    assert {"single-stream", "offline", "server"} <= {each["name"] for each in json.loads(
        _benchmark("scenarios", "--json", "-").stdout)}


@pytest.mark.parametrize("text", ["[1, 2]", "", '{"some": "thing"}', '{"format": 1}', '{"format": 1, "kind": "what"}',
                                  '{"format": 1, "kind": "compare"}'])
def test_a_file_that_is_not_a_result_is_a_one_line_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    done = CliRunner().invoke(report.command, [str(path)])
    assert isinstance(done.exception, UserError)
    assert "is not a result of 'python -m benchmark'" in str(done.exception)


def test_a_path_that_cannot_be_written_is_refused_before_measuring(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for bad in (tmp_path, tmp_path / "file" / "r.html"):
        done = CliRunner().invoke(side_by_side.command, ["original", "optimized", "--html", str(bad)])
        assert isinstance(done.exception, UserError)
        assert f"cannot write {bad}" in str(done.exception)
