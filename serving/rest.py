"""TensorFlow Serving's REST API: routes, and errors as HTTP status + {"error": ...}.

    POST /v1/models/NAME[/versions/N|/labels/LABEL]:predict|classify|regress
    GET  /v1/models/NAME[/versions/N|/labels/LABEL][/metadata]

and, not part of that API: GET /models, /health/live, /health/ready, the metrics, and the status page at /.

Handlers only translate: JSON to values, the predictor's answer to JSON. They run in worker threads; small requests that
have proven quick are answered on the event loop. One wrapper turns exceptions into answers; one table gives the HTTP
status of each code.
"""
import logging
import re
import ssl
import zlib
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from time import perf_counter
from urllib.parse import unquote_to_bytes

from serving import messages
from serving.errors import Code, ServingError, invalid, timed_out
from serving.http_message import Request, Response, page
from serving.http_server import HttpServer
from serving.json import answer
from serving.json.examples import parse_examples
from serving.json.tensor import PredictBody
from serving.metrics import Call, Observer
from serving.pace import Pace
from serving.predictor import Predictor
from serving.readiness import Readiness
from serving.servable import DEFAULT_SIGNATURE, ModelSpec
from serving.timing import ANSWER_HEADER, PARSE, QUEUE, Stopwatch, asked

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
# Only the Origin of a preflight request is read, and only in lower case, as browsers send it.
_ORIGIN = re.compile("https?://")
_MAX_VERSION = 2**63 - 1
_JSON = "application/json"
# Handing a request to a thread and its answer back takes about 0.1 ms: too much for a request that takes little longer.
_QUICK_S, _SLOW_S = 0.0002, 0.005
_MOST_AT_ONCE = 1 << 14
_MOST_KNOWN = 256
_LONGEST_KEPT = 256
_CORS = (("Access-Control-Allow-Origin", "*"), ("Access-Control-Allow-Methods", "POST, GET"),
         ("Access-Control-Allow-Headers", "Content-Type"))


class RestApi:
    """Answers requests; knows neither sockets nor threads."""

    def __init__(self, predictor: Predictor, *, timeout_ms: int, cors: bool, max_body_bytes: int,
                 observe: Observer, monitoring: tuple[str, Callable[[], str]] | None,
                 ready: Callable[[], Readiness] | None, on_event_loop: bool = True,
                 pages: Callable[[str], Response | None] | None = None) -> None:
        self._pages = pages
        self._predictor = predictor
        self._timeout_s = timeout_ms / 1000 if timeout_ms > 0 else None
        self._headers = _CORS if cors else ()
        self._max_body_bytes = max_body_bytes
        self._observe = observe
        self._monitoring = monitoring
        self._ready = ready
        self._on_event_loop = on_event_loop
        self._known: dict[str, tuple[Pace, ModelSpec]] = {}
        self._not_before = 0.0

    def handle(self, request: Request) -> Response:
        """The answer to any request."""
        call = Call("REST", "", perf_counter())
        ends = None if self._timeout_s is None else (request.came or call.began) + self._timeout_s
        response = self._handle(request, call, ends)
        assert response is not None
        answered = call.api == "predict" and response.status == HTTPStatus.OK
        if self._on_event_loop and answered and _may_be_quick(request):
            known = self._known.get(request.target)
            if known is None:
                if len(self._known) >= _MOST_KNOWN:  # bounded, since clients can write one name in many ways
                    self._known.clear()
                _, spec = _resolved(request.method, request.target)
                assert spec is not None
                known = self._known[request.target] = Pace(_QUICK_S, _SLOW_S), spec
            known[0].note(len(request.body), call.began, perf_counter(), False)
        return response

    def on_event_loop(self, request: Request) -> Response | None:  # decision 70
        """The answer to a predict request to a target whose requests of this size were quick; else None.

        The time limit is zero: with it a servable runs only what it knows to be quick.
        """
        known = self._known.get(request.target)
        if known is None:
            # Health probes do not wait for a thread: a server whose threads are all busy is alive.
            return self._health(request.target.partition("?")[0]) if request.target.startswith("/health/") else None
        pace, spec = known
        if len(request.body) > pace.quick_bytes or not _may_be_quick(request):
            return None
        call = Call("REST", "predict", perf_counter())
        if call.began < self._not_before:
            return None
        response = self._handle(request, call, 0.0, spec)
        if response is None:
            pace.forget()
        else:
            pace.note(len(request.body), call.began, perf_counter(), True)
            # A slow request to one target holds back all targets, since they share the event loop.
            self._not_before = max(self._not_before, pace.not_before)
        return response

    def _handle(self, request: Request, call: Call, ends: float | None,
                spec: ModelSpec | None = None) -> Response | None:
        """The answer; None if `ends` is 0 and the graph is not known to be quick. All errors become answers here.

        `ends` is the deadline, by perf_counter; 0: only quick work may be done. `spec` is the model asked for, if it is
        known already.
        """
        if asked(request.headers.items()):
            call.watch = Stopwatch(QUEUE, request.came)
            call.watch.enter(PARSE)
        try:
            code = Code.OK
            response = self._answer(spec, request, call, ends) if spec else self._route(request, call, ends)
        except ServingError as error:
            if ends == 0.0 and error.code is Code.DEADLINE_EXCEEDED:
                return None
            body = answer.error(error.message) if error.message else b""
            code, response = error.code, self._json(body, HTTP_STATUS[error.code])
        except Exception as error:
            log.exception("%s %s failed", request.method, request.target)
            code = Code.INTERNAL
            response = self._json(answer.error(f"{type(error).__name__}: {error}"), HTTP_STATUS[code])
        if call.api:
            self._observe(call, code)
        if call.watch is not None:
            response.headers = (*response.headers, (ANSWER_HEADER, call.watch.text()))
        return response

    def _route(self, request: Request, call: Call, ends: float | None) -> Response:
        own = self._own_endpoint(request)
        if own:
            return own
        if not _API.fullmatch(request.target):
            return page(404)
        if request.method == "OPTIONS":
            return Response(200 if _ORIGIN.search(request.headers.get("origin", "")) else 400, headers=self._headers)
        resolve = _resolved if len(request.target) < _LONGEST_KEPT else _resolved.__wrapped__
        call.api = "malformed"
        call.api, spec = resolve(request.method, request.target)
        if spec is None:
            raise invalid("")  # a version of more than 64 bits: the original answers without a message
        return self._answer(spec, request, call, ends)

    def _own_endpoint(self, request: Request) -> Response | None:
        """The answer for a path outside the /v1 API: metrics, liveness, readiness, the list of models."""
        path = request.target.partition("?")[0].partition("#")[0]
        if self._monitoring and path == self._monitoring[0]:
            if path != request.target:
                text = f"Unexpected path: {request.target}. Should be {path}"
                return Response(400, text.encode(), "text/plain")
            # It contains names that clients chose, which need not be valid UTF-8.
            return Response(200, self._monitoring[1]().encode("utf-8", "replace"), "text/plain")
        if self._ready and path == "/models":
            readiness = self._ready()
            return self._json(answer.models(
                {name: self._predictor.known(name) for name in sorted(readiness.models)}, readiness))
        if self._pages and request.method == "GET" and (found := self._pages(path)):
            return found
        return self._health(path)

    def _health(self, path: str) -> Response | None:
        if self._ready and path == "/health/live":
            return Response(200, b"live\n", "text/plain")
        if self._ready and path == "/health/ready":
            readiness = self._ready()
            return Response(200 if readiness.ready else 503, readiness.text().encode("utf-8", "replace"), "text/plain")
        return None

    def _json(self, body: bytes, status: int = 200) -> Response:
        return Response(status, body, _JSON, self._headers)

    def _answer(self, spec: ModelSpec, request: Request, call: Call, ends: float | None) -> Response:
        call.model = spec.name
        if not spec.name:
            raise invalid("Missing model name in request.")
        if call.api == "status":
            return self._json(answer.status(self._predictor.status(spec)))
        if call.api == "metadata":
            with self._predictor.pin(spec) as servable:
                call.version = servable.version
                return self._json(answer.metadata(servable.name, servable.version, servable.metadata))
        _left(ends)  # a request that waited for a thread beyond its deadline is not parsed
        body = _body(request, self._max_body_bytes)
        if call.api == "predict":
            return self._predict(spec, PredictBody(body), call, ends)
        call.signature, examples = parse_examples(body)
        call.examples = messages.count_examples(examples)
        with self._predictor.pin(spec) as servable:
            servable = call.pinned(servable)
            if call.api == "classify":
                result = self._predictor.classify(servable, call.signature, examples, _left(ends))
                return self._json(answer.classifications(result))
            result = self._predictor.regress(servable, call.signature, examples, _left(ends))
            return self._json(answer.regressions(result))

    def _predict(self, spec: ModelSpec, body: PredictBody, call: Call, ends: float | None) -> Response:
        call.signature = body.signature_name
        with self._predictor.pin(spec) as servable:
            servable = call.pinned(servable)
            signature = servable.signatures.get(body.signature_name or DEFAULT_SIGNATURE)
            if signature is None:
                raise invalid(f'Serving signature name: "{body.signature_name or DEFAULT_SIGNATURE}" '
                              "not found in signature def")
            inputs = body.inputs(signature.inputs)
            outputs = self._predictor.predict(servable, body.signature_name, inputs, timeout_s=_left(ends))
            return self._json(answer.predictions(outputs, body.row))


