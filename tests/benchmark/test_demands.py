"""compare in CI: --fail-if, --fail-if-not, --budget and --against on real servers and a real model."""
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import engine_versions
import pytest

from benchmark.reports import environment

pytestmark = pytest.mark.slow


def _compare(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "benchmark", "compare", *arguments], capture_output=True, text=True,
                          timeout=300)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def _errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith("error: ")]


@pytest.fixture(scope="module")
def addresses(null_server: Callable[..., Any]) -> Callable[[bool], list[str]]:
    def ordered(improves: bool) -> list[str]:
        servers = [null_server(work_ms=30), null_server(work_ms=1)]
        return [part for server in (servers if improves else servers[::-1]) for part in ("--url", server.rest)] + [
            "--model", "null", "--batch", "1"]
    return ordered


@pytest.mark.parametrize(("improves", "demand", "words"), [
    (False, ["--fail-if", "slower"], "--fail-if slower: REST batch 1: "),
    (False, ["--fail-if-not", "faster"], "--fail-if-not faster: REST batch 1: "),
    (False, ["--budget", "p50=15ms"], "--budget p50 <= 15 ms: REST batch 1: "),
    (True, ["--fail-if", "slower", "--fail-if-not", "faster", "--budget", "p50=15ms", "--budget", "mean=20ms"], "")])
