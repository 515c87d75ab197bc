"""Every client against the project's servers: same answers, same metadata, errors in a line."""
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from echo_servers import TLS
from echo_store import TYPES

from serving.client import answers, payloads
from serving.client.grpc import GrpcClient
from serving.client.one_off import OneOffRestClient
from serving.client.protocol import AnswerError, Client, Tls, UnreachableError, VersionStatus
from serving.client.rest import RestClient
from user_error import UserError

AUTHORITY = Tls(authority=str(TLS / "server.pem"))
CLIENT_FOLDER = Path(__file__).resolve().parents[3] / "serving" / "client"


@pytest.mark.parametrize("name", TYPES)
def test_every_type_comes_back(client: Any, name: str) -> None:
    asked: Client = client()
    signature = asked.metadata().signature(name)
    inputs = payloads.make(signature.inputs, batch=6, seed=1)
    if name in ("half", "uint16") and not isinstance(asked, GrpcClient):
        with pytest.raises(AnswerError, match="UNIMPLEMENTED"):  # of TensorFlow Serving's JSON
            asked.predict(inputs, name)
        return
    outputs = asked.predict(inputs, name)
    assert answers.compare({"y": inputs["x"]}, outputs).equal


def test_several_inputs_and_outputs(client: Any) -> None:
    inputs = {"a": np.array([1.5, -2], np.float32), "b": np.array([2**53 + 1, -1])}
    assert answers.compare(inputs, client().predict(inputs, "pair")).equal
    uneven = {"a": np.array([1.5], np.float32), "b": np.arange(4)}  # no rows: the column form
    assert answers.compare(uneven, client().predict(uneven, "pair")).equal


def test_special_values(client: Any) -> None:
    values = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45, 3.4e38], np.float32)
    outputs = client().predict({"x": values})
    assert answers.compare({"y": values}, outputs).equal


def test_bytes_that_are_not_utf8(client: Any) -> None:
    words = np.empty(3, object)
    words[:] = ["é".encode(), b"\xff\x00", b""]
    asked = client()
    if isinstance(asked, GrpcClient):
        assert asked.predict({"x": words}, "string")["y"].tolist() == words.tolist()
    else:  # they go in, but only an output called *_bytes could bring them back
        with pytest.raises(AnswerError, match="not UTF-8 text"):
            asked.predict({"x": words}, "string")


def test_prepare_send_decode_is_predict(client: Any) -> None:
    asked: Client = client()
    inputs = {"x": np.arange(3, dtype=np.float32)}
    raw = asked.send(asked.prepare(inputs))
    assert isinstance(raw, bytes)
    assert asked.decode(raw)["y"].tolist() == asked.predict(inputs)["y"].tolist() == [0, 1, 2]
    assert asked.measured_by


def test_metadata_is_the_same_over_rest_and_grpc(servers: Any) -> None:
    with RestClient(servers.rest, "echo") as rest, GrpcClient(servers.grpc, "echo") as grpc_client:
        assert rest.metadata() == grpc_client.metadata()
        assert rest.metadata().version == 7
        assert rest.metadata().signatures["__saved_model_init_op"].outputs == {}


def test_status(client: Any) -> None:
    assert client().status() == (VersionStatus(7, "AVAILABLE", "OK", ""),)


@pytest.mark.parametrize("options", [{"version": 7}, {"label": "stable"}], ids=str)
def test_a_version_or_label(client: Any, options: Any) -> None:
    assert client(**options).predict({"x": np.zeros(1, np.float32)})["y"].tolist() == [0]


@pytest.mark.parametrize(("model", "options", "codes", "words"), [
    ("other", {}, {"404", "NOT_FOUND"}, r"Servable not found for request: Latest\(other\)"),
    ("echo", {"version": 8}, {"404", "NOT_FOUND"}, r"Specific\(echo, 8\)"),
    ("echo", {"label": "beta"}, {"400", "INVALID_ARGUMENT"}, "Unrecognized servable version label: beta"),
])
def test_refusals(client: Any, model: str, options: Any, codes: set[str], words: str) -> None:
    asked = client(model, **options)
    with pytest.raises(AnswerError, match=words) as caught:
        asked.send(asked.prepare({"x": np.zeros(1, np.float32)}))
    assert caught.value.code in codes


def test_run_time_errors(client: Any) -> None:
    with pytest.raises(AnswerError, match="the graph is broken"):
        client().predict({"x": np.zeros(1, np.float32)}, "fails")


