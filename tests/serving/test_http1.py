"""The HTTP layer on real sockets: cases that are not recorded, limits, slow and silent clients, draining."""
import asyncio
import random
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from contract_rest import ClosedError, Wire
from echo_store import EchoStore
from waiting import until

from serving.http_message import Request, Response
from serving.predictor import Predictor
from serving.rest import RestServer

LIMIT = 1 << 20
GET = b"GET /v1/models/echo HTTP/1.1\r\nHost: x\r\n\r\n"


def post(body: bytes, headers: str = "") -> bytes:
    head = f"POST /v1/models/echo:predict HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


ONE = post(b'{"instances": [1.0]}')
NUMBER = b'{\n    "predictions": [%s\n    ]\n}'


@pytest.fixture
def make() -> Iterator[Callable[..., RestServer]]:
    with ExitStack() as stack:

        def start(**options: Any) -> RestServer:
            server = RestServer(Predictor(EchoStore()), "127.0.0.1", 0, max_body_bytes=LIMIT, **options)
            server.start()
            stack.callback(server.stop, 0)
            return server

        yield start


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = RestServer(Predictor(EchoStore()), "127.0.0.1", 0, max_body_bytes=LIMIT, threads=4)
    server.start()
    yield server.port
    server.stop(0)


@pytest.mark.parametrize(("sent", "status", "closes"), [
    (b"GET  /v1/models/echo HTTP/1.1\r\n\r\n", 400, True),
    (b"GET /v1/models/echo HTTP/2.0\r\n\r\n", 400, True),
    (b"GET /v1/models/echo http/1.1\r\n\r\n", 400, True),
    (b"GET /\r\n\r\n", 400, True),
    (b"CONNECT example.org:80 HTTP/1.1\r\n\r\n", 501, True),
    (b"BREW /v1/models/echo HTTP/1.1\r\n\r\n", 501, True),
    (b"GET /v1/models/%zz HTTP/1.1\r\n\r\n", 400, True),
    (b"GET /v1/models/echo?a=[1] HTTP/1.1\r\n\r\n", 400, True),
    (b"GET //v1/models/echo HTTP/1.1\r\n\r\n", 404, True),
    (b"GET http://example.org/v1/models/echo HTTP/1.1\r\nProxy-Connection: keep-alive\r\n\r\n", 200, True),
    (b"GET /v1/models/echo HTTP/1.1\r\n folded first\r\n\r\n", 400, True),
    (b"GET /v1/models/echo HTTP/1.1\r\nX: a\r\n b\r\n\r\n", 200, False),
    (b"GET /v1/models/echo HTTP/1.1\r\nX: a\rb\r\n\r\n", 400, True),
    (b"GET /v1/models/echo HTTP/1.1\r\nConnection: keep-alive, close\r\n\r\n", 200, False),
    (ONE.replace(b"Content-Length: 20", b"Content-Length: -1"), 400, True),
    (ONE.replace(b"Content-Length: 20", b"Content-Length: twenty"), 400, True),
    (ONE.replace(b"Content-Length: 20", b"Content-Length: "), 400, True),
    (ONE.replace(b"Content-Length: 20", b"Content-Length: 0020"), 200, False),
    (ONE.replace(b"Content-Length: 20", b"Content-Length: 1048577"), 413, True),
    (ONE.replace(b"Content-Length: 20", b"Content-Length: " + b"9" * 5000), 413, True),
    (ONE.replace(b"Content-Length: 20\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n14 ;a=b\r\n") +
     b"\r\n0\r\nTrailer: x\r\n\r\n", 200, False),
    (ONE.replace(b"Content-Length: 20\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n14\r\n") +
     b"\r\n0\r\nno colon\r\n\r\n", 400, True),
    *((ONE.replace(b"Content-Length: 20\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n" + size + b"\r\n") +
       b"\r\n0\r\n\r\n", 200, False)
      for size in (b"0x14", b"0X14", b"+14", b" 14", b"\t+0x14", b"00014", b"14 ", b"14 anything")),
    *((ONE.replace(b"Content-Length: 20\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n" + size + b"\r\n"), 413, True)
      for size in (b"14;a=b", b"14\t;a=b", b"14;", b"-14", b"0x", b"x14", b"++14", b"1g", b";a=b", b"1" * 30)),
    (ONE.replace(b"Content-Length: 20\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n100001\r\n"), 413, True),
    (ONE.replace(b"Content-Length: 20", b"Transfer-Encoding: gzip, chunked"), 400, True),
    (b"GET /v1/models/" + b"n" * 900_000 + b" HTTP/1.1\r\n\r\n", 404, False),
    (b"GET /v1/models/" + b"n" * 1_100_000 + b" HTTP/1.1\r\n\r\n", 413, True),
    (b"GET /v1/models/echo HTTP/1.1\r\n" + b"X: y\r\n" * 200_000 + b"\r\n", 413, True),
])
def test_requests_and_their_answers(port: int, sent: bytes, status: int, closes: bool) -> None:
    with Wire(port) as wire:
        wire.send(sent)
        assert wire.read().status == status
        if closes:
            with pytest.raises(ClosedError):
                wire.read()
        else:
            assert not wire.is_closed()


