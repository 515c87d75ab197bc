"""A model in a child process, used by several threads at the same time: each gets the answers to its own requests."""
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import engine_versions
import numpy as np
import psutil
import pytest
from waiting import until

from benchmark.targets.in_process.connection import Engine, InProcessConnection
from benchmark.targets.starting import start
from benchmark.targets.target import Target
from serving.client.protocol import AnswerError
from user_error import FailedError

THREADS, REQUESTS = 6, 200


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return engine_versions.both(tmp_path_factory.mktemp("models") / "tiny/original/1")


@pytest.fixture(scope="module", params=["session", "predictor", "litert", "openvino"])
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


def test_a_turn_goes_round_the_requests_and_keeps_each_answer(engine: Engine) -> None:
    connection = InProcessConnection(engine)
    inputs = [np.full((2, 4), number, np.float32) for number in range(3)]
    requests = [connection.prepare({"x": each}) for each in inputs]
    alone = [next(iter(connection.timed(request)[1].values())) for request in requests]
    found = connection.turn(requests, 1, 5, 0.01)
    connection.close()
    answers = [next(iter(each.values())) for each in (*found.led, *found.answers)]
    assert (len(found.seconds), len(found.answers)) == (5, 5)
    assert found.led
    assert all(np.array_equal(answer, alone[(1 + number) % 3]) for number, answer in enumerate(answers))
    assert not np.array_equal(alone[0], alone[1])
    assert 0 < sum(found.seconds) <= found.wall_s


@pytest.mark.parametrize("kind", ["session", "litert", "openvino"])
def test_what_a_run_raises_is_an_answer(kind: str, version: Path) -> None:
    with Engine(kind, "session:original", version, "", grappler=True) as engine:
        engine.wait_until(engine.loaded, 60, "while loading the model")
        connection = InProcessConnection(engine)
        request = connection.prepare({"x": np.zeros((2, 5), np.float32)})  # the model takes 4 numbers
        for _ in range(2):  # and the engine goes on
            with pytest.raises(AnswerError, match=r"^the model refused the request: [^\n]*([Ss]hape|Matrix)[^\n{]*$"):
                connection.timed(request)
        connection.timed(connection.prepare({"x": np.zeros((2, 4), np.float32)}))


@pytest.mark.parametrize("kind", ["litert", "openvino"])
def test_another_engine_runs_without_tensorflow(kind: str, version: Path) -> None:
    with Engine(kind, f"session:original@{kind}", version, "", grappler=True) as engine:
        engine.wait_until(engine.loaded, 60, "while loading the model")
        connection = InProcessConnection(engine)
        assert connection.timed(connection.prepare({"x": np.ones((2, 4), np.float32)}))[1]["y"].shape == (2, 3)
        libraries = Path(f"/proc/{engine.process.pid}/maps").read_text()
    assert kind in libraries
    assert "libtensorflow" not in libraries


@pytest.mark.parametrize(("kind", "file", "words"), [
    ("litert", "model.tflite", "onvert the model again"), ("openvino", "assets.extra/openvino/0.bin", "0.bin")])
def test_a_file_that_another_engine_does_not_take_is_named(kind: str, file: str, words: str, version: Path,
                                                           tmp_path: Path) -> None:
    cut = shutil.copytree(version, tmp_path / "tiny/cut/1")
    (cut / file).write_bytes((version / file).read_bytes()[:20])
    with (Engine(kind, "session:cut", cut, "", grappler=True) as engine,
          pytest.raises(FailedError, match=rf"^the process of session:cut died [^\n]*{words}[^\n]*$")):
        engine.wait_until(engine.loaded, 60, "while loading the model")


@pytest.mark.parametrize("kind", ["session", "litert", "openvino"])
def test_the_error_for_a_model_that_does_not_load_gives_the_reason(kind: str, version: Path) -> None:
    with (Engine(kind, "session:original", version, "absent", grappler=True) as engine,
          pytest.raises(FailedError, match="no signature 'absent': there are serving_default")):
        engine.wait_until(engine.loaded, 60, "while loading the model")


@pytest.mark.parametrize("kind", ["session", "predictor"])
def test_a_run_in_the_thread_that_asks_gives_the_same_answer(kind: str, version: Path) -> None:
    answers = []
    for threads in (-1, 2):
        with Engine(kind, "tiny", version, "", grappler=True, threads=threads) as engine:
            engine.wait_until(engine.loaded, 60, "while loading the model")
            connection = InProcessConnection(engine)
            answers.append(connection.timed(connection.prepare({"x": np.ones((2, 4), np.float32)}))[1]["y"])
            connection.close()
    np.testing.assert_array_equal(*answers)


def test_other_engines_take_the_number_of_threads_and_do_not_run_in_the_thread_that_asks(version: Path) -> None:
    with (Engine("litert", "tiny", version, "", grappler=True, threads=1) as one,
          Engine("litert", "tiny", version, "", grappler=True, threads=4) as four):
        for engine in (one, four):
            engine.wait_until(engine.loaded, 60, "while loading the model")
        # A thread that loaded the model may still be ending.
        few, many = (psutil.Process(engine.server()) for engine in (one, four))
        until(lambda: many.num_threads() - few.num_threads() == 3)
    with (Engine("litert", "tiny", version, "", grappler=True, threads=-1) as engine,
          pytest.raises(FailedError, match="only a Session runs in the thread that asks")):
        engine.wait_until(engine.loaded, 60, "while loading the model")


def test_a_process_has_the_targets_environment_threads_and_cores(version: Path) -> None:
    target = Target("one core", "tiny", "session", version.parent, env=(("ONEDNN_MAX_CPU_ISA", "AVX2"),),
                    prefix=("taskset", "-c", "0"), threads=1)
    started = start(target)
    try:
        started.ready()
        assert started.child is not None
        process = psutil.Process(started.child.process.pid)
        assert process.cpu_affinity() == [0]
        assert process.environ()["ONEDNN_MAX_CPU_ISA"] == "AVX2"
        assert process.cmdline()[-2:] == ["--threads", "1"]
    finally:
        started.stop()