def test_a_demand_that_is_not_met_is_exit_status_one_and_one_line(
        improves: bool, demand: list[str], words: str, addresses: Callable[[bool], list[str]], tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    done = _compare(*addresses(improves), "--repeat", "40", *demand, "--json", str(out))
    assert done.returncode == (1 if words else 0), done.stderr
    assert out.exists()  # the result is written even if a demand fails
    errors = _errors(done)
    assert len(errors) == bool(words)
    assert all(error.startswith(f"error: {words}") for error in errors)
    if "--fail-if" in demand and words:
        assert " is slower than " in errors[0]


def test_a_budget_that_needs_more_requests_is_refused_before_measuring(
        addresses: Callable[[bool], list[str]]) -> None:
    done = _compare(*addresses(True), "--repeat", "40", "--budget", "p99=50ms")
    assert done.returncode == 2
    assert done.stderr == ("error: --budget p99 <= 50 ms needs at least 662 requests, and --repeat is 40: "
                           "raise it or leave it out\n")


def test_an_invalid_budget_is_refused_with_an_example(addresses: Callable[[bool], list[str]]) -> None:
    done = _compare(*addresses(True), "--budget", "fast")
    assert done.returncode == 2
    assert "'fast' is no objective; write p99=50ms" in done.stderr


# By LiteRT, whose processes start without TensorFlow.
MEASURE = ["session:original@litert", "session:twin@litert", "--model", "tiny", "--batch", "3", "--repeat", "40",
           "--processes", "1"]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with models/ and a stored comparison of them, and that result."""
    folder = tmp_path_factory.mktemp("against")
    for variant in ("original", "twin"):
        engine_versions.litert(folder / "models/tiny" / variant / "1")
    done = _compare(*MEASURE, "--models", str(folder / "models"), "--json", str(folder / "stored.json"))
    assert done.returncode == 0, done.stderr
    return folder, json.loads((folder / "stored.json").read_text())


def test_what_the_processes_used_is_in_the_result_and_in_its_report(stored: tuple[Path, dict[str, Any]]) -> None:
    folder, result = stored
    used = result["used"]["in-process batch 3"]
    assert set(used) == {"session:original@litert", "session:twin@litert"}
    assert all(each["requests"] >= 40 and each["cpu_ms"] > 0 for each in used.values())
    assert (used["session:twin@litert"]["instructions"] is None) == bool(result["not_counted"])
    report = subprocess.run([sys.executable, "-m", "benchmark", "report", str(folder / "stored.json")],
                            capture_output=True, text=True, timeout=100)
    assert "in-process batch 3, CPU time of the server's process per request: session:original@litert" in report.stdout


def _against(folder: Path, tmp_path: Path, result: Any, *more: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "then.json").write_text(json.dumps(result))
    return _compare(*MEASURE, "--models", str(folder / "models"), "--against", str(tmp_path / "then.json"), *more)


@pytest.mark.parametrize(("factor", "status", "verdict"), [
    (40.0, 1, "slower"), (1 / 40, 0, "faster")])
def test_a_candidate_is_compared_with_its_stored_ratio(factor: float, status: int, verdict: str, tmp_path: Path,
                                                       stored: tuple[Path, dict[str, Any]]) -> None:
    folder, result = stored
    result = json.loads(json.dumps(result))
    for each in result["comparisons"]:  # as if the candidate had been `factor` times as fast as the baseline
        each.update(ratio=factor, ci95=[factor / 1.05, factor * 1.05], valid=True, reasons=[], floor=0.02)
    done = _against(folder, tmp_path, result, "--fail-if", "slower", "--json", str(tmp_path / "now.json"))
    now = json.loads((tmp_path / "now.json").read_text())
    (found,) = now["against"]
    if found["valid"]:  # on a busy machine this run may be INVALID; then the demand fails with that reason
        assert found["verdict"] == verdict
        assert done.returncode == status, done.stderr
        assert f"session:twin@litert is {verdict} than its stored result" in (done.stderr if status else done.stdout)
    else:
        assert done.returncode == 1
        assert "INVALID" in done.stderr
    report = subprocess.run([sys.executable, "-m", "benchmark", "report", str(tmp_path / "now.json")],
                            capture_output=True, text=True, timeout=100)
    assert "its stored result" in report.stdout


def _changed(result: dict[str, Any], **environment: Any) -> dict[str, Any]:
    return {**result, "environment": {**result["environment"], **environment}}


@pytest.mark.parametrize(("change", "words"), [
    (lambda r: {**r, "baseline": "original"}, "has the baseline 'original', not 'session:original@litert'"),
    (lambda r: _changed(r, models={}), "has no digest of the baseline 'session:original@litert'"),
    (lambda r: _changed(r, models={"session:original@litert": {"digest": "0", "bytes": 1, "version": "1"}}),
     "measured another model as 'session:original@litert'"),
    (lambda r: _changed(r, cpu_class="of another kind"), "another class of CPU (of another kind)"),
    (lambda r: _changed(r, cpu_class=None, cpu_flags=[]), "another class of CPU (not known)"),
    (lambda r: {**r, "comparisons": [{**c, "batch": 8} for c in r["comparisons"]]},
     "has no comparison of 'session:twin@litert' over in-process batch 3"),
    (lambda r: {"kind": "compare"}, "is not a result of 'python -m benchmark'")])
def test_a_stored_result_of_something_else_is_refused(
        change: Callable[[dict[str, Any]], Any], words: str, tmp_path: Path,
        stored: tuple[Path, dict[str, Any]]) -> None:
    folder, result = stored
    done = _against(folder, tmp_path, change(result))
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1  # nothing was started


@pytest.mark.parametrize(("conditions", "name"), [
    ({"cpu_class": "avx512_vnni", "cpu_flags": ["avx2", "avx512f", "avx512_vnni", "avx512_bf16"]},
     "avx512_vnni with bf16"),
    ({"cpu_class": "avx2", "cpu_flags": ["avx2", "avx512f", "avx512_vnni"],
      "variables": {"ONEDNN_MAX_CPU_ISA": "AVX2"}}, "avx2"),
    ({"cpu_flags": ["avx2", "avx512f"]}, "avx512"), ({"cpu_class": "amx"}, "amx"), ({}, None)])
def test_the_class_of_an_older_result_is_told_from_its_flags(conditions: Any, name: str | None) -> None:
    assert environment.class_of(conditions) == name
