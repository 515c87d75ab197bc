"""HTTP/1.1 on asyncio, behaving as libevent's server does under TensorFlow Serving.

It agrees in what clients can see: which malformed requests are answered 400 and closed, 501 for unknown methods,
417, Expect: 100-continue, chunked bodies, when a connection stays open. Requests on one connection are answered one
after the other; a handler runs in a worker thread unless the request is known to be quick.
"""
import asyncio
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from http import HTTPStatus
from queue import SimpleQueue
from time import perf_counter
from typing import Any, Protocol

from serving.http_message import (
    BODILESS_METHODS,
    METHODS,
    BadRequestError,
    Request,
    Response,
    add_header,
    chunk_size,
    content_length,
    head_and_body,
    page,
    request_line,
    resolve_target,
)

_MAX_HEAD_BYTES = 1 << 20
_READ_AHEAD = 1 << 16
_LINGER_S = 2.0
# A request may be on its way: if the connection is closed before it arrives, the client sees a reset, a failure.
_FIRST_REQUEST_S = 0.25


class Handler(Protocol):
    """What answers requests."""

    def handle(self, request: Request) -> Response:
        """The answer, however long it takes. Called in a worker thread."""

    def on_event_loop(self, request: Request) -> Response | None:
        """The answer if the request is known to be quick, else None. Called on the event loop, which it blocks."""


class _State(Enum):
    LINE = 1
    HEADERS = 2
    BODY = 3
    CHUNK_SIZE = 4
    CHUNK = 5
    TRAILER = 6
    BUSY = 7
    CLOSING = 8


class Workers:
    """Threads that run handlers. Cheaper than an executor: there is no future to hold a result."""

    def __init__(self, count: int) -> None:
        self._queue: SimpleQueue[tuple[Callable[[Request], None], Request] | None] = SimpleQueue()
        self._count = count
        for n in range(count):
            threading.Thread(target=self._run, name=f"rest-{n}", daemon=True).start()

    def submit(self, work: Callable[[Request], None], request: Request) -> None:
        self._queue.put((work, request))

    def stop(self) -> None:
        """Ends the threads once all submitted work is done."""
        for _ in range(self._count):
            self._queue.put(None)

    def _run(self) -> None:
        while task := self._queue.get():
            work, request = task
            work(request)


@dataclass(slots=True)
class Service:
    """What the connections of a server share."""

    handler: Handler
    workers: "Workers"
    loop: asyncio.AbstractEventLoop
    max_body_bytes: int
    connections: "set[Connection]" = field(default_factory=set)
    draining: bool = False


def _is_reset(transport: Any) -> bool:
    """Whether a client that has closed its sending side is known to have gone entirely (a reset).

    The event loop no longer watches such a connection. Before something is written, an orderly close of both sides
    cannot be distinguished from a close of the sending side alone.
    """
    if not hasattr(select, "poll"):
        return False
    look = select.poll()
    try:
        look.register(transport.get_extra_info("socket").fileno(), 0)  # errors are reported, asked for or not
        return any(events & (select.POLLERR | select.POLLHUP | select.POLLNVAL) for _, events in look.poll(0))
    except (OSError, ValueError):  # closed at this moment
        return True


