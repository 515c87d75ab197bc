"""Answers are compared with the expected answers within the project's tolerances, or within a stated budget."""
from typing import Any

import numpy as np
import pytest

from benchmark.targets import connections, turns
from benchmark.targets.connections import MOST_KEPT, Checker, PreparedConnection, Workload
from serving.client.answers import Budget

EXPECTED = {"y": np.array([[1.0, 2.0]], np.float32)}


class CountingConnection:
    """A connection whose raw answers are numbers as text; decoded, the expected answer times that number."""

    measured_by = "nothing"

    def __init__(self) -> None:
        self.decoded = 0
        self.turns = 0
        self.sent: list[int] = []

    def signature(self) -> Any:
        raise AssertionError("a prepared connection does not ask for the signature")

    def prepare(self, inputs: Any) -> int:
        return int(inputs["x"][0])

    def timed(self, request: int) -> tuple[float, bytes]:
        self.sent.append(request)
        return 0.25, b"1"

    def turn(self, requests: Any, first: int, count: int, lead_s: float) -> turns.Turn:
        self.turns += 1
        return turns.turn(self.timed, requests, first, count, lead_s)

    def decode(self, raw: bytes) -> dict[str, Any]:
        self.decoded += 1
        return {"y": (EXPECTED["y"] * float(raw)).astype(np.float32)}

    def close(self) -> None:
        pass


def _checker(budget: Budget | None = None) -> tuple[Checker, CountingConnection]:
    connection = CountingConnection()
    return Checker(connection, Workload(1, [{"x": np.array([0])}], [EXPECTED], budget)), connection


def test_a_wrong_answer_is_found_and_described() -> None:
    checker, _ = _checker()
    assert checker.right(0, b"1")
    assert not checker.right(0, b"1.01")
    assert checker.first_wrong is not None
    assert "output 'y' is out of its row" in checker.first_wrong


def test_a_stated_budget_accepts_less_exact_answers() -> None:
    checker, _ = _checker(Budget(relative=0.02))
    assert checker.right(0, b"1.01")
    assert not checker.right(0, b"1.03")
    assert checker.seen is not None
    assert checker.seen.outputs["y"].row.startswith("stated budget")


def test_a_right_answer_is_decoded_once_and_a_wrong_answer_every_time() -> None:
    checker, connection = _checker()
    assert all(checker.right(0, b"1") for _ in range(5))
    assert connection.decoded == 1
    assert not any(checker.right(0, b"2") for _ in range(5))
    assert connection.decoded == 6


def test_the_number_of_remembered_answers_is_bounded() -> None:
    checker, connection = _checker()
    for i in range(3 * MOST_KEPT):
        assert checker.right(0, b"1" + b" " * i)
    assert checker.right(0, b"1" + b" " * (3 * MOST_KEPT - 1))
    assert connection.decoded == 3 * MOST_KEPT + 1


@pytest.mark.parametrize("count", [1, 3, 7])
def test_each_block_continues_with_the_next_request(count: int) -> None:
    connection = CountingConnection()
    inputs = [{"x": np.array([i])} for i in range(4)]
    measured = PreparedConnection(connection, Workload(1, inputs, [EXPECTED] * 4))
    blocks = [measured.block(count, target="t", replica=0, protocol="rest", round=i) for i in range(3)]
    assert connection.sent == [i % 4 for i in range(3 * count)]
    assert all(block.latencies == (0.25,) * count and not block.wrong for block in blocks)


def test_the_requests_of_the_lead_are_checked_and_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0.0, 100.0))
    monkeypatch.setattr(turns, "perf_counter", lambda: next(clock))
    connection, other = CountingConnection(), {"y": EXPECTED["y"] + 1}
    workload = Workload(1, [{"x": np.array([i])} for i in range(4)], [other, EXPECTED, EXPECTED, EXPECTED])
    block = PreparedConnection(connection, workload).block(2, 3.0, target="t", replica=0, protocol="rest", round=0)
    assert connection.sent == [0, 1, 2, 3]  # two before three seconds have passed, then two that are measured
    assert (block.latencies, block.wall_s, block.wrong) == ((0.25, 0.25), 1.0, 1)


def test_a_block_with_large_answers_is_sent_in_turns_and_checked_between_them(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_WAITING_BYTES", 3 * EXPECTED["y"].nbytes + 1)
    connection, other = CountingConnection(), {"y": EXPECTED["y"] + 1}
    workload = Workload(1, [{"x": np.array([i])} for i in range(4)], [other, EXPECTED, EXPECTED, EXPECTED])
    block = PreparedConnection(connection, workload).block(8, target="t", replica=0, protocol="rest", round=0)
    assert (connection.turns, connection.sent) == (3, [0, 1, 2, 3, 0, 1, 2, 3])
    assert (block.latencies, block.wrong) == ((0.25,) * 8, 2)
