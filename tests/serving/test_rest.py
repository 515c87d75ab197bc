"""Routes, the order of checks, additional endpoints, statuses of errors. (Recorded cases are in tests/contract.)"""
import gzip
import json
import logging
from typing import Any
from unittest import mock

import pytest
from echo_store import EchoStore

from serving.errors import Code
from serving.http_message import Request, Response
from serving.json import numbers
from serving.metrics import Call, Metrics
from serving.predictor import Predictor
from serving.readiness import Missing, ModelReadiness, Readiness
from serving.rest import HTTP_STATUS, RestApi

ECHO = "/v1/models/echo:predict"
BIG = b'{"instances": [' + b"1.0," * 100 + b"1.0]}"


class Api:
    """A RestApi and what it reported."""

    def __init__(self, **options: Any) -> None:
        self.store = EchoStore()
        self.calls: list[tuple[Call, Code]] = []
        given = {"timeout_ms": 2000, "cors": False, "max_body_bytes": 10_000, "monitoring": None, "ready": None}
        self.api = RestApi(Predictor(self.store), observe=lambda call, code: self.calls.append((call, code)),
                           **given | options)

    def __call__(self, method: str, target: str, body: bytes = b"", **headers: str) -> Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.api.handle(Request(method, target, headers=named, body=body))


def error_of(response: Response) -> str:
    return str(json.loads(response.body)["error"])


def test_every_code_has_a_status() -> None:
    assert HTTP_STATUS.keys() == set(Code)


@pytest.mark.parametrize("body", [b"{", b'{"instances": [1,,2]}', BIG[:-1], BIG.replace(b"1.0,1.0]", b"1.0,]")])
def test_a_body_that_is_not_json_is_reported_before_an_unknown_model(body: bytes) -> None:
    response = Api()("POST", "/v1/models/nope:predict", body)
    assert response.status == 400
    assert error_of(response).startswith("JSON Parse error: ")


def test_an_unknown_model_is_reported_before_wrong_values() -> None:
    for body in (b'{"instances": 1}', b'{"instances": [[1], 2]}', BIG):
        response = Api()("POST", "/v1/models/nope/versions/3:predict", body)
        assert (response.status, error_of(response)) == (404, "Servable not found for request: Specific(nope, 3)")


def test_refused_requests_do_not_slow_down_later_ones() -> None:
    """simdjson cannot read while an earlier document is in use, so an error must not keep a document alive."""
    api = Api()
    for target in ("/v1/models/nope:predict", "/v1/models/echo/labels/nope:predict", ECHO):
        for body in (BIG, BIG.replace(b"1.0]", b"true]"), b'{"signature_name": "nope", ' + BIG[1:]):
            api("POST", target, body)
    with mock.patch.object(numbers, "parse_plain", side_effect=AssertionError("the fast way is closed")):
        assert api("POST", ECHO, BIG).status == 200


def test_an_error_of_the_graph_keeps_its_code() -> None:
    response = Api()("POST", ECHO, b'{"signature_name": "fails", "instances": [1.0]}')
    assert (response.status, error_of(response)) == (500, "the graph is broken")


