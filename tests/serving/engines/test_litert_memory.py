"""Huge batches are refused before they take memory, by what LiteRT's own tensors take; other requests go on."""
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import running_server
import tflite_models
from graph_session import seeded

from export.runtime import tf
from serving.engines import litert
from serving.engines.litert_memory import LiteRTMemory
from serving.errors import Code, ServingError
from serving.memory import MemoryLimit

IMAGE = 8 * 8 * 4 * 4  # bytes of 8 x 8 with 4 channels


def conv(x: Any, channels: int, seed: int, name: str = "") -> Any:
    weights = tf.constant(seeded((1, 1, int(x.shape[-1]), channels), seed))
    return tf.nn.conv2d(x, weights, 1, "SAME", name=name or None)


def images() -> Any:
    return tf.compat.v1.placeholder(tf.float32, (None, 8, 8, 4), "x")


def wide() -> None:
    """64 channels between two layers of 4."""
    conv(conv(images(), 64, 1), 4, 2, "y")


def beside() -> None:
    """What is added at the end is kept all the while."""
    first = conv(images(), 16, 1)
    tf.add(first, conv(conv(first, 64, 2), 16, 3), name="y")


def turning() -> None:
    x = images()
    made = tf.while_loop(lambda turn, _: turn < 3, lambda turn, value: (turn + 1, tf.sin(tf.tile(value, [1, 1, 1, 16]))[
        ..., :4]), [0, x], shape_invariants=[tf.TensorShape([]), tf.TensorShape([None, 8, 8, 4])])
    tf.identity(made[1], name="y")


def memory_of(nodes: Callable[[], None]) -> LiteRTMemory:
    return LiteRTMemory(tflite_models.converted(nodes, ["x"], ["y"]), 1)


@pytest.mark.parametrize(("nodes", "expected"), [
    # An operation keeps its input and its output; the request's input and the answer exist twice.
    (wide, (1 + 16) * IMAGE + 2 * IMAGE),
    (beside, (4 + 16 + 4) * IMAGE + (1 + 4) * IMAGE),
])
def test_the_estimate_is_what_is_kept_at_one_moment(nodes: Callable[[], None], expected: int) -> None:
    assert memory_of(nodes).of_request({0: seeded((20, 8, 8, 4))}) == (20, expected)


def test_what_a_loop_keeps_counts(tmp_path: Path) -> None:
    examples, each = memory_of(turning).of_request({0: seeded((20, 8, 8, 4))})
    assert examples == 20
    assert each >= 2 * 16 * IMAGE


def test_few_examples_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = memory_of(wide)
    monkeypatch.setattr(LiteRTMemory, "_measured", lambda *_: pytest.fail("a few examples"))
    assert memory.of_request({0: seeded((15, 8, 8, 4))}) == (0, 0)
    assert memory.of_request({0: np.float32(3) * np.ones((), np.float32)}) == (0, 0)


def test_each_size_of_an_example_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []
    memory = memory_of(wide)
    monkeypatch.setattr(LiteRTMemory, "_measured", lambda self, values, examples: measured.append(examples) or 7)
    for batch, width in ((16, 8), (400, 8), (30, 9), (31, 9)):
        assert memory.of_request({0: np.zeros((batch, 8, width, 4), np.float32)}) == (batch, 7)
    assert measured == [16, 30]


def test_what_cannot_be_run_has_no_limit() -> None:
    assert memory_of(wide).of_request({0: seeded((20, 8, 8, 5))}) == (20, 0)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tflite_models.write(tmp_path_factory.mktemp("lite") / "1", wide, {
        "serving_default": ({"x": "x"}, {"y": "y"})})


@pytest.fixture
def model(path: Path) -> litert.LiteRTModel:
    made = litert.load("m", 1, path, 1, 1)
    made.memory = MemoryLimit(50 * 19 * IMAGE)
    return made


def ask(model: litert.LiteRTModel, batch: int) -> Any:
    return model.run(["x"], [seeded((batch, 8, 8, 4))], ["y"])[0]


def test_a_huge_batch_is_refused_and_the_advised_one_answered(model: litert.LiteRTModel) -> None:
    with pytest.raises(ServingError, match="send 50 examples at most in one request") as refused:
        ask(model, 100_000)
    assert refused.value.code is Code.RESOURCE_EXHAUSTED
    assert ask(model, 50).shape == (50, 8, 8, 4)
    assert ask(model, 2).shape == (2, 8, 8, 4)


def test_a_request_that_waits_for_an_interpreter_takes_no_memory(model: litert.LiteRTModel) -> None:
    """Two of them would be too many at once, but the one interpreter runs them one after the other."""
    together = threading.Barrier(4)

    def send(_: int) -> Any:
        together.wait()
        return ask(model, 40).shape
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(send, range(4))) == {(40, 8, 8, 4)}


def test_the_memory_of_a_large_request_is_given_back(model: litert.LiteRTModel,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    expected = ask(model, 40)
    with model._pool.worker(None) as worker:
        assert worker.shapes == ((0, (40, 8, 8, 4)),)
    monkeypatch.setattr(litert, "worth_keeping", lambda taken: taken < 40 * 19 * IMAGE)
    np.testing.assert_array_equal(ask(model, 40), expected)
    with model._pool.worker(None) as worker:
        assert worker.shapes == ()
    np.testing.assert_allclose(ask(model, 3), tflite_models.answers(seeded((3, 8, 8, 4)), wide), atol=1e-5)


def test_without_a_limit_nothing_is_measured(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LiteRTMemory, "_measured", lambda *_: pytest.fail("no limit applies"))
    assert ask(litert.load("m", 1, path, 1, 1), 1000).shape == (1000, 8, 8, 4)


def test_the_server_refuses_a_huge_batch_and_goes_on(path: Path, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "1").symlink_to(path)
    with running_server.serving(tmp_path, "m", prefer_tflite_model=True, max_request_memory_mb=200) as (_, flags):
        def send(batch: int) -> Any:
            return np.shape(running_server.call(flags.port, running_server.request("m", x=seeded((batch, 8, 8, 4)))))
        with ThreadPoolExecutor(3) as pool:
            huge = [pool.submit(send, 100_000) for _ in range(2)]
            small = [pool.submit(send, 1 + turn % 5) for turn in range(40)]
            for one in huge:
                with pytest.raises(grpc.RpcError) as refused:
                    one.result()
                assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                assert "a request of 100000 examples would take some" in refused.value.details()
            assert [one.result()[0] for one in small] == [1 + turn % 5 for turn in range(40)]
        assert send(1000) == (1000, 8, 8, 4)
