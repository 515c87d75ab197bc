"""The compare command on real servers, sockets and clients, with a model that returns its input."""
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest


def _compare(*arguments: str, timeout: float = 150) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "benchmark", "compare", *arguments], capture_output=True, text=True,
                          timeout=timeout)


def _one_line_error(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.splitlines() if not line.startswith("✓")]
    assert done.returncode > 0
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.slow
def test_a_known_difference_is_found_and_reported(null_server: Callable[..., Any], tmp_path: Path) -> None:
    slow, fast = null_server(work_ms=30), null_server(work_ms=1)
    html, out = tmp_path / "report" / "r.html", tmp_path / "r.json"
    done = _compare("--url", slow.rest, "--grpc", slow.grpc, "--url", fast.rest, "--grpc", fast.grpc, "--model", "null",
                    "--batch", "2", "--repeat", "80", "--html", str(html), "--json", str(out))
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    means = {c["protocol"]: c for c in result["comparisons"] if c["metric"] == "mean"}
    assert set(means) == {"rest", "grpc"}
    for comparison in means.values():
        assert comparison["verdict"] == "faster"
        assert comparison["valid"]
        assert 1.5 < comparison["ci95"][0] <= comparison["ratio"] <= comparison["ci95"][1]
        assert comparison["baseline_value"] > 30
        assert comparison["batch"] == 2
    for summary in result["summaries"]:
        assert summary["requests"] == 80
        assert summary["total_s"] >= summary["mean_ms"] * 80 / 1e3
    assert {"baseline", "candidate", "protocol", "batch", "metric", "ratio", "ci95", "verdict", "valid",
            "reasons"} <= set(result["comparisons"][0])
    assert result["environment"]["cpu_quota"] > 0
    assert "faster" in done.stdout
    assert "http.client" in done.stdout
    page = html.read_text()
    assert page.index("faster") < page.index("<svg")
    # It works offline. The targets' addresses are text, and the verdict card cuts long ones.
    assert not re.search(r"""(src|href|action)=["']?(https?:)?//|url\(|@import""", page)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.json", "report"]


def test_a_kept_result_is_drawn_over_time(null_server: Callable[..., Any], tmp_path: Path) -> None:
    server, folder = null_server(), tmp_path / "kept" / "here"
    done = _compare("--url", server.rest, "--url", null_server(number=1).rest, "--model", "null", "--repeat", "8",
                    "--store", str(folder), "--fail-if-not", "faster")
    assert done.returncode == 1
    path, = folder.iterdir()
    assert f"Kept: {path}" in done.stderr
    report = subprocess.run([sys.executable, "-m", "benchmark", "report", str(folder)], capture_output=True, text=True,
                            check=False)
    assert report.returncode == 0, report.stderr
    assert "Ratio over time" in report.stdout


def test_with_json_to_standard_output_nothing_else_is_printed_there(null_server: Callable[..., Any]) -> None:
    server = null_server()
    done = _compare("--grpc", server.grpc, "--grpc", server.grpc, "--model", "null", "--batch", "1", "--repeat", "8",
                    "--json", "-")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["comparisons"][0]["protocol"] == "grpc"


def test_the_time_limit_is_in_the_plan_and_in_the_result(null_server: Callable[..., Any]) -> None:
    server = null_server()
    done = _compare("--grpc", server.grpc, "--grpc", server.grpc, "--model", "null", "--batch", "1", "--repeat",
                    "1000000", "--max-time", "1", "--json", "-")
    assert done.returncode == 0, done.stderr
    plan = done.stderr.index("Plan: 1,000,000 requests per target, protocol and batch size; measuring ends after 1 s")
    assert plan < done.stderr.index("Start")
    assert json.loads(done.stdout)["ended"]["gRPC batch 1"].startswith("the time limit (--max-time), after")
    assert "gRPC batch 1 ended: the time limit (--max-time), after" in done.stderr


@pytest.mark.parametrize(("arguments", "words"), [
    (["original", "optimized", "--models", "nowhere"], "no model 'mnist' in nowhere/"),
    (["original", "absent"], "no variant 'absent'"),
    (["original", "empty"], "has no version"),
    (["original"], "needs a baseline and a candidate"),
    (["original", "warp:original"], "no backend 'warp'"),
    (["original", "original", "--batch", "0"], "'--batch'"),
    (["original", "original", "--protocol", "smtp"], "'--protocol'")])
def test_what_cannot_be_measured_is_a_one_line_error(arguments: list[str], words: str, tmp_path: Path) -> None:
    for variant in ("original/1", "empty/not-a-version"):
        (tmp_path / "models/mnist" / variant).mkdir(parents=True)
    (tmp_path / "models/mnist/original/1/saved_model.pb").write_bytes(b"")  # a SavedModel without graphs
    models = [] if "--models" in arguments else ["--models", str(tmp_path / "models")]
    assert words in _one_line_error(_compare(*arguments, *models, "--json", str(tmp_path / "r.json")))
    assert not (tmp_path / "r.json").exists()


def test_an_address_without_a_server_is_a_one_line_error() -> None:
    done = _compare("--url", "http://127.0.0.1:1", "--url", "http://127.0.0.1:1", "--repeat", "2")
    assert "http://127.0.0.1:1 has no model 'mnist' that is AVAILABLE" in _one_line_error(done)


@contextmanager
def _started(tmp_path: Path, *urls: str, repeat: int = 100_000) -> Iterator[subprocess.Popen[str]]:
    """Starts a comparison and yields it when some of its rounds are finished."""
    targets = [part for url in urls for part in ("--url", url)]
    command = [sys.executable, "-m", "benchmark", "compare", *targets, "--model", "null", "--batch", "1", "--warmup",
               "1", "--repeat", str(repeat), "--json", str(tmp_path / "r.json")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            journal = tmp_path / ".r.json.rounds"
            deadline = monotonic() + 90
            while not (journal.exists() and journal.read_text().count("\n") > 2):
                assert process.poll() is None, process.stderr and process.stderr.read()
                assert monotonic() < deadline
                sleep(0.01)
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_keeps_its_finished_rounds(number: int, status: int, null_server: Callable[..., Any],
                                                      tmp_path: Path) -> None:
    server = null_server()
    with _started(tmp_path, server.rest, server.rest) as process:
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in errors
    assert not (tmp_path / "r.json").exists()
    assert "finished blocks are kept: python -m benchmark report" in errors
    report = subprocess.run(
        [sys.executable, "-m", "benchmark", "report", str(tmp_path / ".r.json.rounds"), "--json", "-"],
        capture_output=True, text=True, timeout=150)
    assert report.returncode == 0, report.stderr
    assert json.loads(report.stdout)["runs"][0]["interrupted"]


def test_a_server_that_dies_while_measured_is_a_one_line_error(null_server: Callable[..., Any], tmp_path: Path) -> None:
    first, second = null_server(), null_server(number=2)
    with _started(tmp_path, first.rest, second.rest) as process:
        os.kill(second.child.process.pid, signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in errors
    last = errors.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert second.rest in last
    assert "while it was measured" in last
    assert not (tmp_path / "r.json").exists()
