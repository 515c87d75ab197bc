"""The server as a process: stopping, restarts, exit statuses, and starts that fail."""
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.client import RemoteDisconnected
from pathlib import Path

import grpc
import pytest
from running_server import (
    PREDICT,
    call,
    command,
    cpu_seconds,
    free_port,
    half,
    listens,
    request,
)
from waiting import until

from serving.config import Flags
from serving.protos import predict_pb2
from serving.server import start
from user_error import UserError

ROOT = Path(__file__).resolve().parents[2]


def test_stopping_answers_running_requests_and_accepts_no_new_ones(models: Path) -> None:
    import numpy as np
    long = request("slow", "turns", turns=np.array([150_000], np.int32))
    made = Flags(model_name="slow", model_base_path=str(models / "slow"), port=free_port(), rest_api_port=free_port())
    server = start(made)
    with ThreadPoolExecutor(1) as pool, grpc.insecure_channel(f"127.0.0.1:{made.port}") as channel:
        running = pool.submit(channel.unary_unary(PREDICT), long, timeout=60)
        until(lambda: server._store._serving["slow"][1].pins == 1)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        until(lambda: not listens(made.rest_api_port))
        assert predict_pb2.PredictResponse.FromString(running.result()).outputs["done"]
        stopping.join(60)
        assert not stopping.is_alive()
        with pytest.raises(grpc.RpcError):
            channel.unary_unary(PREDICT)(long, timeout=5)


RETRY = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": {
    "maxAttempts": 5, "initialBackoff": "0.2s", "maxBackoff": "1s", "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"]}}]})


