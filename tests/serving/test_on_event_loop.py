"""Which REST requests are answered on the event loop, which never are, and that none delays the others."""
import gzip
import select
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import contract_models
import numpy as np
import pytest
from contract_rest import Wire
from echo_store import EchoStore

from serving import http_server, rest
from serving.batch_scheduler import Parameters, Scheduler
from serving.batching import BatchingServable
from serving.config import Model
from serving.engines.tensorflow import load
from serving.errors import Code, ServingError
from serving.http_message import Request, Response
from serving.metrics import Call
from serving.model_store import ModelStore
from serving.predictor import Predictor
from serving.protos import config_pb2
from serving.rest import RestApi, RestServer

ECHO = "/v1/models/echo:predict"
ONE = b'{"instances": [1.0]}'


class Api:
    """A RestApi over the echo model, and what it reported."""

    def __init__(self) -> None:
        self.store = EchoStore()
        self.calls: list[tuple[Call, Code]] = []
        self.api = RestApi(Predictor(self.store), timeout_ms=2000, cors=False, max_body_bytes=1 << 20,
                           observe=lambda call, code: self.calls.append((call, code)), monitoring=None, ready=None)

    def handle(self, body: bytes = ONE, target: str = ECHO, times: int = 1) -> Response:
        for _ in range(times):
            response = self.api.handle(Request("POST", target, body=body))
        return response

    def on_event_loop(self, body: bytes = ONE, target: str = ECHO, **headers: str) -> Response | None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.api.on_event_loop(Request("POST", target, headers=named, body=body))


