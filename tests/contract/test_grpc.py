"""Every recorded gRPC case: code, message and answer equal those recorded from TensorFlow Serving."""
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from contract_grpc import call, differences
from contract_servers import ContractServer, cases

Channels = Callable[[int], grpc.Channel]
pytestmark = pytest.mark.contract


@pytest.fixture(scope="module")
def channel() -> Iterator[Channels]:
    made: dict[int, grpc.Channel] = {}

    def to(port: int) -> grpc.Channel:
        if port not in made:
            made[port] = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)])
        return made[port]

    yield to
    for each in made.values():
        each.close()


@pytest.mark.parametrize("case", cases("grpc.jsonl"), ids=lambda case: case["id"])
def test_call(case: dict[str, Any], contract_server: Callable[[str], ContractServer], channel: Channels,
              grade: Callable[[str, str], None]) -> None:
    server = contract_server(case["server"])
    found = differences(case["expect"], call(case, server, channel(server.port)))
    assert not found, "\n".join(found)
    grade(case["id"], "exact")
