"""TensorFlow Serving's REST API: routes, and errors as HTTP status + {"error": ...}.

    POST /v1/models/NAME[/versions/N|/labels/LABEL]:predict|classify|regress
    GET  /v1/models/NAME[/versions/N|/labels/LABEL][/metadata]

and, of our own: GET /models, /health/live, /health/ready, and the metrics.

Handlers run in worker threads and translate only: JSON to values, the predictor's answer to JSON. One wrapper
turns what they raise into an answer; one table gives the status of each code.
"""
import asyncio
import logging
import re
import socket
import ssl
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from time import perf_counter
from urllib.parse import unquote_to_bytes

from serving import messages
from serving.errors import Code, ServingError, invalid
from serving.http1 import Connection, Service, Workers
from serving.http_message import Request, Response, page
from serving.json import answer
from serving.json.examples import parse_examples
from serving.json.tensor import PredictBody
from serving.metrics import Call, Observer
from serving.predictor import Predictor
from serving.servable import DEFAULT_SIGNATURE, ModelSpec
from serving.timing import ASK, PARSE, QUEUE, TELL, Stopwatch

log = logging.getLogger("serving")

HTTP_STATUS = {
    Code.OK: 200, Code.CANCELLED: 499, Code.UNKNOWN: 500, Code.INVALID_ARGUMENT: 400, Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404, Code.ALREADY_EXISTS: 409, Code.PERMISSION_DENIED: 403, Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400, Code.ABORTED: 409, Code.OUT_OF_RANGE: 400, Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500, Code.UNAVAILABLE: 503, Code.DATA_LOSS: 500, Code.UNAUTHENTICATED: 401,
}

_API = re.compile(r"/v1/.*", re.I)
_VERSION = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_INFER = re.compile(rf"(?i:/v1/models/(?P<name>[^/:]+){_VERSION}):(?P<verb>classify|regress|predict)")
_MODEL = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION}(?:/(?P<part>metadata))?", re.I)
_MAX_VERSION = 2**63 - 1
_JSON = "application/json"
_BACKLOG = 1024
_LONGEST_KEPT = 256
_CORS = (("Access-Control-Allow-Origin", "*"), ("Access-Control-Allow-Methods", "POST, GET"),
         ("Access-Control-Allow-Headers", "Content-Type"))