def controlled(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock that the API reads: its time is the last of the list."""
    clock = [0.0]
    monkeypatch.setattr(rest, "perf_counter", lambda: clock[-1])
    return clock


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    """A pace for which all work is quick, so that a slow machine does not change the test."""
    monkeypatch.setattr(rest, "_QUICK_S", 10.0)
    monkeypatch.setattr(rest, "_SLOW_S", 20.0)
    return Api()


def test_requests_are_answered_on_the_event_loop_after_similar_ones_were_quick(api: Api) -> None:
    for _ in range(4):
        assert api.on_event_loop() is None
        api.handle()
    assert api.on_event_loop() == api.handle()
    now, limit = api.store.servable.timeouts[-2:]
    assert now == 0.0
    assert limit is not None
    assert 1.5 < limit <= 2.0
    assert [code for _, code in api.calls] == [Code.OK] * 6


def test_a_larger_body_a_compressed_one_and_another_target_go_to_the_workers(api: Api) -> None:
    api.handle(times=5)
    assert api.on_event_loop(ONE + b" ") is None
    assert api.on_event_loop(gzip.compress(ONE), content_encoding="gzip") is None
    assert api.on_event_loop(target="/v1/models/echo/versions/7:predict") is None


def test_a_large_body_is_never_parsed_on_the_event_loop(api: Api) -> None:
    body = b'{"instances": [' + b"1.0, " * 4000 + b"1.0]}"
    api.handle(body, times=9)
    assert api.on_event_loop(body) is None
    assert api.on_event_loop() is None


def test_errors_are_answered_on_the_event_loop_but_do_not_count_as_quick_requests(api: Api) -> None:
    api.handle(b'{"instances": [}', times=9)
    assert api.on_event_loop(b'{"instances": [}') is None
    api.handle(times=5)
    response = api.on_event_loop(b'{"instances": [}')
    assert response is not None
    assert response.status == 400


def test_a_run_that_is_not_known_to_be_quick_is_left_to_a_worker(api: Api) -> None:
    """A new version, or another signature: the servable does not know yet that this is quick."""
    def compute(*_: Any) -> Any:
        if api.store.servable.timeouts[-1] == 0.0:
            raise ServingError(Code.DEADLINE_EXCEEDED, "Timed out waiting for notification")
        return [np.ones(1, np.float32)]

    api.store.servable._compute = compute
    response = api.handle(times=5)
    reported = len(api.calls)
    assert api.on_event_loop() is None
    assert len(api.calls) == reported
    assert api.on_event_loop() is None  # it is not tried again with every request
    assert api.store.servable.timeouts[-1] == 0.0
    assert api.handle() == response


def test_after_a_slow_request_on_the_event_loop_similar_ones_go_to_the_workers(
        api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = controlled(monkeypatch)
    api.handle(times=5)
    api.store.servable._compute = lambda feeds, values, fetches: clock.append(clock[-1] + 30) or [values[0]]
    assert api.on_event_loop() is not None
    api.handle(times=9)
    assert api.on_event_loop() is None


def test_a_slow_request_keeps_all_targets_off_the_event_loop(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = controlled(monkeypatch)
    other = "/v1/models/echo/versions/7:predict"
    api.handle(times=5)
    api.handle(times=5, target=other)
    assert api.on_event_loop(target=other) is not None
    api.store.servable._compute = lambda feeds, values, fetches: clock.append(clock[-1] + 30) or [values[0]]
    assert api.on_event_loop() is not None
    assert api.on_event_loop(target=other) is None


def test_an_observer_that_may_block_keeps_requests_off_the_event_loop(api: Api) -> None:
    api.api._on_event_loop = False  # as the server says with an access log
    api.handle(times=9)
    assert api.on_event_loop() is None


def test_the_number_of_remembered_targets_is_limited(api: Api) -> None:
    for n in range(600):
        api.handle(target=f"/v1/models/echo/versions/{'0' * n}7:predict")
    assert len(api.api._known) <= 256


class Told:
    """A handler that answers with the name of its thread."""

    def handle(self, request: Request) -> Response:
        return Response(200, threading.current_thread().name.encode(), "text/plain")

    on_event_loop = handle


def test_pipelined_requests_are_left_to_the_workers() -> None:
    server = http_server.HttpServer(Told(), "127.0.0.1", 0, threads=1)
    server.start()
    get = b"GET / HTTP/1.1\r\n\r\n"
    with Wire(server.port) as wire:
        for _ in range(3):
            wire.send(get)
            assert wire.read().body == b"rest-loop"
        wire.send(get * 3)
        assert [wire.read().body for _ in range(3)] == [b"rest-0", b"rest-0", b"rest-loop"]
        wire.send(get.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert wire.read().headers["connection"] == "close"
    server.stop(1)


def test_with_batching_nothing_is_run_on_the_event_loop() -> None:
    scheduler = Scheduler(Parameters())
    servable = BatchingServable(EchoStore().servable, scheduler)  # type: ignore[arg-type]
    with pytest.raises(ServingError) as error:
        servable.run(["x:0"], [np.ones(1, np.float32)], ["x:0"], 0.0)
    assert error.value.code is Code.DEADLINE_EXCEEDED
    scheduler.stop()


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real server with a quick graph, and one with a loop whose number of turns is its input."""
    root = tmp_path_factory.mktemp("models")
    contract_models.save(root / "half" / "1", lambda: contract_models.half_plus(2))
    contract_models.save(root / "slow" / "1", contract_models.MODELS["slow"])

    def loaded(name: str, number: int, path: Path) -> Any:
        return load(name, number, path, ["serve"], config_pb2.ConfigProto())
    store = ModelStore(loaded, poll_s=0)
    store.configure([Model(name, str(root / name)) for name in ("half", "slow")])
    server = RestServer(Predictor(store), "127.0.0.1", 0, threads=4, timeout_ms=600_000)
    server.start()
    yield server.port
    server.stop(1)
    store.stop()


def _post(model: str, body: bytes) -> bytes:
    return b"POST /v1/models/%s:predict HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (model.encode(), len(body), body)


def test_a_model_with_a_loop_that_was_short_a_hundred_times_never_blocks_other_requests(port: int) -> None:
    turns = b'{"signature_name": "turns", "inputs": [%9d]}'
    with Wire(port) as wire, Wire(port) as other:
        for _ in range(100):
            wire.send(_post("slow", turns % 1))
            assert wire.read().status == 200
        # Loops of a second and more. Requests that waited for a loop would be answered after it, however long it is. On
        # a busy machine that may happen by chance, but not for a loop sixteen times as long.
        for count in (200_000, 800_000, 3_200_000):
            wire.send(_post("slow", turns % count))
            for _ in range(3):
                other.send(_post("half", ONE))
                assert other.read().status == 200
            still_running = not select.select([wire.socket], [], [], 0)[0]
            assert wire.read().status == 200
            if still_running:
                break
        assert still_running
