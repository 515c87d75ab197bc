"""`locust -f loadtest/` as a user runs it, against a null server."""
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from locust_runs import Run, options_for, run_locust
from null_server import NullServer, running_null_server

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
Locust = Callable[..., Run]
SCRIPTED = Path(__file__).parent / "scripted" / "scripted_users.py"
SCRIPTED_OPTIONS = ("-u", "4", "-r", "100", "--requests-per-user", "250", "--max-error-ratio", "0.01")


def free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


@pytest.fixture
def free_port() -> int:
    return free_ports(1)[0]


def processes_with(argument: str) -> list[psutil.Process]:
    return [process for process in psutil.process_iter(["cmdline"]) if argument in (process.info["cmdline"] or [])]


def test_rest_and_grpc_run_together_from_any_directory(locust: Locust, null_server: NullServer) -> None:
    run = locust(*options_for(null_server), "-u", "4", "-r", "100", "--requests-per-user", "25", "--batch", "3",
                 "--variant", "optimized", "--slo", "p99=100s", "--slo", "max=100s", "--max-error-ratio", "0")
    assert run.status == 0, run.stderr
    assert [(r["protocol"], r["name"], r["requests"], r["failures"]) for r in run.hdr["requests"]] == [
        ("REST", "null/optimized/1 batch 3", 50, 0), ("gRPC", "null/optimized/1 batch 3", 50, 0)]
    assert len(run.hdr["verdicts"]) == 6
    assert all(verdict["kept"] for verdict in run.hdr["verdicts"])


def test_one_class_by_name_open_loop_and_a_missed_objective(locust: Locust, null_server: NullServer) -> None:
    run = locust(*options_for(null_server), "-u", "2", "-r", "100", "--rate", "200", "--requests-per-user", "40",
                 "--slo", "p50=1us", "GrpcUser")
    assert run.status == 1
    [entry] = run.hdr["requests"]
    assert (entry["protocol"], entry["requests"]) == ("gRPC", 80)
    assert entry["from_send_ms"]["count"] == 80
    assert "MISSED: gRPC null/1 batch 1: p50 <= 0.001 ms" in run.stderr


@pytest.fixture(scope="module")
def scripted() -> dict[str, Run]:
    """The same users in one process, in two, and as a master with two workers. The runs are simultaneous."""
    forked, bound = map(str, free_ports(2))
    worker = [sys.executable, "-m", "locust", "-f", str(SCRIPTED), "--worker", "--master-port", bound, "--loglevel",
              "ERROR"]
    workers = [subprocess.Popen(worker, cwd=ROOT / "loadtest") for _ in range(2)]
    try:
        with ThreadPoolExecutor() as threads:
            runs = {name: threads.submit(run_locust, *SCRIPTED_OPTIONS, *options, files=SCRIPTED) for name, options in {
                "one": (), "two": ("--processes", "2", "--master-bind-port", forked, "--master-port", forked),
                "master": ("--master", "--master-bind-port", bound, "--expect-workers", "2")}.items()}
            finished = {name: run.result() for name, run in runs.items()}
        assert [process.wait(60) for process in workers] == [0, 0]
        assert not processes_with(forked)
        return finished
    finally:
        for process in workers:
            process.kill()
            process.wait()


def test_one_process_counts_the_requests_of_its_users(scripted: dict[str, Run]) -> None:
    run = scripted["one"]
    assert run.status == 1, "4 % of the requests of one name fail, but only 1 % may"
    assert [(entry["requests"], entry["failures"]) for entry in run.hdr["requests"]] == [(500, 20), (500, 0)]


@pytest.mark.parametrize("kind", ["two", "master"])
def test_several_workers_give_the_same_result_as_one_process(scripted: dict[str, Run], kind: str) -> None:
    """Totals, failures, verdicts and histograms, bit for bit."""
    assert (scripted[kind].status, scripted[kind].hdr) == (1, scripted["one"].hdr)


def test_a_ramp_ends_at_the_first_missed_objective(locust: Locust, null_server: NullServer) -> None:
    run = locust(*options_for(null_server), "-u", "50", "-t", "60s", "-r", "100", "--shape", "ramp", "--slo", "p50=1us",
                 "RestUser")
    assert run.status == 1
    assert "ramp ended with" in run.stderr


@pytest.mark.parametrize("processes", [(), ("--processes", "2")], ids=["one", "two"])
def test_without_a_server_there_is_one_error_line_and_no_process_is_left(
        locust: Locust, free_port: int, processes: tuple[str, ...]) -> None:
    address = f"http://127.0.0.1:{free_port}"
    run = locust("-H", address, "-u", "2", "-t", "5s", *processes)
    assert run.status == 2
    assert len(run.errors) == 1
    assert "cannot connect (Connection refused); is the server running" in run.errors[0]
    assert "Traceback" not in run.stderr
    assert not processes_with(address)


@pytest.mark.parametrize(("options", "words"), [
    (("--slo", "fast"), "'fast' is no objective; write p99=50ms"),
    (("--signature", "other"), "has no signature 'other'; it has: serving_default"),
])
def test_options_that_cannot_be_used(
        locust: Locust, null_server: NullServer, options: tuple[str, ...], words: str) -> None:
    run = locust(*options_for(null_server), "-u", "1", "-t", "1s", *options)
    assert run.status == 2
    assert words in run.stderr
    assert "Traceback" not in run.stderr


def test_the_web_page_shows_a_missing_server_and_then_its_answers_when_it_runs() -> None:
    web, rest, grpc = free_ports(3)
    page = f"http://127.0.0.1:{web}"
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtest"), "--web-host", "127.0.0.1", "--web-port",
               str(web), "--loglevel", "ERROR", "-H", f"http://127.0.0.1:{rest}",
               "--grpc-address", f"127.0.0.1:{grpc}", "--model", "null"]

    def until(found: Callable[[dict[str, Any]], bool]) -> None:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                if found(requests.get(f"{page}/stats/requests", timeout=60).json()):
                    return
            except requests.ConnectionError:
                pass
            time.sleep(0.1)
        raise AssertionError("not seen on the web page in time")

    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            until(lambda stats: stats["state"] == "ready")
            assert requests.post(f"{page}/swarm", {"user_count": 2, "spawn_rate": 10, "host": f"http://127.0.0.1:{rest}",
                                                   "batch": 5}, timeout=60).json()["success"]
            until(lambda stats: {entry["name"] for entry in stats["stats"]} >= {"null batch 5"}
                  and all("cannot connect" in error["error"] for error in stats["errors"]))
            with running_null_server(rest, grpc):
                until(lambda stats: {(entry["method"], entry["name"]) for entry in stats["stats"]
                                     if entry["num_requests"] > entry["num_failures"]}
                      >= {("REST", "null/1 batch 5"), ("gRPC", "null/1 batch 5")})
        finally:
            process.send_signal(signal.SIGTERM)
            _, stderr = process.communicate(timeout=60)
    assert "Traceback" not in stderr


def test_the_load_generator_never_imports_tensorflow() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, locust, rest_users, grpc_users; print('tensorflow' in sys.modules)"],
        cwd=ROOT / "loadtest", capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr
