"""HTTP/1.1 messages: the lines of a request read as libevent reads them, an answer written as it writes it."""
import re
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus

METHODS = {"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"}
BODILESS_METHODS = {"HEAD"}
_SHORTEST_REQUEST_LINE = len("GET / HTTP/1.0")
_VERSION = re.compile(r"HTTP/(\d{1,9})\.(\d{1,9})")
_STRAY_RETURN = re.compile(r"\r(?![ \t\r])")
_LENGTH = re.compile(r"\s*[+-]?\d+")
# What C's strtoll reads in base 16, then the end or a space; a line of white space alone is read as 0.
_CHUNK_SIZE = re.compile(r"[ \t\v\f\r]*([+-]?)(?:0[xX](?=[0-9A-Fa-f]))?([0-9A-Fa-f]+)(?: .*)?| .*", re.S)
_CHARACTER = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})"
_URI = re.compile(rf"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*):)?(?://(?P<host>[^/?#]*))?"
                  rf"(?P<path>{_CHARACTER}*)(?:\?(?:{_CHARACTER}|\?)*)?(?:#(?:{_CHARACTER}|\?)*)?")
_LONGEST_LENGTH = 20  # digits; a longer number is too large anyway, and int() refuses thousands of digits
_DEFAULT_TYPE = "text/html; charset=ISO-8859-1"
_PAGE = "<HTML><HEAD>\n<TITLE>{0} {1}</TITLE>\n</HEAD><BODY>\n<H1>{1}</H1>\n</BODY></HTML>\n"


class BadRequestError(Exception):
    """A request that is answered with an error page of this status; then the connection is closed."""

    def __init__(self, status: int = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(status)
        self.status = status


@dataclass(slots=True)
class Request:
    """One request; `headers` has lower-case names and the first value of each.

    `came` is when its last byte arrived, in seconds of time.perf_counter, if its headers ask for server timing.
    """

    method: str
    target: str
    minor: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    proxied: bool = False
    peer: str = ""
    came: float = 0.0

    @property
    def keeps_connection(self) -> bool:
        connection = self.headers.get("connection", "").lower()
        # libevent also looks for Proxy-Connection, but in its own answer, which never has it.
        return not self.proxied and (connection == "keep-alive" if self.minor == 0 else connection != "close")

    @property
    def asks_to_close(self) -> bool:
        return not self.proxied and self.headers.get("connection", "").lower() == "close"


@dataclass(slots=True)
class Response:
    """An answer. `close`: the connection is closed after it."""

    status: int
    body: bytes = b""
    content_type: str = _DEFAULT_TYPE
    headers: tuple[tuple[str, str], ...] = ()
    close: bool = False


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


def request_line(line: str) -> Request:  # decision 43
    """The method, target and version of a request's first line."""
    line = line.partition("\0")[0].rstrip(" ")
    method, _, rest = line.partition(" ")
    target, _, version = rest.rpartition(" ")
    found = _VERSION.fullmatch(version)
    if len(line) < _SHORTEST_REQUEST_LINE or not target or not found or int(found[1]) > 1:
        raise BadRequestError
    return Request(method, target, int(found[2]) if found[1] != "0" else 0)


def add_header(headers: list[tuple[str, str]], line: str) -> None:
    """Adds a header line, or a continuation of the last one."""
    line = line.partition("\0")[0]
    if line[:1] in (" ", "\t"):
        if not headers:
            raise BadRequestError
        name, value = headers[-1]
        headers[-1] = (name, value + " " + line.strip(" \t"))
        return
    name, colon, value = line.partition(":")
    if not colon or "\r" in name or _STRAY_RETURN.search(value):
        raise BadRequestError
    headers.append((name, value.lstrip(" ").rstrip(" \t")))


def resolve_target(request: Request) -> None:
    """Reduces the target to path, query and fragment: a proxy request's scheme and host are dropped."""
    uri = _URI.fullmatch(request.target)
    if not uri:
        raise BadRequestError
    request.target = request.target[uri.start("path"):]
    request.proxied = (uri["scheme"] or "").lower() in ("http", "https") and bool(uri["host"])


def content_length(text: str | None) -> int:
    """The number of bytes that a Content-Length header announces."""
    if text is None:
        return 0
    if not _LENGTH.fullmatch(text) or (length := int(text.strip()[:_LONGEST_LENGTH])) < 0:
        raise BadRequestError
    return length


def chunk_size(line: str) -> int | None:
    """The size in a chunk's first line; None if it is not a size. An extension must follow a space."""
    found = _CHUNK_SIZE.fullmatch(line)
    if not found:
        return None
    size = int(found[2] or "0", 16)
    return None if size and found[1] == "-" else size


def head_and_body(request: Request, response: Response, keeps: bool) -> tuple[bytes, bytes]:
    """The bytes of an answer; `keeps`: the connection stays open."""
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
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1"), response.body if has_body else b""


_dates: dict[int, str] = {}


def _date() -> str:
    now = int(time.time())
    if now not in _dates:
        _dates.clear()
        _dates[now] = formatdate(now, usegmt=True)
    return _dates[now]
