"""locust -f loadtest/ RestUser: predict requests over REST, by Locust's fast HTTP client."""
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import gevent
from locust import FastHttpUser

import _session
import _work
from _options import Settings
from _user import PredictUser
from serving.client.json_codec import error_message
from serving.client.options import REST_ADDRESS
from serving.client.protocol import CONNECT_TIMEOUT_S, Tls
from serving.client.rest import RestClient, tls_context
from serving.client.saved_model import metadata_of

FOLLOW_S = 1.0


class RestUser(PredictUser, FastHttpUser):
    """One REST client with its own connection (open loop: as many as there are unanswered requests)."""
    abstract = False
    KIND = "REST"
    host = f"http://{REST_ADDRESS}"
    connection_timeout = CONNECT_TIMEOUT_S
    insecure = False

    def __init__(self, environment: Any) -> None:
        settings = _session.of(environment).settings
        self.ssl_context_factory = lambda: tls_context(settings.tls or Tls())
        self.concurrency = 1000 if settings.rate else 1
        super().__init__(environment)
        url = urlsplit(self.host)
        self._origin = f"{url.scheme}://{url.netloc}"
        # With compressed answers the latency would include the compression.
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", **settings.headers}

    @classmethod
    def prepare_work(cls, session: _session.Session) -> _work.Work:
        host = session.environment.host or cls.host

        def make(settings: Settings) -> _work.Work:
            known = metadata_of(settings.saved_model, settings.model) if settings.saved_model else None
            client = RestClient(host, settings.model, settings.version, settings.label, headers=settings.headers,
                                metadata=known, tls=settings.tls)
            work = _work.make(client, settings)
            if settings.version is None:
                gevent.spawn(_follow, session, client, work)
            return work
        return session.work(cls.KIND, make)

    def send(self, due: float) -> None:
        index = self.next_index()
        request = self.work.requests[index]
        sent = perf_counter()
        with self.client.post(f"{self._origin}{request.path}", data=request.body, headers=self._headers,
                              name=self.work.name(), catch_response=True) as response:
            service_ms = response.request_meta["response_time"]
            response.request_meta["request_type"] = self.KIND
            response.request_meta["response_time"] = (sent - due) * 1e3 + service_ms
            if self.pace.open_loop:
                response.request_meta["context"] = {"service_ms": service_ms}
            if response.status_code == 200:
                _, wrong = self.work.check(index, response.content)
                if wrong:
                    response.failure(wrong)
            elif response.status_code:
                response.failure(f"{response.status_code}: {error_message(response.content)}")


def _follow(session: _session.Session, client: RestClient, work: _work.Work) -> None:
    """Asks the server once a second for its newest version, which request names show and REST answers do not have."""
    gevent.sleep(FOLLOW_S)
    while session.is_current(work):
        work.follow(client)
        gevent.sleep(FOLLOW_S)
    client.close()
