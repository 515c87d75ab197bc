"""The REST client when connections fail: scripted peers on real sockets."""
import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from commandline import status_of
from serving.client.one_off import OneOffRestClient
from serving.client.payloads import TensorSpec
from serving.client.protocol import AnswerError, Metadata, Signature, Tls, UnreachableError
from serving.client.rest import RestClient
from user_error import UserError

OK = b'{"model_version_status": []}'


def answer(body: bytes = OK, status: str = "200 OK", close: bool = False) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{'Connection: close' if close else 'X: y'}\r\n\r\n"
    return head.encode() + body


@contextmanager
def peer(*connections: list[bytes | None]) -> Iterator[tuple[str, list[bytes]]]:
    """Answers each connection's requests with its list of bytes, then closes it; None: read and stay silent."""
    listener = socket.create_server(("127.0.0.1", 0))
    requests: list[bytes] = []
    done = threading.Event()

    def serve() -> None:
        for answers in connections:
            connection, _ = listener.accept()
            with connection:
                for reply in answers:
                    requests.append(read_request(connection))
                    if reply is None:
                        done.wait(60)
                        break
                    connection.sendall(reply)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}", requests
    finally:
        done.set()
        thread.join(60)
        listener.close()
    assert not thread.is_alive(), "the client did not come back for another connection"


def read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_one_connection_serves_many_requests() -> None:
    with peer([answer(), answer(), answer()]) as (address, requests), RestClient(address, "m") as client:
        for _ in range(3):
            client.status()
        assert len(requests) == 3
        assert client.reconnects == 0


def test_an_idle_connection_that_the_server_closed_is_opened_again() -> None:
    with peer([answer()], [answer()]) as (address, _requests), RestClient(address, "m") as client:
        client.status()
        client.status()
        assert client.reconnects == 1


def test_connection_close_does_not_count_as_a_reconnect() -> None:
    with peer([answer(close=True)], [answer()]) as (address, _requests), RestClient(address, "m") as client:
        client.status()
        client.status()
        assert client.reconnects == 0


def test_a_request_is_not_repeated_if_the_server_closes_a_new_connection_unanswered() -> None:
    with peer([]) as (address, _requests), pytest.raises(UnreachableError, match="closed the connection before"):
        RestClient(address, "m").status()


@pytest.mark.parametrize("kind", [RestClient, OneOffRestClient])
def test_an_address_on_which_no_server_listens(kind: Callable[..., Any], free_port: int) -> None:
    with pytest.raises(UnreachableError, match=r"onnection refused.*is this its REST port") as caught:
        kind(f"localhost:{free_port}", "m").status()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [RestClient, OneOffRestClient])
def test_unknown_host(kind: Callable[..., Any]) -> None:
    with pytest.raises(UnreachableError, match="cannot connect"):
        kind("no-such-host.invalid:1", "m").status()


def test_a_silent_server_times_out() -> None:
    with peer([None]) as (address, _), pytest.raises(UnreachableError, match=r"no answer within 0\.05 s"):
        RestClient(address, "m", answer_timeout_s=0.05).status()


@pytest.mark.parametrize("reply", [b"\x00\x00\x06\x04garbage\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nab"],
                         ids=["not HTTP", "cut short"])
def test_an_answer_that_is_not_http(reply: bytes) -> None:
    with peer([reply]) as (address, _), pytest.raises(UnreachableError, match="no whole HTTP answer"):
        RestClient(address, "m").status()


@pytest.mark.parametrize("kind", [RestClient, OneOffRestClient])
def test_refusals_carry_status_and_message(kind: Callable[..., Any]) -> None:
    with peer([answer(b'{"error": "no such model"}', "404 Not Found")]) as (address, _):
        with kind(address, "m") as client, \
                pytest.raises(AnswerError, match="the server answered 404: no such model") as caught:
            client.status()
        assert (caught.value.code, status_of(caught.value)) == ("404", 1)


@pytest.mark.parametrize("kind", [RestClient, OneOffRestClient])
def test_path_headers_and_escaping(kind: Callable[..., Any]) -> None:
    with peer([answer()]) as (address, requests):
        client = kind(f"http://{address}/gateway/", "a b", label="canary/1", headers={"Authorization": "Bearer x"})
        client.status()
        client.close()
    assert requests[0].startswith(b"GET /gateway/v1/models/a%20b/labels/canary%2F1 HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer x\r\n" in requests[0]


def test_kserve_reports_readiness_but_no_signatures() -> None:
    spec = TensorSpec(np.dtype(np.float32), (-1,))
    known = Metadata("m", 1, {"serving_default": Signature("", {"x": spec}, {"y": spec})})
    replies = [answer(b'{"name": "m", "ready": true}'), answer(b'{"name": "m", "ready": "False"}'),
               answer(b'{"predictions": [2.0]}')]
    with peer([*replies]) as (address, requests), RestClient(address, "m", metadata=known) as client:
        assert [client.status()[0].state for _ in range(2)] == ["AVAILABLE", "LOADING"]
        assert client.predict({"x": np.array([1], np.float32)})["y"].tolist() == [2]
        assert client.metadata() is known
    assert requests[2].endswith(b'{"instances":[1.0]}')


@pytest.mark.parametrize("address", ["", "http://", "ftp://host", "host:port", "http://host:99999"])
def test_addresses_that_are_invalid(address: str) -> None:
    with pytest.raises(UserError, match="is no address of a REST API"):
        RestClient(address, "m")


def test_tls_files_that_cannot_be_used() -> None:
    with pytest.raises(UserError, match=r"cannot use the TLS files /missing\.pem: No such file"):
        RestClient("https://localhost:1", "m", tls=Tls(authority="/missing.pem"))


@pytest.mark.parametrize(("body", "status", "engine"), [
    (b'{"models": [{"name": "m", "versions": [{"version": 3, "state": "LOADING", "engine": null}, {"version": 2, '
     b'"state": "AVAILABLE", "engine": "litert"}, {"version": 1, "state": "AVAILABLE", "engine": "tensorflow"}]}]}',
     "200 OK", "litert"),
    (b'{"models": [{"name": "m", "versions": [{"version": 1, "state": "AVAILABLE", "engine": null}]}]}', "200 OK", ""),
    (b'{"models": [{"name": "m", "versions": [{"version": 1, "state": "AVAILABLE"}]}]}', "200 OK", ""),
    (b'{"models": [{"name": "other", "versions": []}]}', "200 OK", ""),
    (b'{"models": [{"name": "m", "versions": []}]}', "200 OK", ""),
    (b'{"error": "Malformed request: GET /models"}', "404 Not Found", ""),
    (b"<html>", "200 OK", ""), (b"[]", "200 OK", "")])
def test_the_engine_of_the_newest_version_that_answers(body: bytes, status: str, engine: str) -> None:
    with peer([answer(body, status)]) as (address, requests), RestClient(f"{address}/prefix", "m") as client:
        assert client.engine() == engine
        assert requests[0].startswith(b"GET /prefix/models ")


def test_a_ctrl_c_while_an_answer_is_closed_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python drops what a finalizer raises: what would be raised while an answer is freed must be raised before."""
    close = http.client.HTTPResponse.close
    interrupts = [KeyboardInterrupt()]

    def interrupted(response: http.client.HTTPResponse) -> None:
        close(response)
        if interrupts:
            raise interrupts.pop()

    with peer([answer()]) as (address, _), RestClient(address, "m") as client:
        monkeypatch.setattr(http.client.HTTPResponse, "close", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.status()
