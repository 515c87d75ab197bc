"""HTTP/1.1 on asyncio, behaving as libevent's server does under TensorFlow Serving.

What counts is what clients can see: which malformed requests are answered 400 and closed, 501 for unknown
methods, 417, Expect: 100-continue, chunked bodies, when a connection stays open. Requests on one connection are
answered one after the other; a handler runs in a worker thread and never blocks the event loop.
"""
import asyncio
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.utils import formatdate
from enum import Enum
from http import HTTPStatus
from typing import Any

_METHODS = {"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"}
_BODILESS_METHODS = {"HEAD"}
_SHORTEST_REQUEST_LINE = len("GET / HTTP/1.0")
_VERSION = re.compile(r"HTTP/(\d+)\.(\d+)")
_LENGTH = re.compile(r"\s*[+-]?\d+")
_CHUNK_SIZE = re.compile(r"([0-9A-Fa-f]+)(?:[ ;].*)?", re.S)
_CHARACTER = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})"
_URI = re.compile(rf"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*):)?(?://(?P<host>[^/?#]*))?"
                  rf"(?P<path>{_CHARACTER}*)(?:\?(?:{_CHARACTER}|\?)*)?(?:#(?:{_CHARACTER}|\?)*)?")
_MAX_HEAD_BYTES = 1 << 20
_MAX_LENGTH = 2**63 - 1
_READ_AHEAD = 1 << 16
_LINGER_S = 2.0
_DEFAULT_TYPE = "text/html; charset=ISO-8859-1"
_PAGE = "<HTML><HEAD>\n<TITLE>{0} {1}</TITLE>\n</HEAD><BODY>\n<H1>{1}</H1>\n</BODY></HTML>\n"


@dataclass(slots=True)
class Request:
    """One request; `headers` has lower-case names and the first value of each."""

    method: str
    target: str
    minor: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    proxied: bool = False
    peer: str = ""

    @property
    def keeps_connection(self) -> bool:
        if self.proxied:
            return self.headers.get("proxy-connection", "").lower() == "keep-alive"
        connection = self.headers.get("connection", "").lower()
        return connection == "keep-alive" if self.minor == 0 else connection != "close"

    @property
    def asks_to_close(self) -> bool:
        return not self.proxied and self.headers.get("connection", "").lower() == "close"


@dataclass(slots=True)
class Response:
    """What is sent back. `close` ends the connection after it."""

    status: int
    body: bytes = b""
    content_type: str = _DEFAULT_TYPE
    headers: tuple[tuple[str, str], ...] = ()
    close: bool = False


Handler = Callable[[Request], Response]


def page(status: int) -> Response:
    """libevent's own page for an error; it always closes the connection."""
    return Response(status, _PAGE.format(status, _reason(status)).encode(), "text/html", close=True)


def _reason(status: int) -> str:
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return "Request Entity Too Large"
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Client Error" if status < 500 else "Server Error"


class _State(Enum):
    LINE = 1
    HEADERS = 2
    BODY = 3
    CHUNK_SIZE = 4
    CHUNK = 5
    TRAILER = 6
    BUSY = 7
    CLOSING = 8


