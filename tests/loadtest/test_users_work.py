"""Pace and answer checks of the load test's users, without Locust."""
from pathlib import Path
from time import perf_counter
from typing import Any

import gevent
import gevent.event
import numpy as np
import pytest

from _pace import MOST_IN_FLIGHT, Pace
from _work import Work, make
from serving import recording
from serving.client.payloads import TensorSpec
from serving.client.protocol import Metadata, Signature, VersionStatus
from user_error import UserError

SPEC = TensorSpec(np.dtype(np.float32), (-1, 2))


class Doubler:
    """A client whose answers are its inputs times a factor; raw answers are the bytes of that array."""
    measured_by = "nothing"
    version = 3

    def __init__(self, factor: float = 2.0) -> None:
        self.factor = factor

    def metadata(self) -> Metadata:
        return Metadata("m", self.version, {"serving_default": Signature("", {"x": SPEC}, {"y": SPEC})})

    def prepare(self, inputs: Any, signature_name: str = "") -> Any:
        return inputs["x"]

    def send(self, request: Any) -> bytes:
        raw: bytes = (request * np.float32(self.factor)).tobytes()
        return raw

    def decode(self, raw: bytes, signature_name: str = "") -> Any:
        return {"y": np.frombuffer(raw, np.float32).reshape(-1, 2)}

    def status(self) -> tuple[VersionStatus, ...]:
        if self.version == 0:
            raise UserError("gone")
        return VersionStatus(self.version, "AVAILABLE"), VersionStatus(9, "LOADING")

    def predict(self, inputs: Any, signature_name: str = "") -> Any:
        return self.decode(self.send(self.prepare(inputs)))

    def close(self) -> None: ...


@pytest.mark.parametrize(("options", "words"), [
    ({"label": "a", "model_version": 1}, "--model-version and --label both choose a version"),
    ({"samples": "a", "recorded": "b"}, "--samples and --recorded both give the requests"),
    ({"batch": 0}, "--batch must be at least 1"), ({"payloads": 0}, "--payloads must be at least 1"),
    ({"header": "nameless"}, "'nameless' is no header"),
], ids=str)
def test_options_that_cannot_be_used(options: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        settings(**options)


def test_samples_that_are_missing() -> None:
    with pytest.raises(UserError, match=r"missing\.npz: there is no such file"):
        make(Doubler(), settings(samples="missing.npz"))


def settings(**changed: Any) -> Any:
    import argparse

    import _options
    parser = argparse.ArgumentParser()
    _options.add_arguments(parser)
    return _options.settings(parser.parse_args([f"--{k.replace('_', '-')}={v}" for k, v in changed.items()]))


@pytest.fixture
def work() -> Work:
    return make(Doubler(), settings(model="m", batch=4, payloads=3), lambda raw: 3)


def test_right_answers_pass_and_give_their_version(work: Work) -> None:
    for index, request in enumerate(work.requests):
        assert work.check(index, Doubler().send(request)) == (3, None)
        # Not the same bytes, but within the tolerance. The second time, the answer is one that is remembered as right.
        for _ in range(2):
            assert work.check(index, Doubler(2.0000002).send(request)) == (3, None)
    assert work.name(7) == "m/7 batch 4"
    assert work.name() == "m/3 batch 4"


@pytest.mark.parametrize(("raw", "words"), [
    (lambda work: Doubler(2.01).send(work.requests[0]), "wrong answer: not equal"),
    (lambda work: Doubler().send(work.requests[1]), "wrong answer: not equal"),
    (lambda work: Doubler().send(work.requests[0])[:-8], "wrong answer: .*shape"),
    (lambda work: b"abc", "not decodable"),
], ids=["other values", "another's answer", "too few", "garbage"])
def test_wrong_answers_are_found(work: Work, raw: Any, words: str) -> None:
    import re
    for _ in range(2):  # a wrong answer is not remembered as right
        _, wrong = work.check(0, raw(work))
        assert wrong
        assert re.search(words, wrong)


def test_answers_are_compared_with_the_recorded_ones(tmp_path: Path) -> None:
    inputs = [{"x": np.full((3, 2), number, np.float32)} for number in (1, 2)]
    recording.write(tmp_path / "log", [recording.Predicted("m", x, "", {"y": x["x"] * 2}, 1) for x in inputs])
    work = make(Doubler(), settings(model="m", recorded=tmp_path / "log"))
    assert work.name() == "m/3 batch 3"
    assert work.check(1, Doubler().send(work.requests[1])) == (None, None)
    with pytest.raises(UserError, match="request 1 before any load: wrong answer"):
        make(Doubler(2.01), settings(model="m", recorded=tmp_path / "log"))
    recording.write(tmp_path / "empty", [])
    with pytest.raises(UserError, match="empty: holds no predict request"):
        make(Doubler(), settings(recorded=tmp_path / "empty"))


def test_names_follow_the_newest_available_version(work: Work) -> None:
    client = Doubler()
    client.version = 4
    work.follow(client)
    assert work.version == 4
    client.version = 0
    work.follow(client)
    assert work.version == 4


def test_closed_loop_waits_for_each_answer_and_ends() -> None:
    sent: list[float] = []
    pace = Pace(sent.append, lambda: None, rate=0, constant=True, seed=1, requests=3)
    assert [pace.step() for _ in range(4)] == [True, True, True, False]
    assert len(sent) == 3


def test_open_loop_is_not_delayed_by_slow_answers() -> None:
    dues: list[float] = []
    release = gevent.event.Event()

    def slow(due: float) -> None:
        dues.append(due)
        release.wait(10)
    pace = Pace(slow, lambda: None, rate=1000, constant=True, seed=1, requests=20)
    began = perf_counter()
    for _ in range(20):
        pace.step()
    gevent.sleep(0)
    assert len(dues) == 20, "every request must be sent, although none was answered"
    assert np.diff(dues) == pytest.approx(0.001, abs=1e-6)
    assert dues[0] >= began
    release.set()
    assert pace.step() is False


def test_poisson_gaps_have_the_rate_and_the_seed() -> None:
    first, again = (Pace(lambda due: None, lambda: None, rate=50, constant=False, seed=4, requests=0)
                    for _ in range(2))
    gaps = [first._gap() for _ in range(4000)]
    assert np.mean(gaps) == pytest.approx(1 / 50, rel=0.05)
    assert np.std(gaps) == pytest.approx(1 / 50, rel=0.05)
    assert gaps == [again._gap() for _ in range(4000)]


def test_too_many_unanswered_requests_are_dropped_and_counted() -> None:
    dropped: list[int] = []
    never = gevent.event.Event()
    pace = Pace(lambda due: never.wait(10), lambda: dropped.append(1), rate=1e6, constant=True, seed=1, requests=0)
    for _ in range(MOST_IN_FLIGHT + 5):
        pace.step()
    assert len(dropped) == 5
    pace.stop()
