"""Recorded server starts: with these flags and files, does the server run, and if not, what does it print?

`make test` starts each server in this process; `make proof` starts it as a command, or the command CONTRACT_START.
"""
import logging
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contract_grpc import without_debug_mark
from contract_servers import START, ContractServer, cases, prepare

CASES = {case["id"]: case for case in cases("startup.jsonl")}
BEHAVIOURS = tomllib.loads((Path(__file__).parent / "deviations.toml").read_text(encoding="utf-8"))["behaviour"]
DEVIATIONS = {name: behaviour for behaviour in BEHAVIOURS for name in behaviour["ids"]}
WAITING = "startup.broken_model_waits"
_COMMAND = f"{sys.executable} -m serving serve --port={{port}} --rest_api_port={{rest_port}} {{flags}}"


class Start:
    """The result of a server start.

    state: `listening`, `silent` (runs, but its ports do not answer) or `ended`; out, err: what it printed;
    status: its exit status; listens: which ports accept connections.
    """

    def __init__(self, server: ContractServer, state: str, out: str, err: str, status: int | None = None) -> None:
        self.state, self.status = state, status
        self.out, self.err = (without_debug_mark(server.mark(text)) for text in (out, err))
        self.listens = {"grpc_listens": listens(server.port), "rest_listens": listens(server.rest_port)}


@pytest.mark.parametrize("name", sorted(CASES.keys() - {WAITING}))
@pytest.mark.skipif(bool(START), reason="CONTRACT_START is a command: see test_startup")
def test_start(name: str, contract_models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from serving.config import EXIT_NOT_STARTED, NotStartedError, parse_flags
    from serving.server import start
    case = CASES[name]
    server, running = prepare(case["config"], contract_models, tmp_path), None
    try:
        running = start(parse_flags(_arguments(server, case)))
        check(case, Start(server, "listening", "", caplog.text))
    except NotStartedError as error:
        check(case, Start(server, "ended", error.original, str(error), EXIT_NOT_STARTED))
    finally:
        if running is not None:
            running.stop()


def test_a_broken_model_is_tried_again_before_a_port_is_opened(
        contract_models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from serving.config import parse_flags
    from serving.errors import ServingError
    from serving.server import Server
    case = CASES[WAITING]
    where = prepare(case["config"], contract_models, tmp_path)
    server, ended = Server(parse_flags(_arguments(where, case))), []

    def run() -> None:
        try:
            server.start()
        except ServingError as error:
            ended.append(error.message)

    thread = threading.Thread(target=run)
    with caplog.at_level(logging.WARNING):
        thread.start()
        end = time.monotonic() + 90
        while "nothing can be served yet, trying again: " not in caplog.text:
            assert time.monotonic() < end
            time.sleep(0.01)
    assert not listens(where.port)
    assert not listens(where.rest_port)
    assert thread.is_alive()
    server.stop()
    thread.join()
    assert "Read less bytes than requested" in ended[0]


@pytest.mark.proof
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_startup(case: dict[str, Any], contract_models: Path, tmp_path: Path,
                 grade: Callable[[str, str], None]) -> None:
    server = prepare(case["config"], contract_models, tmp_path)
    flags = list(map(server.fill, case["config"]["flags"]))
    words = [word for part in (START or _COMMAND).split() for word in (flags if part == "{flags}" else [
        part.replace("{port}", str(server.port)).replace("{rest_port}", str(server.rest_port))])]
    awaited = [port for name, port in (("grpc_listens", server.port), ("rest_listens", server.rest_port))
               if case["expect"].get(name)]
    # A server that must stay silent is watched for as long as in the recording; one that must answer has 90 s.
    end = time.monotonic() + (90 if awaited or case["expect"]["state"] == "ended" else case["limit_s"])
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and time.monotonic() < end and not (
                _is_listening(case, server) or (awaited and all(map(listens, awaited)))):
            time.sleep(0.05)
        if process.poll() is None:
            found = Start(server, "listening" if _is_listening(case, server) else "silent", "", "")
            process.kill()
            found.out, found.err = (without_debug_mark(server.mark(text)) for text in process.communicate())
        else:
            out, err = process.communicate()
            assert process.returncode != 0
            if not START:
                # One line for the error; the other lines are log messages, which start with the time.
                assert sum(line.startswith("error: ") for line in err.splitlines()) == 1, err
                assert "Traceback" not in err
            found = Start(server, "ended", out, err, process.returncode)
    grade(case["id"], check(case, found))


def _arguments(server: ContractServer, case: dict[str, Any]) -> list[str]:
    return [f"--port={server.port}", f"--rest_api_port={server.rest_port}", *map(server.fill, case["config"]["flags"])]


def _is_listening(case: dict[str, Any], server: ContractServer) -> bool:
    return case["until"] == "listening" and listens(server.port) and (not case["rest"] or listens(server.rest_port))


def check(case: dict[str, Any], found: Start) -> str:
    """The grade of a start. Fails if the start is neither as recorded nor a listed deviation."""
    expect, deviation = case["expect"], DEVIATIONS.get(case["id"])
    if deviation is not None and not (START and found.state == expect["state"]):
        assert found.state == deviation["state"]
        assert deviation.get("says", "") in found.out + found.err
        return "deviation"
    if case["until"] == "listening":
        assert found.state == expect["state"], found.err
    if expect["state"] != "ended":
        assert found.listens == {"grpc_listens": expect["grpc_listens"], "rest_listens": expect["rest_listens"]}
    expected = [(without_debug_mark(line), found.out) for line in expect["stdout_contains"]]
    expected += [(without_debug_mark(line), found.err) for line in expect["stderr_contains"]]
    missing = [line for line, _ in expected if line not in found.out and line not in found.err]
    assert missing == [], found.out + found.err
    right_stream = all(line in stream for line, stream in expected)
    return "exact" if found.status == expect["exit"] and right_stream else "equal"


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