class _BadRequestError(Exception):
    def __init__(self, status: int = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(status)
        self.status = status


@dataclass(slots=True)
class Service:
    """What the connections of a server share."""

    handler: Handler
    executor: ThreadPoolExecutor
    loop: asyncio.AbstractEventLoop
    max_body_bytes: int
    connections: "set[Connection]" = field(default_factory=set)
    draining: bool = False


class Connection(asyncio.Protocol):
    """One connection: reads a request, has it handled, writes the answer, and so on."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.transport: Any = None
        self.buffer = bytearray()
        self.state = _State.LINE
        self.request = Request("", "")
        self.headers: list[tuple[str, str]] = []
        self.head_bytes = 0
        self.body: list[bytes] = []
        self.body_bytes = 0
        self.wanted = 0
        self.reading = True
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.service.connections.add(self)
        if self.service.draining:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self.service.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        if self.state is _State.CLOSING:
            return  # what a refused client is still sending
        self.buffer += data
        if self.state is not _State.BUSY:
            self.proceed()
        elif len(self.buffer) > _READ_AHEAD:
            self.pause()

    def eof_received(self) -> bool:
        # Answers to whole requests are still sent; a request that is not complete is dropped, as by libevent.
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
        """Goes as far as the buffer allows."""
        try:
            while self.step():
                pass
        except _BadRequestError as error:
            self.answer(page(error.status))

    def step(self) -> bool:
        """One step of the state; False when more data, or the end of a handler, is needed."""
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
                self.request = _request_line(line)
                self.headers.clear()
                self.state = _State.HEADERS
            case _State.HEADERS | _State.TRAILER if line:
                _add_header(self.headers, line)
            case _State.HEADERS:
                self.head_done()
            case _State.TRAILER:
                self.dispatch()
            case _State.CHUNK_SIZE if line:
                self.chunk(line)
        return True

    def take_line(self) -> str | None:
        end = self.buffer.find(b"\n")
        size = end + 1 if end >= 0 else len(self.buffer)
        if self.head_bytes + size > _MAX_HEAD_BYTES:
            raise _BadRequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        if end < 0:
            return None
        self.head_bytes += size
        line = bytes(self.buffer[:end])
        del self.buffer[:size]
        return (line[:-1] if line.endswith(b"\r") else line).decode("latin-1")

    def head_done(self) -> None:
        request = self.request
        request.headers = {name.lower(): value for name, value in reversed(self.headers)}
        self.body, self.body_bytes = [], 0
        if request.method not in _METHODS or request.method in _BODILESS_METHODS:
            return self.dispatch()
        coding, length = request.headers.get("transfer-encoding"), request.headers.get("content-length")
        if coding is not None:
            if coding.lower() != "chunked" or length is not None:
                raise _BadRequestError
            self.wanted = -1
        else:
            self.wanted = _content_length(length)
            if self.wanted == 0:
                return self.dispatch()
            if self.wanted > self.service.max_body_bytes:
                raise _BadRequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        expected = request.headers.get("expect") if request.minor > 0 else None
        if expected is not None:
            if expected.lower() != "100-continue":
                raise _BadRequestError(HTTPStatus.EXPECTATION_FAILED)
            if not self.buffer:
                self.transport.write(b"HTTP/1.%d 100 Continue\r\n\r\n" % request.minor)
        self.state = _State.CHUNK_SIZE if self.wanted < 0 else _State.BODY
        return None

    def chunk(self, line: str) -> None:
        size = _CHUNK_SIZE.fullmatch(line.partition("\0")[0])
        # libevent answers 413 to a size that is no number, too.
        if not size or self.body_bytes + int(size[1], 16) > self.service.max_body_bytes:
            raise _BadRequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        self.head_bytes = 0
        self.wanted = int(size[1], 16)
        if self.wanted == 0:
            self.headers.clear()
        self.state = _State.CHUNK if self.wanted else _State.TRAILER

    def read_body(self) -> bool:
        if not self.buffer:
            return False
        if len(self.buffer) <= self.wanted:
            piece = bytes(self.buffer)
            self.buffer = bytearray()
        else:
            piece = bytes(self.buffer[:self.wanted])
            del self.buffer[:self.wanted]
        self.body.append(piece)
        self.body_bytes += len(piece)
        self.wanted -= len(piece)
        if self.wanted:
            return False
        if self.state is _State.CHUNK:
            self.state = _State.CHUNK_SIZE
        else:
            self.dispatch()
        return True

    def dispatch(self) -> None:
        request = self.request
        if request.method not in _METHODS:
            raise _BadRequestError(HTTPStatus.NOT_IMPLEMENTED)
        uri = _URI.fullmatch(request.target)
        if not uri:
            raise _BadRequestError
        request.target = request.target[uri.start("path"):]
        request.proxied = (uri["scheme"] or "").lower() in ("http", "https") and bool(uri["host"])
        request.body = self.body[0] if len(self.body) == 1 else b"".join(self.body)
        self.body = []
        self.state = _State.BUSY
        if len(self.buffer) > _READ_AHEAD:
            self.pause()
        self.service.executor.submit(self.work, request)

    def work(self, request: Request) -> None:
        """In a worker thread."""
        response = self.service.handler(request)
        self.service.loop.call_soon_threadsafe(self.answer, response)

    def answer(self, response: Response) -> None:
        """Sends an answer and goes on with what has come in meanwhile."""
        request, service = self.request, self.service
        if service.draining:
            response.close = True
        keeps = request.keeps_connection and not response.close
        if not self.transport.is_closing():
            self.transport.writelines(_head_and_body(request, response, keeps))
        self.request = Request("", "")
        self.head_bytes = 0
        if not keeps:
            self.finish()
            return
        self.state = _State.LINE
        self.resume()
        if self.buffer:
            self.proceed()
        if self.ended and self.state is not _State.BUSY:
            self.transport.close()

    def finish(self) -> None:
        """Closes in a way that lets a client which is still sending read the answer first."""
        unread = self.state is not _State.BUSY or self.buffer
        self.state = _State.CLOSING
        self.buffer.clear()
        if unread and not self.ended and self.transport.can_write_eof():
            self.resume()
            self.transport.write_eof()
            self.service.loop.call_later(_LINGER_S, self.transport.close)
        else:
            self.transport.close()

    def drain(self) -> None:
        """Closes the connection now if it is idle, else after its answer."""
        if self.state in (_State.LINE, _State.CLOSING) and not self.buffer:
            self.transport.close()


def _request_line(line: str) -> Request:
    line = line.partition("\0")[0].rstrip(" ")
    method, _, rest = line.partition(" ")
    target, _, version = rest.rpartition(" ")
    found = _VERSION.fullmatch(version)
    if len(line) < _SHORTEST_REQUEST_LINE or not target or not found or int(found[1]) > 1:
        raise _BadRequestError
    return Request(method, target, int(found[2]) if found[1] != "0" else 0)


def _add_header(headers: list[tuple[str, str]], line: str) -> None:
    line = line.partition("\0")[0]
    if line[:1] in (" ", "\t"):
        if not headers:
            raise _BadRequestError
        name, value = headers[-1]
        headers[-1] = (name, value + " " + line.strip(" \t"))
        return
    name, colon, value = line.partition(":")
    if not colon:
        raise _BadRequestError
    headers.append((name, value.lstrip(" ").rstrip(" \t")))


def _content_length(text: str | None) -> int:
    if text is None:
        return 0
    if not _LENGTH.fullmatch(text) or not 0 <= int(text) <= _MAX_LENGTH:
        raise _BadRequestError
    return int(text)


def _head_and_body(request: Request, response: Response, keeps: bool) -> list[bytes]:
    has_body = request.method != "HEAD" and response.status not in (204, 304)
    lines = [f"HTTP/1.{request.minor} {response.status} {_reason(response.status)}"]
    if has_body or response.content_type != _DEFAULT_TYPE:
        lines.append(f"Content-Type: {response.content_type}")
    lines += [f"{name}: {value}" for name, value in response.headers]
    if request.minor:
        lines.append(f"Date: {_date()}")
    if has_body and (request.minor or keeps):
        lines.append(f"Content-Length: {len(response.body)}")
    if response.close or request.asks_to_close:
        lines.append("Connection: close")
    elif keeps and not request.minor:
        lines.append("Connection: keep-alive")
    return ["\r\n".join([*lines, "\r\n"]).encode("latin-1"), response.body if has_body else b""]


_dates: dict[int, str] = {}


def _date() -> str:
    now = int(time.time())
    if now not in _dates:
        _dates.clear()
        _dates[now] = formatdate(now, usegmt=True)
    return _dates[now]