def test_messages_of_any_size(client: Any) -> None:
    values = np.random.default_rng(1).random(3_000_000 if isinstance(client(), GrpcClient) else 500_000)
    values = values.astype(np.float32)  # 12 MB over gRPC, whose limit would be 4 MB; 5 MB of JSON
    assert np.array_equal(client().predict({"x": values})["y"], values)


@pytest.mark.parametrize("kind", [RestClient, OneOffRestClient])
def test_rest_over_tls(servers: Any, kind: Any) -> None:
    with kind(servers.rest_tls, "echo", tls=AUTHORITY) as trusted:
        assert trusted.status()[0].version == 7
    with kind(servers.rest_tls, "echo") as strict, pytest.raises(UnreachableError, match="certificate verify failed"):
        strict.status()


def test_rest_over_tls_unverified(servers: Any) -> None:
    with RestClient(servers.rest_tls, "echo", tls=Tls(verify=False)) as trusting:
        assert trusting.status()[0].version == 7


def test_grpc_over_tls(servers: Any) -> None:
    with GrpcClient(servers.grpc_tls, "echo", tls=AUTHORITY) as trusted:
        assert trusted.status()[0].version == 7
    with GrpcClient(servers.grpc_tls, "echo", tls=Tls()) as strict, pytest.raises(UnreachableError):
        strict.status()
    with pytest.raises(UserError, match="cannot leave the server's certificate unverified"):
        GrpcClient(servers.grpc_tls, "echo", tls=Tls(verify=False))
    with pytest.raises(UserError, match=r"cannot use the TLS file /missing\.pem"):
        GrpcClient(servers.grpc_tls, "echo", tls=Tls(authority="/missing.pem"))


@contextmanager
def spying_grpc_server(seconds: float = 0.0) -> Iterator[tuple[str, list[Any]]]:
    """Records each call's context, waits, and returns an empty answer."""
    calls: list[Any] = []

    class Handler(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            def answer(request: bytes, context: Any) -> bytes:
                calls.append((context.peer(), dict(details.invocation_metadata)))
                finished.wait(seconds)
                return b""
            return grpc.unary_unary_rpc_method_handler(answer)
    finished = threading.Event()
    server = grpc.server(ThreadPoolExecutor(2), handlers=(Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", calls
    finished.set()
    server.stop(None).wait()


def test_grpc_headers_and_a_connection_for_each_client() -> None:
    with spying_grpc_server() as (address, calls):
        for _ in range(2):
            with GrpcClient(address, "m", headers={"Authorization": "Bearer x"}) as asked:
                asked.send(b"")
                asked.send(b"")
    peers = [peer for peer, _ in calls]
    assert peers[0] == peers[1] != peers[2] == peers[3]
    assert calls[0][1]["authorization"] == "Bearer x"


def test_two_simultaneous_grpc_clients_do_not_share_a_connection() -> None:
    with spying_grpc_server() as (address, calls), GrpcClient(address, "m") as one, GrpcClient(address, "m") as other:
        one.send(b"")
        other.send(b"")
        assert calls[0][0] != calls[1][0]


def test_a_slow_grpc_server_times_out() -> None:
    with spying_grpc_server(seconds=10) as (address, _), GrpcClient(address, "m", answer_timeout_s=0.1) as asked, \
            pytest.raises(UnreachableError, match=r"no answer within 0\.1 s"):
        asked.send(b"")


def test_a_grpc_peer_that_sends_nothing_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, \
            ThreadPoolExecutor(2) as threads:
        def give_up(seconds: float) -> None:
            with GrpcClient(f"127.0.0.1:{silent.getsockname()[1]}", "m", connect_timeout_s=seconds) as asked, \
                    pytest.raises(UnreachableError, match="cannot connect"):
                asked.status()
        later, sooner = threads.submit(give_up, 3), threads.submit(give_up, 0.1)
        sooner.result(60)
        assert not later.done()
        later.result(60)


@pytest.mark.parametrize("address", ["localhost", "http://localhost:8500", ""])
def test_grpc_addresses_that_are_invalid(address: str) -> None:
    with pytest.raises(UserError, match="is no address of a gRPC API; write host:port"):
        GrpcClient(address, "m")


def test_no_client_module_imports_tensorflow() -> None:
    modules = [f"serving.client.{path.stem}" for path in CLIENT_FOLDER.glob("*.py") if path.stem != "__init__"]
    assert len(modules) > 8
    code = ("import importlib, sys\n"
            "for name in sys.argv[1:]: importlib.import_module(name)\n"
            "print([name for name in sys.modules if name.split('.')[0] in ('tensorflow', 'keras')])")
    done = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