class Connection(asyncio.Protocol):  # decision 43
    """One connection: reads a request, has it handled, writes the answer, and so on."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.transport: Any = None
        self.buffer = bytearray()
        self.state = _State.LINE
        self.request = Request("", "")
        self.unused: Request | None = self.request
        self.headers: list[tuple[str, str]] = []
        self.head_bytes = 0
        self.body: list[bytes] = []
        self.body_bytes = 0
        self.wanted = 0
        self.reading = True
        self.blocked = False
        self.ended = False
        self.arrived = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.service.connections.add(self)
        if self.service.draining:
            self.drain()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self.service.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        if self.state is _State.CLOSING:
            return  # the rest of a refused request
        self.arrived = perf_counter()
        if self.state is _State.BODY and not self.buffer and len(data) < self.wanted:
            self.keep(data)
            return
        self.buffer += data
        if self.state is not _State.BUSY and not self.blocked:
            self.proceed()
        elif len(self.buffer) > _READ_AHEAD:
            self.pause()

    def pause_writing(self) -> None:
        # The client sends requests faster than it reads the answers: its next request waits.
        self.blocked = True

    def resume_writing(self) -> None:
        self.blocked = False
        self.resume()
        if self.state is not _State.BUSY:
            self.proceed()

    def eof_received(self) -> bool:
        # Complete requests are still answered; an incomplete one is dropped, as by libevent.
        self.ended = True
        return self.state is _State.BUSY and bool(self.transport.can_write_eof())

    def pause(self) -> None:
        if self.reading:
            self.reading = False
            self.transport.pause_reading()

    def resume(self) -> None:
        if not self.reading and not self.transport.is_closing():
            self.reading = True
            self.transport.resume_reading()

    def proceed(self) -> None:
        """Processes as much of the buffer as possible."""
        try:
            while self.step():
                pass
        except BadRequestError as error:
            self.answer(page(error.status))

    def step(self) -> bool:
        """One step of the state machine; False when it needs more data, or the end of a handler."""
        match self.state:
            case _State.BODY | _State.CHUNK:
                return self.read_body()
            case _State.BUSY | _State.CLOSING:
                return False
        line = self.take_line()
        if line is None:
            return False
        match self.state:
            case _State.LINE:
                self.request = request_line(line)
                self.headers.clear()
                self.state = _State.HEADERS
                self.take_whole_head()
            case _State.HEADERS | _State.TRAILER if line:
                add_header(self.headers, line)
            case _State.HEADERS:
                self.head_done()
            case _State.TRAILER:
                self.dispatch()
            case _State.CHUNK_SIZE if size := line.partition("\0")[0]:
                self.chunk(size)
        return True

    def take_line(self) -> str | None:
        end = self.buffer.find(b"\n")
        size = end + 1 if end >= 0 else len(self.buffer)
        if self.head_bytes + size > _MAX_HEAD_BYTES:
            raise BadRequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        if end < 0:
            return None
        self.head_bytes += size
        line = bytes(self.buffer[:end])
        del self.buffer[:size]
        return (line[:-1] if line.endswith(b"\r") else line).decode("latin-1")

    def take_whole_head(self) -> None:
        """Reads all headers in one step in the usual case: they have all arrived, and each line ends with CR LF."""
        end = self.buffer.find(b"\r\n\r\n", 0, _MAX_HEAD_BYTES - self.head_bytes - 4)
        if end < 0 or self.buffer.count(b"\n", 0, end) != self.buffer.count(b"\r\n", 0, end):
            return
        lines = self.buffer[:end].decode("latin-1").split("\r\n")
        if "" in lines:
            return
        for line in lines:
            add_header(self.headers, line)
        del self.buffer[:end + 2]
        self.head_bytes += end + 2

    def head_done(self) -> None:
        request = self.request
        request.headers = {name.lower(): value for name, value in reversed(self.headers)}
        self.body, self.body_bytes = [], 0
        if request.method not in METHODS or request.method in BODILESS_METHODS:
            return self.dispatch()
        coding, length = request.headers.get("transfer-encoding"), request.headers.get("content-length")
        if coding is not None:
            if coding.lower() != "chunked" or length is not None:
                raise BadRequestError
            self.wanted = -1
        else:
            self.wanted = content_length(length)
            if self.wanted == 0:
                return self.dispatch()
            if self.wanted > self.service.max_body_bytes:
                raise BadRequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        expected = request.headers.get("expect") if request.minor > 0 else None
        if expected is not None:
            if expected.lower() != "100-continue":
                raise BadRequestError(HTTPStatus.EXPECTATION_FAILED)
            if not self.buffer:
                self.transport.write(b"HTTP/1.%d 100 Continue\r\n\r\n" % request.minor)
        self.state = _State.CHUNK_SIZE if self.wanted < 0 else _State.BODY
        return None

    def chunk(self, line: str) -> None:
        size = chunk_size(line)
        # libevent answers 413 to a size that is not a number, too.
        if size is None or self.body_bytes + size > self.service.max_body_bytes:
            raise BadRequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        self.head_bytes = 0
        self.wanted = size
        if self.wanted == 0:
            self.headers.clear()
        self.state = _State.CHUNK if self.wanted else _State.TRAILER

    def read_body(self) -> bool:
        if not self.buffer:
            return False
        piece = bytes(memoryview(self.buffer)[:self.wanted])
        del self.buffer[:self.wanted]
        self.keep(piece)
        if self.wanted:
            return False
        if self.state is _State.CHUNK:
            self.state = _State.CHUNK_SIZE
        else:
            self.dispatch()
        return True

    def keep(self, piece: bytes) -> None:
        self.body.append(piece)
        self.body_bytes += len(piece)
        self.wanted -= len(piece)

    def dispatch(self) -> None:
        request = self.request
        if request.method not in METHODS:
            raise BadRequestError(HTTPStatus.NOT_IMPLEMENTED)
        resolve_target(request)
        request.body = self.body[0] if len(self.body) == 1 else b"".join(self.body)
        self.body = []
        self.state = _State.BUSY
        # The arrival of its last byte, not the current time: it may have waited behind others on this connection.
        request.came = self.arrived
        # So that the event loop serves other connections between pipelined requests that arrived together.
        response = None if self.buffer else self.service.handler.on_event_loop(request)
        if response is not None:
            self.answer(response)
            return
        if len(self.buffer) > _READ_AHEAD:
            self.pause()
        self.service.workers.submit(self.work, request)

    def work(self, request: Request) -> None:
        """Handles a request in a worker thread, unless its connection has been lost meanwhile."""
        if self.transport.is_closing():
            return
        if self.ended and _is_reset(self.transport):
            self.service.loop.call_soon_threadsafe(self.transport.abort)
            return
        response = self.service.handler.handle(request)
        with suppress(RuntimeError):  # the server has stopped, and did not wait for this one
            self.service.loop.call_soon_threadsafe(self.answer, response)

    def answer(self, response: Response) -> None:
        """Sends an answer and processes what has arrived meanwhile."""
        request, service = self.request, self.service
        if service.draining:
            response.close = True
        keeps = request.keeps_connection and not response.close
        if not self.transport.is_closing():
            self.transport.writelines(head_and_body(request, response, keeps))
        self.request = Request("", "")
        self.head_bytes = 0
        if not keeps:
            self.finish()
            return
        self.state = _State.LINE
        if not self.blocked:
            self.resume()
            if self.buffer:
                self.proceed()
        if self.ended and self.state is not _State.BUSY:
            self.transport.close()

    def finish(self) -> None:
        """Closes the connection so that a client which is still sending can read the answer first."""
        unread = self.state is not _State.BUSY or self.buffer
        self.state = _State.CLOSING
        self.buffer.clear()
        if unread and not self.ended and self.transport.can_write_eof():
            self.resume()
            self.transport.write_eof()
            self.service.loop.call_later(_LINGER_S, self.transport.close)
        else:
            self.transport.close()

    @property
    def cut(self) -> bool:
        """Whether a request, or its answer, is lost when the connection is closed now."""
        if self.state is _State.BUSY or self.transport.get_write_buffer_size():
            return True
        return self.state is not _State.CLOSING and (self.state is not _State.LINE or bool(self.buffer))

    def drain(self) -> None:
        """Closes the connection: now if it is idle, else after its answer, or soon if no request has come yet."""
        if self.request is self.unused:
            self.unused = None
            self.service.loop.call_later(_FIRST_REQUEST_S, self.drain)
        elif self.state in (_State.LINE, _State.CLOSING) and not self.buffer:
            self.transport.close()
