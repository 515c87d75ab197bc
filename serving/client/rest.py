"""The REST API for clients, and `RestClient`, the client for measurements.

Of Python's HTTP libraries http.client uses the least CPU time per request, so it disturbs a measurement on the same
machine the least (`requests` sends a tenth as many requests per CPU-second).
"""
import http.client
import json
import platform
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import SplitResult, quote, urlsplit

from serving.client import json_codec
from serving.client.payloads import Array, Arrays
from serving.client.protocol import (
    ANSWER_TIMEOUT_S,
    CONNECT_TIMEOUT_S,
    AnswerError,
    Metadata,
    Tls,
    UnreachableError,
    VersionStatus,
    predict,
)
from serving.timing import ANSWER_HEADER, read
from user_error import UserError


@dataclass(frozen=True)
class Request:
    path: str
    body: bytes


class RestApi(ABC):
    """TensorFlow Serving's REST API and KServe's V1 protocol as a `Client`; subclasses implement `_exchange`.

    `address` is "host:port" or a URL; a path in it is put before /v1/models (as gateways need). `headers` are sent with
    every request. `layout` "row" sends {"instances"} if all inputs have the batch as first axis, and {"inputs"}
    otherwise; "column" always sends {"inputs"}. `metadata` is for servers that do not report it (most KServe runtimes).
    """
    measured_by: str

    def __init__(self, address: str, model: str, version: int | None = None, label: str | None = None, *,
                 headers: Mapping[str, str] | None = None, layout: str = "row",
                 metadata: Metadata | None = None) -> None:
        self.model = model
        self._url = parse_address(address)
        self._headers = {"Content-Type": "application/json", **(headers or {})}
        self._layout = layout
        self._path = f"{self._url.path.rstrip('/')}/v1/models/{quote(model, safe='')}{version_path(version, label)}"
        self._metadata = metadata
        self._metadata_given = metadata is not None

    def prepare(self, inputs: Arrays, signature_name: str = "") -> Request:
        return Request(f"{self._path}:predict", json_codec.request_body(inputs, signature_name, self._layout))

    def send(self, request: Request) -> bytes:
        return self._exchange("POST", request.path, request.body)

    def decode(self, raw: bytes, signature_name: str = "") -> dict[str, Array]:
        metadata = self._metadata or self.metadata()
        return json_codec.outputs(raw, metadata.signature(signature_name).outputs)

    def predict(self, inputs: Arrays, signature_name: str = "") -> dict[str, Array]:
        return predict(self, inputs, signature_name)

    def metadata(self) -> Metadata:
        """The metadata given to the client, or else what the server reports."""
        if not self._metadata_given:
            self._metadata = json_codec.metadata(self._exchange("GET", f"{self._path}/metadata"))
        assert self._metadata is not None
        return self._metadata

    def status(self) -> tuple[VersionStatus, ...]:
        return json_codec.status(self._exchange("GET", self._path))

    def models(self) -> dict[str, tuple[int, ...]]:
        """The models on the server, each with the versions that answer, the newest first.

        Empty if the server does not list them (TensorFlow Serving does not).
        """
        try:
            return {str(name): tuple(int(version["version"]) for version in versions)
                    for name, versions in self._answering().items()}
        except (AnswerError, UnreachableError, ValueError, KeyError, TypeError):
            return {}

    def engine(self) -> str:
        """What runs the newest version of the model that answers, such as "litert"; "" if the server does not say it
        (TensorFlow Serving does not)."""
        try:
            return str(self._answering()[self.model][0].get("engine") or "")
        except (AnswerError, UnreachableError, ValueError, KeyError, TypeError, IndexError):
            return ""

    def server_timing(self) -> dict[str, float]:
        """See Client.server_timing: empty here, since only the body of an answer is kept."""
        return {}

    def close(self) -> None:  # noqa: B027 - clients with a connection close it
        """Does nothing: no connection is open between requests."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def _answering(self) -> dict[str, list[dict[str, Any]]]:
        """The versions that answer, the newest first, of each model that the server lists. Raises various errors."""
        listed = json.loads(self._exchange("GET", f"{self._path.rpartition('/v1/models/')[0]}/models"))
        return {model["name"]: [version for version in model["versions"] if version["state"] == "AVAILABLE"]
                for model in listed["models"]}

    @abstractmethod
    def _exchange(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """The body of a 200. Raises AnswerError for another status and UnreachableError for no answer."""

    def _where(self) -> str:
        return f"{self._url.scheme}://{self._url.netloc}"


class RestClient(RestApi):  # decision 52
    """The client for measurements: one persistent connection; `reconnects` counts how often it was opened again."""
    measured_by = f"http.client of Python {platform.python_version()}, one persistent connection per client"

    def __init__(self, address: str, model: str, version: int | None = None, label: str | None = None, *,
                 headers: Mapping[str, str] | None = None, layout: str = "row", metadata: Metadata | None = None,
                 tls: Tls | None = None, connect_timeout_s: float = CONNECT_TIMEOUT_S,
                 answer_timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        super().__init__(address, model, version, label, headers=headers, layout=layout, metadata=metadata)
        host, port = self._url.hostname or "", self._url.port
        self._connection = (
            http.client.HTTPSConnection(host, port, timeout=connect_timeout_s, context=tls_context(tls or Tls()))
            if self._url.scheme == "https" else http.client.HTTPConnection(host, port, timeout=connect_timeout_s))
        self._answer_timeout_s = answer_timeout_s
        self._answered: http.client.HTTPResponse | None = None
        self.reconnects = 0

    def server_timing(self) -> dict[str, float]:
        return read(self._answered.getheader(ANSWER_HEADER, "")) if self._answered is not None else {}

    def close(self) -> None:
        self._connection.close()

    def _exchange(self, method: str, path: str, body: bytes | None = None) -> bytes:
        fresh = self._connection.sock is None
        if fresh:
            self._connect()
        try:
            return self._try_exchange(method, path, body)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
            self._connection.close()
            if fresh:
                raise UnreachableError(f"{self._where()}: the server closed the connection before it answered "
                                       f"({why(error)}); see its log") from None
        # The server had closed the idle connection, so this request was not served: it is sent on a new connection.
        self.reconnects += 1
        return self._exchange(method, path, body)

    def _connect(self) -> None:
        try:
            self._connection.connect()
        except OSError as error:
            self._connection.close()
            raise UnreachableError(f"{self._where()}: cannot connect ({why(error)}); {remedy(error)}") from None
        # http.client has one timeout for connecting and for answers: from here on it is the one for answers.
        opened: socket.socket = self._connection.sock
        opened.settimeout(self._answer_timeout_s)

    def _try_exchange(self, method: str, path: str, body: bytes | None) -> bytes:
        try:
            self._connection.request(method, path, body, self._headers)
            response = self._answered = self._connection.getresponse()
            answer = response.read()
            # Not by its finalizer: Python drops what is raised there, and a Ctrl-C that comes then would be lost.
            response.close()
        except TimeoutError:
            self._connection.close()
            raise UnreachableError(f"{self._where()}: no answer within {self._answer_timeout_s:g} s") from None
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            raise
        except (http.client.HTTPException, OSError) as error:
            self._connection.close()
            raise UnreachableError(f"{self._where()}: this is no whole HTTP answer ({why(error)}); is it a gRPC "
                                   "port, or did the server die?") from None
        if response.status != http.client.OK:
            raise AnswerError(str(response.status), json_codec.error_message(answer))
        return answer


def parse_address(address: str) -> SplitResult:
    """The address as a URL. Raises UserError if it is neither host:port nor an http(s) URL."""
    url = urlsplit(address if "://" in address else f"http://{address}")
    try:
        valid = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise UserError(f"'{address}' is no address of a REST API; write host:port, http://host:port or https://host")
    return url


def tls_context(tls: Tls) -> ssl.SSLContext:
    """An SSLContext with these files. Raises UserError that names the file that cannot be used."""
    try:
        context = ssl.create_default_context(cafile=tls.authority)
        if tls.certificate:
            context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(file for file in (tls.authority, tls.certificate, tls.key) if file)
        raise UserError(f"cannot use the TLS files {files}: {why(error)}") from None
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def version_path(version: int | None, label: str | None) -> str:
    if version is not None:
        return f"/versions/{version}"
    return f"/labels/{quote(label, safe='')}" if label else ""


def remedy(error: BaseException) -> str:
    """What to do about a failed connection: another thing if a server answered, but not as expected."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "give the authority that signed its certificate, or the certificate itself: --tls-authority FILE"
    if isinstance(error, ssl.SSLError):
        return "does this port speak TLS, and with this client? http:// is for one that does not"
    return "is the server running, and is this its REST port?"


def why(error: BaseException) -> str:
    """The reason of a failed connection in a few text."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return "unknown host"
    text = str(getattr(error, "strerror", None) or error or type(error).__name__)
    return "".join(letter if letter.isprintable() else "." for letter in text)