def test_an_internal_error_is_logged_and_answered(
        monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    api = Api()
    monkeypatch.setattr(api.store, "status", lambda spec: 1 / 0)
    with caplog.at_level(logging.ERROR, "serving"):
        response = api("GET", "/v1/models/echo")
    assert (response.status, error_of(response)) == (500, "ZeroDivisionError: division by zero")
    assert "GET /v1/models/echo failed" in caplog.text


def test_requests_are_reported_once_with_their_model_version_and_signature() -> None:
    api = Api()
    api("POST", "/v1/models/echo/labels/stable:predict", b'{"signature_name": "float", "instances": [1.0]}')
    api("POST", "/v1/models/nope:regress", b'{"examples": [{}, {}]}')
    api("GET", "/v1/models/echo")
    api("GET", "/v1/models/echo/metadata")
    api("PUT", ECHO)
    api("GET", f"/v1/models/echo/versions/{2**63}")
    api("GET", "/elsewhere")
    seen = [(call.entrypoint, call.api, call.model, call.signature, call.version, call.examples, code)
            for call, code in api.calls]
    assert seen == [
        ("REST", "predict", "echo", "float", 7, 0, Code.OK), ("REST", "regress", "nope", "", None, 2, Code.NOT_FOUND),
        ("REST", "status", "echo", "", None, 0, Code.OK), ("REST", "metadata", "echo", "", 7, 0, Code.OK),
        ("REST", "malformed", "", "", None, 0, Code.INVALID_ARGUMENT),
        ("REST", "status", "", "", None, 0, Code.INVALID_ARGUMENT)]


def test_the_time_limit_reaches_the_run() -> None:
    api = Api()
    api("POST", ECHO, b'{"instances": [1.0]}')
    [seconds] = api.store.servable.timeouts
    assert seconds is not None
    assert 1.5 < seconds <= 2.0  # the part of the time limit that is left when the run begins


@pytest.mark.parametrize(("verb", "body"), [
    ("predict", b'{"instances": [1.0]}'), ("predict", b"no JSON"), ("classify", b'{"examples": [{}]}'),
    ("regress", b'{"examples": [{}]}')])
def test_a_request_that_waited_beyond_its_deadline_is_answered_and_not_run(verb: str, body: bytes) -> None:
    api = Api()
    with mock.patch("serving.rest.perf_counter", return_value=1002.5):
        late = api.api.handle(Request("POST", f"/v1/models/echo:{verb}", body=body, came=1000.0))
        in_time = api.api.handle(Request("POST", ECHO, body=b'{"instances": [1.0]}', came=1001.0))
        status = api.api.handle(Request("GET", "/v1/models/echo", came=1000.0))
    assert (late.status, error_of(late)) == (504, "Timed out waiting for notification")
    assert (in_time.status, status.status) == (200, 200)
    assert api.store.servable.timeouts == [0.5]


def test_probes_are_answered_without_a_thread() -> None:
    api = Api(ready=lambda: Readiness({}))
    for target, body in (("/health/live", b"live\n"), ("/health/ready?x", b"ready\n")):
        response = api.api.on_event_loop(Request("GET", target))
        assert response is not None
        assert response.body == body
    assert api.api.on_event_loop(Request("GET", "/models")) is None


def test_no_model_name() -> None:
    for target in ("/v1/models", "/v1/models/versions/1", "/v1/models/versions/1/metadata"):
        response = Api()("GET", target)
        assert (response.status, error_of(response)) == (400, "Missing model name in request.")


@pytest.mark.parametrize(("encoding", "taken"), [("gzip", True), ("x-gzip", True), ("identity, gzip", True),
                                                 ("GZIP", False), ("deflate", False)])
def test_compressed_bodies(encoding: str, taken: bool) -> None:
    response = Api()("POST", ECHO, gzip.compress(b'{"instances": [1.0]}'), content_encoding=encoding)
    assert (response.status == 200) == taken


def test_a_small_compressed_body_cannot_expand_to_a_huge_one() -> None:
    body = gzip.compress(b'{"instances": [' + b" " * 20_000 + b"1.0]}")
    response = Api()("POST", ECHO, body, content_encoding="gzip")
    assert (response.status, error_of(response)) == (400, "JSON Parse error: The document is empty")


def test_names_that_are_not_utf8_do_not_break_the_metrics() -> None:
    metrics = Metrics()
    api = Api(monitoring=("/metrics", metrics.text))
    response = api("POST", "/v1/models/%ff:predict", b'{"signature_name": "\xfe", "instances": [1.0]}')
    assert error_of(response) == "Servable not found for request: Latest(\ufffd)"
    for call, code in api.calls:
        metrics.answered(call, code)
    assert b'model_name="?"' in api("GET", "/metrics").body


def test_cors_headers_by_flag() -> None:
    names = {"Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers"}
    for api, expected in ((Api(), set()), (Api(cors=True), names)):
        for response in (api("POST", ECHO, b'{"instances": [1.0]}'), api("POST", ECHO, b"{"), api("PUT", ECHO),
                         api("OPTIONS", ECHO, origin="http://example.org"), api("OPTIONS", ECHO, origin="null")):
            assert {name for name, _ in response.headers} == expected


@pytest.mark.parametrize(("origin", "status"), [
    ("http://example.org", 200), ("https://example.org:8443", 200), ("x-http://example.org", 200), ("null", 400),
    ("", 400), ("HTTP://EXAMPLE.ORG", 400), ("Https://example.org", 400), ("example.org", 400),
    ("file:///page.html", 400), ("http:/example.org", 400)])
def test_a_preflight_has_to_come_from_an_http_origin(origin: str, status: int) -> None:
    assert Api()("OPTIONS", ECHO, origin=origin).status == status
    assert Api()("OPTIONS", ECHO).status == 400


def test_endpoints_outside_of_tensorflow_servings_api() -> None:
    answers = [False]
    missing = (Missing(8, "LOADING"),)
    api = Api(ready=lambda: Readiness({"echo": ModelReadiness(answers[0], missing),
                                       "new": ModelReadiness(True, (Missing(None, "NOT_FOUND:\nnothing"),))}),
              monitoring=("/metrics", lambda: "up 1\n"))
    assert api("GET", "/health/live").status == 200
    assert api("GET", "/health/ready").status == 503
    answers[0] = True
    ready = api("GET", "/health/ready")
    assert (ready.status, ready.body) == (
        200, b"ready\nmodel echo: version 8: LOADING\nmodel new: NOT_FOUND: nothing\n")
    assert json.loads(api("GET", "/models").body) == {"models": [
        {"name": "echo", "ready": True, "versions": [{"version": 7, "state": "AVAILABLE", "engine": "fake"}],
         "missing": [{"version": 8, "reason": "LOADING"}]},
        {"name": "new", "ready": True, "versions": [],
         "missing": [{"version": None, "reason": "NOT_FOUND:\nnothing"}]}]}
    metrics = api("GET", "/metrics")
    assert (metrics.status, metrics.body, metrics.content_type) == (200, b"up 1\n", "text/plain")
    assert api("GET", "/metrics?x=1").status == 400
    assert Api()("GET", "/metrics").status == 404
