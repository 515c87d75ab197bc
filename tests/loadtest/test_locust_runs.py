"""`locust -f loadtest/` as a user runs it, against a server that does nothing."""
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from locust_runs import Run, Target, run_locust

ROOT = Path(__file__).resolve().parents[2]
Locust = Callable[..., Run]
SCRIPTED = Path(__file__).parent / "scripted" / "scripted_users.py"
SCRIPTED_OPTIONS = ("-u", "4", "-r", "100", "--requests-per-user", "250", "--max-error-ratio", "0.01")


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def no_workers_left() -> Iterator[None]:
    yield
    left = [process for process in psutil.process_iter(["cmdline"])
            if str(SCRIPTED) in (process.info["cmdline"] or []) or "--processes" in (process.info["cmdline"] or [])]
    assert not left


def test_rest_and_grpc_run_together_from_any_directory(locust: Locust, null_server: Target) -> None:
    run = locust(*null_server.options, "-u", "4", "-r", "100", "--requests-per-user", "25", "--batch", "3",
                 "--variant", "optimized", "--slo", "p99=10s", "--slo", "max=10s", "--max-error-ratio", "0")
    assert run.status == 0, run.stderr
    assert [(r["protocol"], r["name"], r["requests"], r["failures"]) for r in run.hdr["requests"]] == [
        ("REST", "null/optimized/1 batch 3", 50, 0), ("gRPC", "null/optimized/1 batch 3", 50, 0)]
    assert len(run.hdr["verdicts"]) == 6
    assert all(verdict["kept"] for verdict in run.hdr["verdicts"])


def test_one_class_by_name_open_loop_and_a_missed_objective(locust: Locust, null_server: Target) -> None:
    run = locust(*null_server.options, "-u", "2", "-r", "100", "--rate", "200", "--requests-per-user", "40",
                 "--slo", "p50=1us", "GrpcUser")
    assert run.status == 1
    [entry] = run.hdr["requests"]
    assert (entry["protocol"], entry["requests"]) == ("gRPC", 80)
    assert entry["from_send_ms"]["count"] == 80
    assert "MISSED: gRPC null/1 batch 1: p50 <= 0.001 ms" in run.stderr


@pytest.fixture(scope="module")
def alone() -> Any:
    """What one process records of the scripted users: totals, failures, verdicts and histograms."""
    run = run_locust(*SCRIPTED_OPTIONS, files=SCRIPTED)
    assert run.status == 1, "4 % of the requests fail, 1 % may"
    assert [entry["requests"] for entry in run.hdr["requests"]] == [500, 500]
    assert [entry["failures"] for entry in run.hdr["requests"]] == [20, 0]
    return run.hdr


def test_two_processes_add_up_to_one(locust: Locust, alone: Any, no_workers_left: None) -> None:
    """Bit for bit."""
    run = locust(*SCRIPTED_OPTIONS, "--processes", "2", files=SCRIPTED)
    assert (run.status, run.hdr) == (1, alone)


def test_a_master_and_two_workers_add_up_to_one(locust: Locust, alone: Any, free_port: int) -> None:
    worker = [sys.executable, "-m", "locust", "-f", str(SCRIPTED), "--worker", "--master-port", str(free_port),
              "--loglevel", "ERROR"]
    workers = [subprocess.Popen(worker, cwd=ROOT / "loadtest") for _ in range(2)]
    try:
        run = locust(*SCRIPTED_OPTIONS, "--master", "--master-bind-port", str(free_port), "--expect-workers", "2",
                     files=SCRIPTED)
        assert (run.status, run.hdr) == (1, alone)
        assert [process.wait(20) for process in workers] == [0, 0]
    finally:
        for process in workers:
            process.kill()
            process.wait()


def test_a_ramp_ends_at_the_first_missed_objective(locust: Locust, null_server: Target) -> None:
    run = locust(*null_server.options, "-u", "50", "-t", "60s", "-r", "100", "--shape", "ramp", "--slo", "p50=1us",
                 "RestUser")
    assert run.status == 1
    assert "ramp ended with" in run.stderr


@pytest.mark.parametrize("processes", [(), ("--processes", "2")], ids=["one", "two"])
def test_no_server_is_one_line_and_no_process_stays(
        locust: Locust, free_port: int, processes: tuple[str, ...], no_workers_left: None) -> None:
    run = locust("-H", f"http://127.0.0.1:{free_port}", "-u", "2", "-t", "5s", *processes)
    assert run.status == 2
    assert len(run.errors) == 1
    assert "cannot connect (Connection refused); is the server running" in run.errors[0]
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(("options", "words"), [
    (("--slo", "fast"), "'fast' is no objective; write p99=50ms"),
    (("--signature", "other"), "has no signature 'other'; it has: serving_default"),
])
def test_options_that_cannot_be_used(
        locust: Locust, null_server: Target, options: tuple[str, ...], words: str) -> None:
    run = locust(*null_server.options, "-u", "1", "-t", "1s", *options)
    assert run.status == 2
    assert words in run.stderr
    assert "Traceback" not in run.stderr


def test_the_load_generator_never_imports_tensorflow() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, locust, rest_users, grpc_users; print('tensorflow' in sys.modules)"],
        cwd=ROOT / "loadtest", capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr
