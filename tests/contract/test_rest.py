"""Every recorded REST case: the embedded server's answer equals that of TensorFlow Serving, byte for byte."""
import base64
import re
import socket
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contract_rest import ClosedError, Wire, ask, differences
from contract_servers import START, ContractServer, cases

CASES = cases("rest.jsonl")
REQUESTS = [case for case in CASES if "raw_b64" not in case]
CONVERSATIONS = [case for case in CASES if "raw_b64" in case]
BEHAVIOURS = tomllib.loads((Path(__file__).parent / "deviations.toml").read_text(encoding="utf-8"))["behaviour"]
DEVIATIONS = {name: behaviour for behaviour in BEHAVIOURS for name in behaviour["ids"]}

Servers = Callable[[str], ContractServer]
Grade = Callable[[str, str], None]
pytestmark = pytest.mark.contract


def by_id(case: dict[str, Any]) -> str:
    return str(case["id"])


@pytest.mark.parametrize("case", REQUESTS, ids=by_id)
def test_request(case: dict[str, Any], contract_server: Servers, grade: Grade) -> None:
    answer = ask(case, contract_server(case["server"]).rest_port)
    found = differences(case["expect"], answer)
    deviation = DEVIATIONS.get(case["id"])
    # A server started by CONTRACT_START may be TensorFlow Serving, which has no deviations, or ours in a container.
    if deviation is None or (START and not found):
        assert not found, "\n".join(found)
        grade(case["id"], "exact")
        return
    assert found, f"{case['id']} is answered as recorded: remove it from deviations.toml"
    assert answer.status == deviation["status"]
    assert re.search(deviation["body"], answer.body.decode()), answer.body
    grade(case["id"], "deviation")


@pytest.mark.parametrize("case", CONVERSATIONS, ids=by_id)
def test_conversation(case: dict[str, Any], contract_server: Servers, grade: Grade) -> None:
    expected, methods = case["expect"], iter(case.get("methods", []))
    with Wire(contract_server(case["server"]).rest_port) as wire:
        parts = [base64.b64decode(part) for part in case["raw_b64"]]
        interim = expected["answers"][0].get("interim", []) if expected["answers"] else []
        wire.send(parts[0])
        seen = [wire.read_head().status for _ in interim]
        for part in parts[1:]:
            wire.send(part)
        if case.get("half_close"):
            wire.socket.shutdown(socket.SHUT_WR)
        for wanted in expected["answers"]:
            answer = wire.read(next(methods, "GET"))
            answer.interim = seen
            found = differences(wanted, answer)
            assert not found, "\n".join(found)
        if expected["closed"]:
            with pytest.raises(ClosedError):
                wire.read()
        else:
            assert not wire.is_closed()
    grade(case["id"], "exact")
