"""What a REST and a gRPC user have in common: paced requests, sent in turn, their answers checked."""
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
    """Asks again as soon as it has its answer, or on schedule with --rate. `KIND` is shown as the request type."""
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
    def prepare_work(cls, session: _session.Session) -> _work.Work:
        """The process's work for this protocol. Raises UserError when the server cannot be asked."""
        raise NotImplementedError

    def send(self, due: float) -> None:
        """One request that should start at `due` (perf_counter seconds), measured, checked and reported."""
        raise NotImplementedError

    @task
    def predict(self) -> None:
        if not self.pace.step():
            raise StopUser

    def on_start(self) -> None:
        """Asks the server what it takes; as long as it cannot be asked, that is a failure each second."""
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
