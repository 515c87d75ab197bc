"""Knees, SLO decisions and brackets on curves whose right result is known."""
import numpy as np
import pytest

from benchmark.verdicts.capacity import Decision, Point, knee, search, slo_decision


def test_the_knee_of_a_queue_is_at_half_load() -> None:
    """For an M/M/1 queue with service rate 100, the power rate * (1 - rate / 100) is greatest at 50."""
    points = [Point(rate, rate, 1e3 / (100 - rate)) for rate in range(5, 100, 5)]
    assert knee(points).rate_per_s == 50


@pytest.mark.parametrize(("beyond", "requests", "expected"), [
    (0, 298, "undecided"), (0, 299, "met"), (1, 299, "undecided"), (1, 500, "met"), (10, 1000, "undecided"),
    (20, 1000, "missed"), (0, 0, "undecided"), (5, 5, "missed")])
def test_decision_on_an_slo_at_p99(beyond: int, requests: int, expected: Decision) -> None:
    assert slo_decision(beyond, requests, 99) == expected


def test_a_missed_slo_is_called_met_at_most_one_time_in_twenty() -> None:
    beyond = np.random.default_rng(5).binomial(2000, 0.0101, 2000)
    assert np.mean([slo_decision(int(k), 2000, 99) == "met" for k in beyond]) <= 0.06


@pytest.mark.parametrize("start", [1.0, 37.0, 900.0])
def test_the_search_brackets_the_capacity(start: float) -> None:
    bracket = search(lambda rate: "met" if rate <= 123.4 else "missed", start)
    assert bracket.met is not None
    assert bracket.missed is not None
    assert bracket.met <= 123.4 < bracket.missed
    assert bracket.missed - bracket.met <= 0.05 * bracket.met


def test_an_undecided_rate_is_not_reported_as_met() -> None:
    bracket = search(lambda rate: "met" if rate <= 10 else "undecided", 8)
    assert bracket.met is not None
    assert bracket.met <= 10


@pytest.mark.parametrize("decision", ["met", "missed"])
def test_the_search_ends_when_one_side_is_never_found(decision: Decision) -> None:
    bracket = search(lambda rate: decision, 8, most=6)
    assert len(bracket.probes) == 6
    assert (bracket.missed if decision == "met" else bracket.met) is None
