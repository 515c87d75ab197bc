"""The base class of REST and gRPC users: sends the prepared requests cyclically, on time, and reports failures."""
from abc import abstractmethod
from typing import Any

import gevent
from locust import User, task
from locust.exception import StopUser

import _session
import _work
from _pace import Pace
from user_error import UserError

RETRY_S = 1.0


class PredictUser(User):  # decision 53
    """Sends the next request after each answer, or on schedule with --rate. `KIND` is shown as the request type."""
    abstract = True
    KIND = ""

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.session = _session.of(environment)
        self.settings = self.session.settings
        self._turn = number = self.session.next_user()
        self.pace = Pace(self.send, self._drop, rate=self.settings.rate, constant=self.settings.arrivals == "constant",
                         seed=self.settings.seed + number, requests=self.settings.requests)

    @classmethod
    @abstractmethod
    def prepare_work(cls, session: _session.Session) -> _work.Work:
        """The requests and answers of this process for the user's protocol. Raises UserError if the server fails."""

    @abstractmethod
    def send(self, due: float) -> None:
        """One request that should start at `due` (perf_counter seconds), measured, checked and reported."""

    @task
    def predict(self) -> None:
        if not self.pace.step():
            raise StopUser

    def on_start(self) -> None:
        """Prepares the requests; while the server cannot be reached, retries and reports a failure once a second."""
        while True:
            try:
                self.work = self.prepare_work(self.session)
                return
            except UserError as error:
                self._fail(f"{self.settings.model} batch {self.settings.batch}", error)
                gevent.sleep(RETRY_S)

    def on_stop(self) -> None:
        self.pace.stop()

    def next_index(self) -> int:
        self._turn += 1
        return self._turn % len(self.work.requests)

    def _drop(self) -> None:
        self._fail(self.work.name(), _work.NotSentError())

    def _fail(self, name: str, error: Exception) -> None:
        self.environment.events.request.fire(request_type=self.KIND, name=name, response_time=0, response_length=0,
                                             exception=error, context={}, start_time=None, url=None)