def test_during_restarts_a_client_that_retries_loses_no_request(models: Path) -> None:
    made = Flags(model_name="half", model_base_path=str(models / "half"), port=free_port(), rest_api_port=free_port())
    done, answers, failures = threading.Event(), [0, 0], list[str]()

    def rest() -> None:
        url = f"http://127.0.0.1:{made.rest_api_port}/v1/models/half:predict"
        while not done.is_set():
            try:
                with urllib.request.urlopen(url, b'{"instances": [1.0]}', timeout=60) as answer:
                    answers[0] += answer.status == 200
            except urllib.error.HTTPError as error:
                failures.append(f"REST {error.code}")
            except RemoteDisconnected as error:
                failures.append(repr(error))  # the server accepted the request and did not answer it
            except OSError:
                continue  # not connected, or reset before the request was taken: safe to try again

    def over_grpc() -> None:
        with grpc.insecure_channel(f"127.0.0.1:{made.port}", [
                ("grpc.service_config", RETRY), ("grpc.max_reconnect_backoff_ms", 100),
                ("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 50)]) as channel:
            predict = channel.unary_unary(PREDICT)
            while not done.is_set():
                try:
                    predict(half(), timeout=60, wait_for_ready=True)
                    answers[1] += 1
                except grpc.RpcError as error:
                    failures.append(f"gRPC {error.code().name} {error.details()}")

    threads = [threading.Thread(target=load) for load in (rest, over_grpc)]
    server = start(made)
    for thread in threads:
        thread.start()
    for _ in range(4):
        before = list(answers)
        until(lambda before=before: answers[0] > before[0] + 20 and answers[1] > before[1] + 20)  # type: ignore[misc]
        server.stop()
        server = start(made)
    done.set()
    for thread in threads:
        thread.join()
    server.stop()
    assert failures == []


def test_if_both_ports_are_equal_grpc_gets_the_port(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    server = start(Flags(model_name="half", model_base_path=str(models / "half"), port=port, rest_api_port=port))
    assert call(port, half()) == [[2.5]]
    server.stop()
    assert "Skipped exporting HTTP/REST API." in caplog.text


def test_a_process_serves_drains_and_ends_with_zero(models: Path) -> None:
    port = free_port()
    # SIGINT is ignored in a shell's background jobs; the server drains on it all the same.
    words = ["sh", "-c", 'trap "" INT; exec "$@"', "sh",
             *command(models, "half", f"--port={port}", "--rest_api_port=0")]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        try:
            until(lambda: process.poll() is not None or listens(port), 90)
            assert call(port, half()) == [[2.5]]
            os.kill(process.pid, signal.SIGINT)
            _, log = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert "Traceback" not in log
    assert "Running gRPC ModelServer" in log


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_signal_that_another_thread_takes_ends_it(models: Path) -> None:
    """Python's handler runs in the main thread, which waits: only the kernel decides which thread takes a signal."""
    port = free_port()
    with subprocess.Popen(command(models, "half", f"--port={port}", "--rest_api_port=0"), stderr=subprocess.PIPE,
                          text=True) as process:
        try:
            until(lambda: process.poll() is not None or listens(port), 90)
            assert call(port, half()) == [[2.5]]
            other = max(int(task.name) for task in Path(f"/proc/{process.pid}/task").iterdir())
            assert other != process.pid
            assert ctypes.CDLL(None).tgkill(process.pid, other, signal.SIGTERM) == 0
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_aborted_requests_show_in_the_exit_status_and_stopping_takes_drain_seconds(models: Path) -> None:
    """One over REST and one over gRPC: each is waited for, and both at the same time."""
    import numpy as np
    port, rest_port = free_port(), free_port()
    words = command(models, "slow", f"--port={port}", f"--rest_api_port={rest_port}", "--drain_seconds=6")
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process, ThreadPoolExecutor(2) as pool:
        try:
            until(lambda: process.poll() is not None or (listens(port) and listens(rest_port)), 90)
            running = []
            for send in (lambda: call(port, request("slow", "turns", turns=np.array([10**9], np.int32)), 60),
                         lambda: urllib.request.urlopen(
                             f"http://127.0.0.1:{rest_port}/v1/models/slow:predict",
                             b'{"signature_name": "turns", "instances": [1000000000]}', 60)):
                running.append(pool.submit(send))
                idle = cpu_seconds(process.pid)
                until(lambda before=idle: cpu_seconds(process.pid) > before + 0.5)  # it runs, and does not end
            sent = time.monotonic()
            process.terminate()
            _, log = process.communicate(timeout=60)
            took = time.monotonic() - sent
            for each in running:
                with pytest.raises((grpc.RpcError, OSError)):
                    each.result()
        finally:
            process.kill()
    assert process.returncode == 1
    assert "Stopped; 2 request(s) took longer than --drain_seconds=6, and were cut" in log
    assert took < 2 * 6  # twice --drain_seconds was the mistake


def test_models_that_cannot_be_served_give_one_line_and_an_exit_status(models: Path) -> None:
    words = command(models, "broken", f"--port={free_port()}", "--max_num_load_retries=0")
    done = subprocess.run(words, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 255
    [line], [original] = done.stderr.splitlines(), done.stdout.splitlines()
    assert original == ("Failed to start server. Error: UNKNOWN: 1 servable(s) did not become available: {{{name: "
                        "broken version: 1} due to error: OUT_OF_RANGE: Read less bytes than requested}, }")
    assert line == f"error: {original} Export or copy the version again."


def test_a_closed_output_does_not_hide_the_error(models: Path) -> None:
    words = ["sh", "-c", 'exec "$@" >&-', "sh", *command(models, "broken", "--max_num_load_retries=0", "--port=1")]
    done = subprocess.run(words, stderr=subprocess.PIPE, text=True, timeout=150, check=False)
    assert done.returncode == 255
    [line] = done.stderr.splitlines()
    assert line.startswith("error: Failed to start server. Error: ")


def test_help_with_other_flags_starts_no_server(models: Path) -> None:
    """The exit status shows a script that adds --help to a command line that no server runs."""
    statuses = [subprocess.run(words, capture_output=True, timeout=150, check=False).returncode for words in (
        [sys.executable, "-m", "serving", "serve", "--help"], command(models, "half", "--help"))]
    assert statuses == [0, 255]


def test_a_start_that_fails_leaves_nothing_running(models: Path) -> None:
    flags = {"model_name": "half", "model_base_path": str(models / "half")}
    port, taken = free_port(), free_port()
    before = set(threading.enumerate())  # servers of other tests may run in this process
    with socket.create_server(("127.0.0.1", taken)), pytest.raises(UserError):
        start(Flags(port=port, rest_api_port=taken, **flags))
    assert not listens(port)
    until(lambda: not {thread.name for thread in set(threading.enumerate()) - before} & {"poll", "config"})


@pytest.mark.parametrize("wrong", ["taken", "missing", "broken", "flag"])
def test_mistakes_are_reported_before_tensorflow_is_imported(models: Path, wrong: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1] if wrong == "taken" else free_port()
        model = {"missing": "none", "broken": "broken"}.get(wrong, "half")
        flags = [f"--model_name={model}", f"--model_base_path={models / model}", f"--port={port}",
                 "--max_num_load_retries=0", *(["--prot=1"] if wrong == "flag" else [])]
        script = ("import sys\nfrom serving.server import command\n"
                  "try: command.callback(sys.argv[1:])\n"
                  "except SystemExit: assert 'tensorflow' not in sys.modules\n"
                  "else: raise AssertionError('it started')\n")
        done = subprocess.run([sys.executable, "-c", script, *flags], capture_output=True, text=True, timeout=150,
                              check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert [line[:7] for line in done.stderr.splitlines()] == ["error: "]


def test_the_log_goes_on_while_tensorflow_is_imported() -> None:
    """As in a running server, when the first version comes that another engine does not run."""
    program = """
import logging, os, threading
from serving.server import log_to_stderr
log_to_stderr()
stop, log, count = threading.Event(), logging.getLogger("serving"), 0
def write():
    global count
    while not stop.wait(0.001):
        log.info("line %d", count)
        count += 1
writer = threading.Thread(target=write)
writer.start()
from serving.engines import runtime
assert count > 100
stop.set()
writer.join()
log.info("%d lines", count)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    *lines, last = [line.partition(" I ")[2] for line in done.stderr.splitlines()]
    assert lines == [f"line {number}" for number in range(len(lines))]
    assert last == f"{len(lines)} lines"
