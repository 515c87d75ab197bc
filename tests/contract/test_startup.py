"""Recorded starts: with these flags and files, does the server run, and if not, what does it say?

`make test` starts each in this process; `make proof` as a command, which is also how another server is tested.
"""
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from contract_grpc import steady
from contract_servers import START, ContractServer, cases, prepare

from commandline import UserError

CASES = {case["id"]: case for case in cases("startup.jsonl")}
BEHAVIOURS = tomllib.loads((Path(__file__).parent / "deviations.toml").read_text(encoding="utf-8"))["behaviour"]
DEVIATIONS = {} if START else {name: behaviour for behaviour in BEHAVIOURS for name in behaviour["ids"]}


class Start:
    """How a start went: `listening`, `silent` or `ended`, the ports that answer, and what was printed."""

    def __init__(self, server: ContractServer, state: str, text: str) -> None:
        self.state, self.text = state, steady(server.mark(text))
        self.listens = {"grpc_listens": listens(server.port), "rest_listens": listens(server.rest_port)}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.skipif(bool(START), reason="CONTRACT_START is a command: see test_startup")
def test_start(case: dict[str, Any], contract_models: Path, tmp_path: Path) -> None:
    from serving.config import parse_flags
    from serving.server import start
    server = prepare(case["config"], contract_models, tmp_path)
    running = None
    try:
        running = start(parse_flags([f"--port={server.port}", f"--rest_api_port={server.rest_port}",
                                     *map(server.fill, case["config"]["flags"])]))
        check(case, Start(server, "listening", ""))
    except UserError as error:
        check(case, Start(server, "ended", str(error)))
    finally:
        if running is not None:
            running.stop()


@pytest.mark.proof
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_startup(case: dict[str, Any], contract_models: Path, tmp_path: Path) -> None:
    server = prepare(case["config"], contract_models, tmp_path)
    flags = list(map(server.fill, case["config"]["flags"]))
    start = START or (f"{sys.executable} -m serving serve --port={{port}} --rest_api_port={{rest_port}} {{flags}}")
    words = [word for part in start.split() for word in (flags if part == "{flags}" else [
        part.replace("{port}", str(server.port)).replace("{rest_port}", str(server.rest_port))])]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        end = time.monotonic() + max(case["limit_s"], 90)
        wanted = [server.port] if case["until"] == "listening" else [server.rest_port]
        wanted += [server.rest_port] if case["expect"].get("rest_listens") else []
        while process.poll() is None and time.monotonic() < end and not all(map(listens, wanted)):
            time.sleep(0.05)
        if process.poll() is None:
            found = Start(server, "listening" if all(map(listens, wanted)) else "silent", "")
            process.kill()
            found.text = steady(server.mark(process.communicate()[0]))
        else:
            text = process.communicate()[0]
            assert process.returncode != 0
            if not START:
                # One line for what is wrong; other lines are the log, with its time of day.
                assert sum(line.startswith("error: ") for line in text.splitlines()) == 1, text
                assert "Traceback" not in text
            found = Start(server, "ended", text)
    check(case, found)


def check(case: dict[str, Any], found: Start) -> None:
    expect, deviation = case["expect"], DEVIATIONS.get(case["id"])
    if deviation is not None:
        assert found.state == deviation["state"]
        assert deviation.get("says", "") in found.text
        return
    if expect["state"] == "ended":
        assert found.state == "ended"
        printed = [*expect["stdout_contains"], *expect["stderr_contains"]]
        assert [line for line in printed if steady(line) not in found.text] == [], found.text
    else:
        assert found.state == "listening", found.text
        assert found.listens == {"grpc_listens": expect["grpc_listens"], "rest_listens": expect["rest_listens"]}


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