class RestApi:
    """Answers requests; knows neither sockets nor threads."""

    def __init__(self, predictor: Predictor, *, timeout_ms: int, cors: bool, max_body_bytes: int,
                 observe: Observer, monitoring: tuple[str, Callable[[], str]] | None,
                 ready: Callable[[], bool] | None) -> None:
        self._predictor = predictor
        self._timeout_s = timeout_ms / 1000 if timeout_ms > 0 else None
        self._headers = _CORS if cors else ()
        self._max_body_bytes = max_body_bytes
        self._observe = observe
        self._monitoring = monitoring
        self._ready = ready

    def handle(self, request: Request) -> Response:
        """The answer to any request. Every error ends here, once."""
        call = Call("REST", "", perf_counter())
        if ASK in request.headers:
            call.watch = Stopwatch(QUEUE, request.came)
            call.watch.enter(PARSE)
        try:
            code, response = Code.OK, self._route(request, call)
        except ServingError as error:
            code, response = error.code, self._json(answer.error(error.message), HTTP_STATUS[error.code])
        except Exception as error:
            log.exception("%s %s failed", request.method, request.target)
            code = Code.INTERNAL
            response = self._json(answer.error(f"{type(error).__name__}: {error}"), HTTP_STATUS[code])
        if call.api:
            self._observe(call, code)
        if call.watch is not None:
            response.headers = (*response.headers, (TELL, call.watch.text()))
        return response

    def _route(self, request: Request, call: Call) -> Response:
        own = self._own_endpoint(request)
        if own:
            return own
        if not _API.fullmatch(request.target):
            return page(404)
        if request.method == "OPTIONS":
            origin = request.headers.get("origin", "null")
            return Response(400 if origin in ("", "null") else 200, headers=self._headers)
        resolve = _resolved if len(request.target) < _LONGEST_KEPT else _resolved.__wrapped__
        call.api, spec = resolve(request.method, request.target)
        if spec is None:
            return self._json(b"", 400)  # a version of more than 64 bits: the original answers without a message
        call.model = spec.name
        return self._answer(spec, request, call)

    def _own_endpoint(self, request: Request) -> Response | None:
        """What is not part of the /v1 API: metrics, liveness, readiness, the list of models."""
        path = request.target.partition("?")[0].partition("#")[0]
        if self._monitoring and path == self._monitoring[0]:
            if path != request.target:
                text = f"Unexpected path: {request.target}. Should be {path}"
                return Response(400, text.encode(), "text/plain")
            # Clients choose the names in it, which need not be text.
            return Response(200, self._monitoring[1]().encode("utf-8", "replace"), "text/plain")
        if self._ready and path == "/health/live":
            return Response(200, b"live\n", "text/plain")
        if self._ready and path == "/health/ready":
            ready = self._ready()
            return Response(200 if ready else 503, b"ready\n" if ready else b"not ready\n", "text/plain")
        if path == "/models":
            names = self._predictor.models()
            return self._json(answer.models({name: self._predictor.status(ModelSpec(name)) for name in names}))
        return None

    def _json(self, body: bytes, status: int = 200) -> Response:
        return Response(status, body, _JSON, self._headers)

    def _answer(self, spec: ModelSpec, request: Request, call: Call) -> Response:
        if not spec.name:
            raise invalid("Missing model name in request.")
        if call.api == "status":
            return self._json(answer.status(self._predictor.status(spec)))
        if call.api == "metadata":
            with self._predictor.pin(spec) as servable:
                call.version = servable.version
                return self._json(answer.metadata(servable.name, servable.version, servable.metadata))
        body = _body(request, self._max_body_bytes)
        if call.api == "predict":
            return self._predict(spec, PredictBody(body), call)
        call.signature, examples = parse_examples(body)
        call.examples = messages.count_examples(examples)
        with self._predictor.pin(spec) as servable:
            servable = call.pinned(servable)
            if call.api == "classify":
                result = self._predictor.classify(servable, call.signature, examples, self._timeout_s)
                return self._json(answer.classifications(result))
            result = self._predictor.regress(servable, call.signature, examples, self._timeout_s)
            return self._json(answer.regressions(result))

    def _predict(self, spec: ModelSpec, body: PredictBody, call: Call) -> Response:
        call.signature = body.signature_name
        with self._predictor.pin(spec) as servable:
            servable = call.pinned(servable)
            signature = servable.signatures.get(body.signature_name or DEFAULT_SIGNATURE)
            if signature is None:
                raise invalid(f'Serving signature name: "{body.signature_name or DEFAULT_SIGNATURE}" '
                              "not found in signature def")
            outputs = self._predictor.predict(servable, body.signature_name, body.inputs(signature.inputs),
                                              timeout_s=self._timeout_s)
            return self._json(answer.predictions(outputs, body.row))


