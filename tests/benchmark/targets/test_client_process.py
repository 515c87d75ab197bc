"""A client in a process of its own answers as the one that it is made from."""
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psutil
import pytest

from benchmark.targets.addresses import connect
from benchmark.targets.client_process import ClientProcess
from benchmark.targets.connections import ClientConnection
from serving.client.protocol import UnreachableError
from user_error import FailedError


@pytest.fixture(params=["rest", "grpc"])
def client(request: pytest.FixtureRequest, null_server: Callable[..., Any]) -> Iterator[ClientProcess]:
    server = null_server()
    address = server.rest if request.param == "rest" else server.grpc
    made = ClientProcess(ClientConnection(connect(request.param, address, "null"), ""), request.param, address, "null",
                         None, "")
    yield made
    made.close()


def test_a_turn_is_sent_by_the_other_process(client: ClientProcess) -> None:
    signature = client.signature()
    name, spec = next(iter(signature.inputs.items()))
    requests = [client.prepare({name: np.zeros([1 if size in (None, -1) else size for size in spec.shape],
                                               spec.dtype)}) for _ in range(2)]
    assert requests == [0, 1]
    before = psutil.Process(client.pid).cpu_times().user
    turn = client.turn(requests, 1, 400, 0.01)
    assert len(turn.seconds) == len(turn.answers) == 400
    assert turn.led
    assert sum(turn.seconds) <= turn.wall_s
    assert turn.cpu_s > 0
    assert psutil.Process(client.pid).cpu_times().user > before
    assert set(client.decode(turn.answers[0])) == set(signature.outputs)
    seconds, raw = client.timed(requests[0])
    assert seconds > 0
    assert set(client.decode(raw)) == set(signature.outputs)
    assert client.measured_by.endswith(", in a process of its own")


def test_its_process_ends_with_it(client: ClientProcess) -> None:
    process = psutil.Process(client.pid)
    client.close()
    assert not process.is_running()


def test_a_client_that_was_killed_is_one_error(client: ClientProcess) -> None:
    psutil.Process(client.pid).kill()
    with pytest.raises(FailedError, match=r"the client of \S+ died during a request \(signal SIGKILL\)"):
        client.turn([0], 0, 1, 0.0)


def test_an_error_of_the_server_comes_back(null_server: Callable[..., Any]) -> None:
    server = null_server()
    here = ClientConnection(connect("grpc", server.grpc, "null"), "")
    made = ClientProcess(here, "grpc", "127.0.0.1:1", "null", None, "")
    try:
        request = made.prepare({"x": np.zeros([1, 1], np.float32)})
        with pytest.raises(UnreachableError):
            made.timed(request)
    finally:
        made.close()
