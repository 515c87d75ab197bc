"""locust -f loadtest/ GrpcUser: predict requests over gRPC, one channel per user."""
import os
import time
from time import perf_counter
from typing import Any

import grpc.experimental.gevent

import _session
import _work
from _options import Settings
from _user import PredictUser
from serving.client.grpc import GrpcClient, answered_version
from user_error import UserError

_ready_process = 0


def _make_ready() -> None:
    """Prepares gRPC for gevent: needed before the first channel, once in each process that Locust forks."""
    global _ready_process
    if _ready_process != os.getpid():
        grpc.experimental.gevent.init_gevent()
        _ready_process = os.getpid()


def _client(settings: Settings) -> GrpcClient:
    _make_ready()
    return GrpcClient(settings.grpc_address, settings.model, settings.version, settings.label,
                      headers=settings.headers, tls=settings.tls)


class GrpcUser(PredictUser):
    """One gRPC client with its own channel."""
    abstract = False
    KIND = "gRPC"

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self._client = _client(self.settings)

    @classmethod
    def prepare_work(cls, session: _session.Session) -> _work.Work:
        def make(settings: Settings) -> _work.Work:
            with _client(settings) as client:
                return _work.make(client, settings, answered_version)
        return session.work(cls.KIND, make)

    def on_stop(self) -> None:
        super().on_stop()
        self._client.close()

    def send(self, due: float) -> None:
        index = self.next_index()
        started, sent = time.time(), perf_counter()
        raw, version, failure = b"", None, None
        try:
            raw = self._client.send(self.work.requests[index])
        except UserError as error:
            failure = error
        answered = perf_counter()
        if failure is None:
            version, wrong = self.work.check(index, raw)
            failure = UserError(wrong) if wrong else None
        self.environment.events.request.fire(
            request_type=self.KIND, name=self.work.name(version), response_time=(answered - due) * 1e3,
            response_length=len(raw), exception=failure, start_time=started, url=None,
            context={"service_ms": (answered - sent) * 1e3} if self.pace.open_loop else {})
