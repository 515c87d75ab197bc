"""locust -f loadtest/ GrpcUser: predict requests over gRPC, one channel per user."""
import os
import time
from time import perf_counter
from typing import Any

import grpc.experimental.gevent
from locust import User, task
from locust.exception import StopUser

import _session
import _work
from _options import Settings
from _pace import Pace
from commandline import UserError
from serving.client.grpc import GrpcClient, answered_version

_ready_process = 0


def _make_ready() -> None:
    """gRPC must be told of gevent before the first channel, once in each process that Locust forks."""
    global _ready_process
    if _ready_process != os.getpid():
        grpc.experimental.gevent.init_gevent()
        _ready_process = os.getpid()


def _client(settings: Settings) -> GrpcClient:
    _make_ready()
    return GrpcClient(settings.grpc_address, settings.model, settings.version, settings.label,
                      headers=settings.headers, tls=settings.tls)


class GrpcUser(User):
    """One gRPC client that asks again as soon as it has its answer, or on schedule with --rate."""

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        session = _session.of(environment)
        settings = session.settings
        self._work = self.prepare_work(session)
        self._client = _client(settings)
        number = session.next_user()
        self._next = number
        self._pace = Pace(self._send, self._drop, rate=settings.rate, constant=settings.arrivals == "constant",
                          seed=settings.seed + number, requests=settings.requests)

    @classmethod
    def prepare_work(cls, session: _session.Session) -> _work.Work:
        def make(settings: Settings) -> _work.Work:
            with _client(settings) as client:
                return _work.make(client, settings, answered_version)
        return session.work("grpc", make)

    @task
    def predict(self) -> None:
        if not self._pace.step():
            raise StopUser

    def on_stop(self) -> None:
        self._pace.stop()
        self._client.close()

    def _send(self, due: float) -> None:
        self._next += 1
        index = self._next % len(self._work.requests)
        started, sent = time.time(), perf_counter()
        raw, version, failure = b"", None, None
        try:
            raw = self._client.send(self._work.requests[index])
        except UserError as error:
            failure = error
        answered = perf_counter()
        if failure is None:
            version, wrong = self._work.check(index, raw)
            failure = UserError(wrong) if wrong else None
        self.environment.events.request.fire(
            request_type="gRPC", name=self._work.name(version), response_time=(answered - due) * 1e3,
            response_length=len(raw), exception=failure, start_time=started, url=None,
            context={"service_ms": (answered - sent) * 1e3} if self._pace.open_loop else {})

    def _drop(self) -> None:
        self.environment.events.request.fire(
            request_type="gRPC", name=self._work.name(), response_time=0, response_length=0,
            exception=_work.NotSentError(), context={}, start_time=None, url=None)
