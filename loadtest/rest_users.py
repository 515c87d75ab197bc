"""locust -f loadtest/ RestUser: predict requests over REST, by Locust's fast HTTP client."""
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import gevent
from locust import FastHttpUser, task
from locust.exception import StopUser

import _session
import _work
from _options import Settings
from _pace import Pace
from serving.client.json_codec import error_message
from serving.client.options import REST_ADDRESS
from serving.client.protocol import CONNECT_TIMEOUT_S, Tls
from serving.client.rest import RestClient, tls_context

FOLLOW_S = 1.0


class RestUser(FastHttpUser):
    """One REST client that asks again as soon as it has its answer, or on schedule with --rate."""
    host = f"http://{REST_ADDRESS}"
    connection_timeout = CONNECT_TIMEOUT_S
    insecure = False

    def __init__(self, environment: Any) -> None:
        session = _session.of(environment)
        settings = session.settings
        self.ssl_context_factory = lambda: tls_context(settings.tls or Tls())
        self.concurrency = 1000 if settings.rate else 1
        super().__init__(environment)
        self._work = self.prepare_work(session)
        url = urlsplit(self.host)
        self._origin = f"{url.scheme}://{url.netloc}"
        # Compressed answers would measure the compression.
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", **settings.headers}
        number = session.next_user()
        self._next = number
        self._pace = Pace(self._send, self._drop, rate=settings.rate, constant=settings.arrivals == "constant",
                          seed=settings.seed + number, requests=settings.requests)

    @classmethod
    def prepare_work(cls, session: _session.Session) -> _work.Work:
        host = session.environment.host or cls.host

        def make(settings: Settings) -> _work.Work:
            client = RestClient(host, settings.model, settings.version, settings.label, headers=settings.headers,
                                tls=settings.tls)
            work = _work.make(client, settings)
            if settings.version is None:
                gevent.spawn(_follow, client, work)
            return work
        return session.work("rest", make)

    @task
    def predict(self) -> None:
        if not self._pace.step():
            raise StopUser

    def on_stop(self) -> None:
        self._pace.stop()

    def _send(self, due: float) -> None:
        self._next += 1
        index = self._next % len(self._work.requests)
        request = self._work.requests[index]
        sent = perf_counter()
        with self.client.post(f"{self._origin}{request.path}", data=request.body, headers=self._headers,
                              name=self._work.name(), catch_response=True) as response:
            service_ms = response.request_meta["response_time"]
            response.request_meta["request_type"] = "REST"
            response.request_meta["response_time"] = (sent - due) * 1e3 + service_ms
            if self._pace.open_loop:
                response.request_meta["context"] = {"service_ms": service_ms}
            if response.status_code == 200:
                _, wrong = self._work.check(index, response.content)
                if wrong:
                    response.failure(wrong)
            elif response.status_code:
                response.failure(f"{response.status_code}: {error_message(response.content)}")

    def _drop(self) -> None:
        self.environment.events.request.fire(
            request_type="REST", name=self._work.name(), response_time=0, response_length=0,
            exception=_work.NotSentError(), context={}, start_time=None, url=None)


def _follow(client: RestClient, work: _work.Work) -> None:
    """REST answers do not tell their version: ask which is the newest, so that names change when it does."""
    while True:
        gevent.sleep(FOLLOW_S)
        work.follow(client)
