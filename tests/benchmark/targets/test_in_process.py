"""A model in a child process, used by several threads at the same time: each gets the answers to its own requests."""
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_saved_model import write_tiny_saved_model

from benchmark.targets.in_process.connection import Engine, InProcessConnection
from serving.client.protocol import AnswerError
from user_error import FailedError

THREADS, REQUESTS = 6, 200


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny/original/1"
    write_tiny_saved_model(path)
    return path


@pytest.fixture(scope="module", params=["session", "predictor"])
def engine(request: pytest.FixtureRequest, version: Path) -> Iterator[Engine]:
    with Engine(request.param, request.param, version, "", grappler=True) as started:
        started.wait_until(started.loaded, 60, "while loading the model")
        yield started


def test_threads_get_the_answers_to_their_own_requests(engine: Engine) -> None:
    wrong, done = list[str](), list[int]()

    def ask(number: int) -> None:
        connection = InProcessConnection(engine)
        inputs = {"x": np.full((number + 1, 4), number, np.float32)}
        request = connection.prepare(inputs)
        (first,) = connection.timed(request)[1].values()
        for _ in range(REQUESTS):
            seconds, outputs = connection.timed(request)
            (answer,) = outputs.values()
            if answer.shape[0] != number + 1 or not np.array_equal(answer, first) or seconds <= 0:
                wrong.append(f"thread {number} got {answer.shape}")
        connection.close()
        done.append(number)
    threads = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == list(range(THREADS))
    assert wrong == []


def test_what_a_run_raises_is_an_answer(version: Path) -> None:
    with Engine("session", "session:original", version, "", grappler=True) as engine:
        engine.wait_until(engine.loaded, 60, "while loading the model")
        connection = InProcessConnection(engine)
        request = connection.prepare({"x": np.zeros((2, 5), np.float32)})  # the model takes 4 numbers
        for _ in range(2):  # and the engine goes on
            with pytest.raises(AnswerError, match=r"^the model refused the request: [^\n]*(Matrix|shape)[^\n{]*$"):
                connection.timed(request)
        connection.timed(connection.prepare({"x": np.zeros((2, 4), np.float32)}))


def test_the_error_for_a_model_that_does_not_load_gives_the_reason(version: Path) -> None:
    with (Engine("session", "session:original", version, "absent", grappler=True) as engine,
          pytest.raises(FailedError, match="no signature 'absent': there are serving_default")):
        engine.wait_until(engine.loaded, 60, "while loading the model")