def test_pipelined_requests_are_answered_in_order(port: int) -> None:
    with Wire(port) as wire:
        wire.send(b"".join(post(b'{"instances": [%d]}' % n) for n in range(300)))
        assert [wire.read().body for _ in range(300)] == [NUMBER % f"{n}.0".encode() for n in range(300)]


def test_without_uvloop(make: Callable[..., RestServer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    server = make()
    assert isinstance(server._loop, asyncio.SelectorEventLoop)
    with Wire(server.port) as wire:
        wire.send(ONE + GET + post(b"x" * (LIMIT + 1)))
        assert [wire.read().status for _ in range(3)] == [200, 200, 413]
    server.stop(1)


def test_a_request_may_come_byte_by_byte(port: int) -> None:
    with Wire(port) as wire:
        for n in range(len(ONE)):
            wire.send(ONE[n:n + 1])
        assert wire.read().body == NUMBER % b"1.0"


def test_whole_requests_are_answered_after_the_client_has_ended(port: int) -> None:
    with Wire(port) as wire:
        wire.send(ONE + GET)
        wire.socket.shutdown(socket.SHUT_WR)
        assert [wire.read().status, wire.read().status] == [200, 200]
        with pytest.raises(ClosedError):
            wire.read()


def test_a_refused_client_that_is_still_sending_can_read_the_answer(port: int) -> None:
    with Wire(port) as wire:
        wire.send(post(b"x").replace(b"Content-Length: 1", b"Content-Length: 99999999"))
        assert wire.read().status == 413
        with pytest.raises(ClosedError):
            wire.read()
        wire.send(b"x" * 300_000)


def test_answers_that_a_client_does_not_read_do_not_fill_the_memory(make: Callable[..., RestServer]) -> None:
    """With buffers of a known size in the kernel: by itself it takes as much as the machine's settings allow."""
    server = make(threads=2)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        server._listener.setsockopt(socket.SOL_SOCKET, option, 1 << 18)  # those of the connections it accepts
    body = b'{"instances": [' + b",".join([b"0.123456789"] * 20_000) + b"]}"
    total, sent = 0, threading.Event()
    with Wire(server.port) as wire:
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            wire.socket.setsockopt(socket.SOL_SOCKET, option, 1 << 18)
        wire.socket.settimeout(1)

        def send() -> None:
            nonlocal total
            try:
                for _ in range(400):
                    wire.socket.sendall(post(body))
                    total += 1
            except TimeoutError:
                pass
            sent.set()

        thread = threading.Thread(target=send)
        thread.start()
        assert sent.wait(60)
        thread.join()
    assert total < 100, "the server kept taking requests whose answers nobody read"


def cpu_s_of_a_hundred(port: int) -> float:
    """CPU seconds of this process, client and server, for a hundred answered requests: the least of five times."""
    seconds = []
    with Wire(port) as wire:
        for _ in range(5):
            began = time.process_time()
            for _ in range(100):
                wire.send(ONE)
                assert wire.read().status == 200
            seconds.append(time.process_time() - began)
    return min(seconds)


def test_a_thousand_idle_connections_and_slow_senders_do_not_stop_others(port: int) -> None:
    alone = cpu_s_of_a_hundred(port)
    with ExitStack() as stack:
        idle = [stack.enter_context(Wire(port)) for _ in range(900)]
        slow = [stack.enter_context(Wire(port)) for _ in range(100)]
        for n, wire in enumerate(slow):
            wire.send(ONE[:n + 1])
        beside_them = cpu_s_of_a_hundred(port)
        # The server runs in this process. Idle connections take no CPU time: polling each of them would show.
        assert beside_them < 10 * alone
        for wire in slow:
            wire.send(b"")
        for n, wire in enumerate(slow):
            wire.send(ONE[n + 1:])
            assert wire.read().status == 200
        idle[-1].send(GET)
        assert idle[-1].read().status == 200


PIECES = [
    b"GET ", b"POST ", b"HEAD ", b"/v1/models/echo", b":predict", b" HTTP/1.1", b" HTTP/1.0", b"\r\n", b"\n", b"\r",
    b"\r\n\r\n", b"Content-Length: ", b"20", b"-1", b"Transfer-Encoding: chunked", b"Expect: 100-continue",
    b"Connection: close", b"Connection: keep-alive", b"0\r\n\r\n", b"5\r\nhello\r\n", b'{"instances": [1.0]}', b" ",
    b":", b"\0", b"\xff", b"X: y", b"zz\r\n", b"http://a/b", b"%zz", b"?", b"#"]


def test_whatever_is_sent_is_answered_or_refused(port: int, caplog: pytest.LogCaptureFixture) -> None:
    chance = random.Random(5)
    for _ in range(1000):
        sent = [b"".join(chance.choices(PIECES, k=chance.randint(1, 25))) for _ in range(chance.randint(1, 3))]
        with Wire(port) as wire:
            for part in sent:
                wire.send(part)
            with suppress(OSError):  # refused and closed already
                wire.socket.shutdown(socket.SHUT_WR)
            answers = b""
            with suppress(ConnectionResetError):
                while piece := wire.socket.recv(1 << 16):
                    answers += piece
        assert not answers or answers.startswith(b"HTTP/1."), sent
        assert {"100", "200", "400", "404", "413", "417", "501"}.issuperset(
            re.findall(r"HTTP/1\.[01] (\d+) ", answers.decode("latin-1"))), sent
    assert not caplog.records


class Gate:
    """A handler that waits until the test releases it."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Event(), threading.Event()
        self.requests = 0

    def handle(self, request: Request) -> Response:
        self.requests += 1
        self.entered.set()
        assert self.open.wait(60)
        return Response(200, b"done", "text/plain")

    def on_event_loop(self, request: Request) -> None:
        return None


def test_stopping_answers_running_requests_and_accepts_no_new_ones(make: Callable[..., RestServer]) -> None:
    server, gate = make(threads=2), Gate()
    server._service.handler = gate
    with Wire(server.port) as busy, Wire(server.port) as idle:
        busy.send(GET)
        assert gate.entered.wait(60)
        stopping = threading.Thread(target=server.stop, args=(60,))
        stopping.start()
        with pytest.raises(ClosedError):
            idle.read()
        with pytest.raises(ConnectionRefusedError):
            Wire(server.port)
        gate.open.set()
        answer = busy.read()
        assert (answer.status, answer.body, answer.headers["connection"]) == (200, b"done", "close")
        stopping.join(60)
        assert not stopping.is_alive()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_stopping_answers_clients_that_have_connected_but_were_not_yet_accepted(
        make: Callable[..., RestServer], monkeypatch: pytest.MonkeyPatch, loop: str) -> None:
    if loop == "asyncio":
        monkeypatch.setitem(sys.modules, "uvloop", None)
    server, gate = make(), threading.Event()
    assert type(server._loop).__module__.startswith(loop)
    with ExitStack() as stack:
        early = stack.enter_context(Wire(server.port))  # accepted, but its request comes when the server stops
        server._loop.call_soon_threadsafe(gate.wait, 60)
        late = [stack.enter_context(Wire(server.port)) for _ in range(20)]
        stopping = threading.Thread(target=server.stop, args=(60,))
        stopping.start()
        for wire in (early, *late):
            wire.send(ONE)
        gate.set()
        for wire in (early, *late):
            assert wire.read().status == 200
            with pytest.raises(ClosedError):
                wire.read()
        stopping.join(60)
        assert not stopping.is_alive()


def test_a_request_whose_connection_is_lost_is_not_run(make: Callable[..., RestServer]) -> None:
    server, gate = make(threads=1), Gate()
    server._service.handler = gate
    with Wire(server.port) as first, Wire(server.port) as last:
        first.send(GET)
        assert gate.entered.wait(60)
        with Wire(server.port) as gone:
            gone.send(GET)
            until(lambda: server._service.workers._queue.qsize() == 1)
            gone.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closes with a reset
        until(lambda: len(server._service.connections) == 2)
        last.send(GET)
        gate.open.set()
        assert (first.read().body, last.read().body) == (b"done", b"done")
    assert gate.requests == 2


def test_stopping_does_not_wait_forever(make: Callable[..., RestServer]) -> None:
    server, gate = make(threads=1), Gate()
    server._service.handler = gate
    with Wire(server.port) as wire:
        wire.send(GET)
        assert gate.entered.wait(60)
        assert server.stop(0.1) == 1
        with pytest.raises(ClosedError):
            wire.read()
        gate.open.set()


def test_connections_without_a_request_are_not_cut(make: Callable[..., RestServer]) -> None:
    server = make()
    with Wire(server.port) as answered, Wire(server.port):
        answered.send(GET)
        assert answered.read().status == 200
        assert server.stop(5) == 0


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.skipif(sys.platform != "linux", reason="reads the state that Linux gives a reset connection")
def test_a_request_of_a_client_that_reset_the_connection_is_not_run(
        make: Callable[..., RestServer], monkeypatch: pytest.MonkeyPatch, loop: str) -> None:
    if loop == "asyncio":
        monkeypatch.setitem(sys.modules, "uvloop", None)
    server, gate = make(threads=1), Gate()
    server._service.handler = gate
    with Wire(server.port) as first, Wire(server.port) as last:
        first.send(GET)
        assert gate.entered.wait(60)
        with Wire(server.port) as gone:
            gone.send(GET)
            gone.socket.shutdown(socket.SHUT_WR)
            until(lambda: any(connection.ended for connection in server._service.connections))
            gone.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closes with a reset
        last.send(GET)
        until(lambda: server._service.workers._queue.qsize() == 2)
        gate.open.set()
        assert (first.read().body, last.read().body) == (b"done", b"done")
        until(lambda: len(server._service.connections) == 2)
    assert gate.requests == 2


def test_a_port_in_use_raises_an_error_in_the_callers_thread(port: int) -> None:
    with pytest.raises(OSError, match="in use"):
        RestServer(Predictor(EchoStore()), "127.0.0.1", port).start()