class RestServer(HttpServer):
    """The REST API on a port."""

    def __init__(self, predictor: Predictor, host: str, port: int, *, threads: int = 16, timeout_ms: int = 30_000,
                 cors: bool = False, max_body_bytes: int = 1 << 30, tls: ssl.SSLContext | None = None,
                 observe: Observer = lambda call, code: None,
                 monitoring: tuple[str, Callable[[], str]] | None = None,
                 ready: Callable[[], Readiness] | None = None, on_event_loop: bool = True,
                 pages: Callable[[str], Response | None] | None = None) -> None:
        """`on_event_loop`: quick requests may be answered on the event loop; `observe` must then not block. `pages`
        answers paths of its own."""
        api = RestApi(predictor, timeout_ms=timeout_ms, cors=cors, max_body_bytes=max_body_bytes, observe=observe,
                      monitoring=monitoring, ready=ready, on_event_loop=on_event_loop, pages=pages)
        super().__init__(api, host, port, threads=threads, max_body_bytes=max_body_bytes, tls=tls)


def _left(ends: float | None) -> float | None:
    """The seconds until `ends`, for the run of a graph. Raises DEADLINE_EXCEEDED if `ends` is past."""
    if not ends:
        return ends
    left = ends - perf_counter()
    if left <= 0:
        raise timed_out()
    return left


def _may_be_quick(request: Request) -> bool:
    """False for a body that is large, or compressed and so of unknown size: the event loop never reads those."""
    return (request.method == "POST" and "content-encoding" not in request.headers
            and len(request.body) <= _MOST_AT_ONCE and len(request.target) < _LONGEST_KEPT)


@lru_cache(maxsize=256)
def _resolved(method: str, target: str) -> tuple[str, ModelSpec | None]:
    """The API called, and the model (None: its version number is too big). Cached, since clients repeat targets."""
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
    """The body, decompressed if its header says gzip. If it cannot be, it counts as empty, as in the original."""
    if not request.body or "gzip" not in request.headers.get("content-encoding", ""):
        return request.body
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        body = unpacker.decompress(request.body, limit + 1)
    except zlib.error:
        return b""
    return body if unpacker.eof and not unpacker.unused_data and len(body) <= limit else b""
