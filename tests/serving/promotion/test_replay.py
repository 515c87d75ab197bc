"""Recorded traffic goes to stable and to the canary, and their answers must agree."""
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.client.protocol import AnswerError
from serving.promotion.gates import Agreement
from serving.promotion.golden import Golden
from serving.promotion.plan import STABLE, Kind, Operation, Served, Stage
from serving.promotion.replay import replayed
from serving.promotion.settings import Parity

OPERATION = Operation("1", Kind.CANARY, "m", 2, Served(frozenset({1}), {STABLE: 1}), Stage.BAKE)
REQUESTS = [Golden({"x": np.full((2, 1), number, np.float32)}, "") for number in range(10)]

Answer = Callable[[Any], Any]


def _twice(x: Any) -> Any:
    return 2 * x


def _off_for_large(x: Any) -> Any:
    return 2 * x + (x > 8)


def _refused(x: Any) -> Any:
    raise AnswerError("500", "no")


class Host:
    """A server whose labels answer by functions."""

    def __init__(self, **labels: Answer) -> None:
        self.labels, self.asked, self.closed = labels, 0, 0

    def client(self, model: str, label: str) -> Any:
        host = self

        class Client:
            def predict(self, inputs: Any, signature: str) -> Any:
                host.asked += 1
                return {"y": host.labels[label](inputs["x"])}

            def close(self) -> None:
                host.closed += 1
        return Client()


def _replayed(tmp_path: Path, *hosts: Any, requests: list[Golden] = REQUESTS) -> Any:
    return replayed(OPERATION, hosts, iter(requests), Agreement((tmp_path, tmp_path), Parity(0.0, 0.0, 0.0, 0.99)))


def test_answers_that_agree_pass_and_the_servers_take_turns(tmp_path: Path) -> None:
    hosts = [Host(stable=_twice, canary=_twice), Host(stable=_twice, canary=_twice)]
    found = _replayed(tmp_path, *hosts)
    assert found.passed
    assert (found.figures["requests"], found.figures["examples"]) == (10, 20)
    assert [(host.asked, host.closed) for host in hosts] == [(10, 2), (10, 2)]


def test_one_other_answer_among_many_is_found(tmp_path: Path) -> None:
    found = _replayed(tmp_path, Host(stable=_twice, canary=_off_for_large))
    assert found.passed is False
    assert "not equal: output 'y'" in found.words
    assert found.figures["requests"] == 10


def test_what_only_the_canary_does_not_answer_is_refused(tmp_path: Path) -> None:
    found = _replayed(tmp_path, Host(stable=_twice, canary=_refused))
    assert found.passed is False
    assert "does not answer recorded request 1, and stable does: the server answered 500: no" in found.words


@pytest.mark.parametrize("requests", [REQUESTS, []])
def test_what_nobody_answers_says_nothing(requests: list[Golden], tmp_path: Path) -> None:
    found = _replayed(tmp_path, Host(stable=_refused, canary=_refused), requests=requests)
    assert found.passed is None
    assert found.figures["unanswered_by_both"] == len(requests)


def test_what_stable_does_not_answer_says_nothing_about_the_canary(tmp_path: Path) -> None:
    assert _replayed(tmp_path, Host(stable=_refused, canary=_twice)).passed is None
