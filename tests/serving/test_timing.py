"""Clients that ask get the server's timing; the answers to others do not change."""
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
import pytest
from echo_servers import Servers
from fake_servable import FakeServable

from serving.batch_scheduler import Parameters, Scheduler
from serving.batching import BatchingServable
from serving.client.grpc import GrpcClient
from serving.client.rest import RestClient
from serving.http_message import Request
from serving.predictor import Predictor
from serving.rest import RestApi
from serving.servable import Array
from serving.timing import ANSWER_HEADER, QUEUE, REQUEST_HEADER, STAGES, Stopwatch, Watched, read

RUN_S = 0.02


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    started = Servers()
    yield started
    started.stop()


def slow(feeds: Sequence[str], values: Sequence[Array], fetches: Sequence[str]) -> list[Array]:
    time.sleep(RUN_S)
    return [np.asarray(values[0] * 2)]


@pytest.mark.parametrize("kind", [RestClient, GrpcClient])
def test_the_stages_are_reported_to_clients_that_ask(kind: Any, servers: Servers) -> None:
    inputs = {"x": np.zeros(50_000, np.float32)}
    with kind(servers.rest if kind is RestClient else servers.grpc, "echo", headers={REQUEST_HEADER: "1"}) as client:
        request, least = client.prepare(inputs), dict.fromkeys(STAGES, float("inf"))
        for _ in range(20):
            began = time.perf_counter()
            client.send(request)
            seen = (time.perf_counter() - began) * 1e3
            told = client.server_timing()
            assert tuple(told) == STAGES
            assert 0 < sum(told.values()) < seen
            least = {stage: min(least[stage], told[stage]) for stage in STAGES}
    # An echo runs in no time; the least of many, since a busy machine may stop any of them for a while.
    assert min(least["parse"], least["render"]) > least["run"] > 0


@pytest.mark.parametrize("kind", [RestClient, GrpcClient])
def test_nothing_is_reported_to_other_clients(kind: Any, servers: Servers) -> None:
    with kind(servers.rest if kind is RestClient else servers.grpc, "echo") as client:
        client.predict({"x": np.zeros(2, np.float32)})
        assert client.server_timing() == {}


def test_grpc_trailers_are_empty_for_clients_that_do_not_ask(servers: Servers) -> None:
    with grpc.insecure_channel(servers.grpc) as channel:
        method = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        with GrpcClient(servers.grpc, "echo") as client:
            request = client.prepare({"x": np.zeros(2, np.float32)})
        plain, no, asked = (method.with_call(request, metadata=metadata, timeout=60)[1].trailing_metadata()
                            for metadata in (None, ((REQUEST_HEADER, "0"),), ((REQUEST_HEADER, "1"),)))
    assert not plain
    assert not no
    assert [key for key, _ in asked] == [ANSWER_HEADER]


class SlowStore:
    """One model that takes a while."""

    @contextmanager
    def pin(self, spec: Any) -> Iterator[Any]:
        yield FakeServable(compute=slow)

    def status(self, spec: Any) -> list[Any]:
        return []

    def models(self) -> list[str]:
        return ["m"]


def test_waiting_for_a_thread_and_the_run_are_separate_stages() -> None:
    api = RestApi(Predictor(SlowStore()), timeout_ms=0, cors=False, max_body_bytes=1000,
                  observe=lambda call, code: None, monitoring=None, ready=None)
    request = Request("POST", "/v1/models/m:predict", headers={REQUEST_HEADER: "1"}, body=b'{"instances": [1.0]}',
                      came=time.perf_counter() - 0.5)
    response = api.handle(request)
    told = read(dict(response.headers)[ANSWER_HEADER])
    assert response.status == 200
    assert told["queue"] >= 500
    assert told["run"] >= RUN_S * 1e3
    # Nothing is counted twice.
    assert sum(told.values()) < (time.perf_counter() - request.came) * 1e3
    for silent in ({}, {REQUEST_HEADER: "0"}, {REQUEST_HEADER: ""}):
        request.headers = silent
        assert ANSWER_HEADER not in dict(api.handle(request).headers)


def test_waiting_for_a_batch_counts_as_queue() -> None:
    scheduler = Scheduler(Parameters(max_batch_size=2, max_execution_batch_size=2, batch_timeout_s=600.0,
                                     num_batch_threads=1))
    servable, values = BatchingServable(FakeServable(compute=slow), scheduler), [np.ones((1, 1), np.float32)]
    began = time.perf_counter()
    watch = Stopwatch(QUEUE, began)
    first = threading.Thread(target=Watched(servable, watch).run, args=(["x:0"], values, ["y:0"]))
    first.start()
    while not scheduler._queues or not scheduler._queues[0].batches:
        time.sleep(0.001)
    time.sleep(0.1)
    servable.run(["x:0"], values, ["y:0"])  # fills the batch
    first.join(60)
    told = read(watch.text())
    scheduler.stop()
    assert told["queue"] >= 100
    assert told["run"] >= RUN_S * 1e3
    assert told["queue"] + told["run"] < (time.perf_counter() - began) * 1e3
