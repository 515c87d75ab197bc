"""Users with predetermined latencies: the statistics must be the same, however many processes share the users."""
from typing import Any

import numpy as np
from locust import User, task
from locust.exception import StopUser
from locust.runners import WorkerRunner

import _session

USERS, REQUESTS = 4, 250


class ScriptedUser(User):
    made = 0

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        runner = environment.runner
        worker = runner.worker_index if isinstance(runner, WorkerRunner) else 0
        self.number = ScriptedUser.made + (USERS // 2) * worker
        ScriptedUser.made += 1

    @classmethod
    def prepare_work(cls, session: _session.Session) -> None:
        """Does nothing: these users send no requests."""

    @task
    def fire(self) -> None:
        assert self.number < USERS, "two workers with two users each were expected"
        for at, latency_ms in enumerate(np.random.default_rng(self.number).lognormal(1, 2, REQUESTS)):
            self.environment.events.request.fire(
                request_type="REST", name=f"m/{at % 2} batch 1", response_time=float(latency_ms), response_length=3,
                exception=ValueError("wrong") if at % 50 == 0 else None, start_time=0.0, url=None,
                context={"service_ms": float(latency_ms) / 2})
        raise StopUser
