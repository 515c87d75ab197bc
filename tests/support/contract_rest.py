"""Sends one recorded REST case over a plain socket, and lists how the answer differs from the recorded one.

A plain socket, since an HTTP library would refuse or change most of the requests.
"""
import base64
import json
import re
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

_PROBE = b"GET /v1/models/probe HTTP/1.1\r\nHost: probe\r\n\r\n"


class ClosedError(Exception):
    """The server has closed the connection."""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes = b""
    interim: list[int] = field(default_factory=list)


class Wire:
    """A connection that sends bytes and reads HTTP answers one after another."""

    def __init__(self, port: int, timeout_s: float = 60) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # earlier answers can still be read
            self.socket.sendall(data)

    def read_head(self) -> Answer:
        head = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        fields = [line.partition(":") for line in head[1:]]
        return Answer(int(head[0].split(" ")[1]), {name.lower(): value.strip() for name, _, value in fields})

    def read(self, method: str = "GET") -> Answer:
        """The next answer; raises ClosedError when there is none."""
        interim: list[int] = []
        answer = self.read_head()
        while answer.status < 200:
            interim.append(answer.status)
            answer = self.read_head()
        answer.interim = interim
        if method == "HEAD":
            return answer
        if "content-length" in answer.headers:
            answer.body = self._take(int(answer.headers["content-length"]))
        else:
            while self._more():
                pass
            answer.body, self.buffer = self.buffer, b""
        return answer

    def is_closed(self) -> bool:
        """Whether the server has closed the connection: another request gets no answer."""
        self.send(_PROBE)
        try:
            self.read()
        except ClosedError:
            return True
        return False

    def _more(self) -> bool:
        try:
            piece = self.socket.recv(1 << 20)
        except ConnectionResetError:
            piece = b""
        self.buffer += piece
        return bool(piece)

    def _until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            if not self._more():
                raise ClosedError(f"closed after {self.buffer[:200]!r}")
        found, self.buffer = self.buffer.split(mark, 1)
        return found

    def _take(self, size: int) -> bytes:
        while len(self.buffer) < size:
            if not self._more():
                raise ClosedError(f"closed {size - len(self.buffer)} bytes before the end of the body")
        found, self.buffer = self.buffer[:size], self.buffer[size:]
        return found


def body_of(case: dict[str, Any]) -> bytes | None:
    """The request's body: recorded as base64, or generated from [head, unit, count, separator, tail]."""
    if "body_gen" in case:
        head, unit, count, separator, tail = case["body_gen"]
        return f"{head}{separator.join([unit] * count)}{tail}".encode()
    return base64.b64decode(case["body_b64"]) if "body_b64" in case else None


def request_bytes(case: dict[str, Any], port: int) -> bytes:
    """The request of a case as bytes; unless the case says otherwise, with `Connection: close`."""
    body = body_of(case)
    headers = {"Host": f"127.0.0.1:{port}", "Connection": "close"}
    if body is not None:
        headers["Content-Length"] = str(len(body))
    headers |= case.get("headers", {})
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{case['method']} {case['path']} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + (body or b"")


def ask(case: dict[str, Any], port: int) -> Answer:
    """The answer to a case of one request."""
    with Wire(port) as wire:
        wire.send(request_bytes(case, port))
        return wire.read(case["method"])


def differences(expected: dict[str, Any], answer: Answer) -> list[str]:
    """Descriptions of what is not as recorded: status, recorded headers, content type, body bytes."""
    found = []
    if answer.status != expected["status"]:
        found.append(f"status {answer.status}, not {expected['status']}")
    if answer.headers.get("content-type") != expected.get("content_type"):
        found.append(f"content type {answer.headers.get('content-type')}, not {expected.get('content_type')}")
    for name, value in expected.get("headers", {}).items():
        if answer.headers.get(name.lower()) != value:
            found.append(f"{name}: {answer.headers.get(name.lower())}, not {value}")
    if "interim" in expected and answer.interim != expected["interim"]:
        found.append(f"interim answers {answer.interim}, not {expected['interim']}")
    body, wanted = _without_debug_mark(answer.body), _without_debug_mark(base64.b64decode(expected["body_b64"]))
    if body != wanted and not (expected.get("any_order") and json.loads(body) == json.loads(wanted)):
        found.append(f"body {body!r}\n     not {wanted!r}")
    return found


def _without_debug_mark(body: bytes) -> bytes:
    # protobuf marks its debug strings differently in each process.
    return re.sub(rb"goo\.gle/debug[a-z]+ *(\\n|\n)?", b"", body)