class RestServer:
    """The REST API on a port, in a thread of its own.

    `start` binds in the caller's thread (OSError for a taken port); `port` is then the port bound. `stop` takes no
    more connections, lets running requests end within `drain_s` seconds and closes.
    """

    def __init__(self, predictor: Predictor, host: str, port: int, *, threads: int = 16, timeout_ms: int = 30_000,
                 cors: bool = False, max_body_bytes: int = 1 << 30, tls: ssl.SSLContext | None = None,
                 observe: Observer = lambda call, code: None,
                 monitoring: tuple[str, Callable[[], str]] | None = None,
                 ready: Callable[[], bool] | None = None) -> None:
        self.host, self.port = host, port
        self._api = RestApi(predictor, timeout_ms=timeout_ms, cors=cors, max_body_bytes=max_body_bytes,
                            observe=observe, monitoring=monitoring, ready=ready)
        self._threads = threads
        self._max_body_bytes = max_body_bytes
        self._tls = tls
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Binds, and answers from now on."""
        listener = socket.create_server((self.host, self.port), backlog=_BACKLOG,
                                        family=socket.AF_INET6 if ":" in self.host else socket.AF_INET)
        self.port = listener.getsockname()[1]
        self._loop = new_event_loop()
        self._service = Service(self._api.handle, Workers(self._threads), self._loop, self._max_body_bytes)
        self._thread = threading.Thread(target=self._loop.run_forever, name="rest-loop", daemon=True)
        self._thread.start()
        self._listener = listener.dup()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(listener), self._loop).result()

    async def _listen(self, listener: socket.socket) -> asyncio.Server:
        return await self._loop.create_server(
            lambda: Connection(self._service), sock=listener, backlog=_BACKLOG, ssl=self._tls)

    def stop(self, drain_s: float = 10.0) -> None:
        """Ends in order: every request that has come in whole is answered."""
        if self._thread is None or not self._thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self._drain(drain_s), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._service.workers.stop()
        self._loop.close()

    async def _drain(self, drain_s: float) -> None:
        self._server.close()
        self._service.draining = True
        with self._listener:
            if self._tls is None:  # TLS would have to wait for handshakes
                await self._accept_those_who_wait()
        await asyncio.sleep(0.02)  # asyncio's own loop may have accepted others that are not yet connections
        for connection in tuple(self._service.connections):
            connection.drain()
        deadline = self._loop.time() + drain_s
        while self._service.connections and self._loop.time() < deadline:
            await asyncio.sleep(0.01)
        for connection in tuple(self._service.connections):
            connection.transport.abort()
        await asyncio.sleep(0)

    async def _accept_those_who_wait(self) -> None:
        """Those who have connected but were not yet accepted would be reset: they are answered, too."""
        self._listener.setblocking(False)
        with suppress(BlockingIOError):
            for _ in range(_BACKLOG):
                accepted, _ = self._listener.accept()
                await self._loop.connect_accepted_socket(lambda: Connection(self._service), accepted)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's event loop where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


@lru_cache(maxsize=256)
def _resolved(method: str, target: str) -> tuple[str, ModelSpec | None]:
    """What is asked for, and of which model (None: its version is too big). Kept, since clients repeat themselves."""
    if method == "POST" and (found := _INFER.fullmatch(target)):
        return found["verb"], _model_spec(found)
    if method == "GET" and (found := _MODEL.fullmatch(target)):
        return "metadata" if found["part"] == "metadata" else "status", _model_spec(found)
    raise invalid(f"Malformed request: {method} {target}")


def _model_spec(found: re.Match[str]) -> ModelSpec | None:
    version = None
    if found["version"] is not None:
        digits = found["version"].lstrip("0")
        if len(digits) > len(str(_MAX_VERSION)) or int(digits or "0") > _MAX_VERSION:
            return None
        version = int(digits or "0")
    label = None if found["label"] is None else _decoded(found["label"])
    return ModelSpec(_decoded(found["name"] or ""), version, label)


def _decoded(text: str) -> str:
    return unquote_to_bytes(text).decode("utf-8", "surrogateescape")


def _body(request: Request, limit: int) -> bytes:
    """The body, unpacked where it says it is gzip. What cannot be unpacked counts as empty, as in the original."""
    if not request.body or "gzip" not in request.headers.get("content-encoding", ""):
        return request.body
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        body = unpacker.decompress(request.body, limit + 1)
    except zlib.error:
        return b""
    return body if unpacker.eof and not unpacker.unused_data and len(body) <= limit else b""
