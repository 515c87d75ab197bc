"""Where a course of ratios moves: found in most courses that move, and in few of those that do not."""
import numpy as np
import pytest

from benchmark.verdicts.changes import LEAST_RUNS, changes

SPREAD = 0.01
RUNS = 200


def course(random: np.random.Generator, count: int, heavy: bool = False) -> list[float]:
    errors = random.standard_t(3, count) if heavy else random.normal(size=count)
    return list(0.3 + SPREAD * errors)


@pytest.mark.parametrize("count", [6, 10, 50])
@pytest.mark.parametrize("heavy", [False, True])
def test_equal_runs_rarely_show_a_change(count: int, heavy: bool) -> None:
    random = np.random.default_rng(count)
    found = sum(bool(changes(course(random, count, heavy), [SPREAD] * count)) for _ in range(RUNS))
    assert found <= 0.03 * RUNS


@pytest.mark.parametrize(("count", "moved", "least"), [(10, 5, 0.8), (20, 3, 0.85)])
def test_a_change_is_found_where_it_is(count: int, moved: float, least: float) -> None:
    random = np.random.default_rng(count)
    hits = 0
    for _ in range(RUNS):
        values = np.array(course(random, count))
        values[count // 2:] -= moved * SPREAD
        found = changes(list(values), [SPREAD] * count)
        hits += len(found) == 1 and abs(found[0] - count // 2) <= 1
    assert hits >= least * RUNS


def test_one_run_that_lies_elsewhere_is_no_change() -> None:
    values = course(np.random.default_rng(0), 20)
    values[10] += 40 * SPREAD
    assert changes(values, [SPREAD] * 20) == []


def test_values_that_never_differ_have_no_change_unless_they_move_beyond_their_errors() -> None:
    assert changes([0.5] * 20, [0.0] * 20) == []
    assert changes([0.5] * 10 + [0.4] * 10, [0.0] * 20) == [10]
    assert changes([0.5] * 10 + [0.4] * 10, [0.5] * 20) == []


def test_several_changes_are_told_apart() -> None:
    values = np.array(course(np.random.default_rng(1), 30))
    values[10:20] += 0.1
    assert changes(list(values), [SPREAD] * 30) == [10, 20]


def test_too_few_runs_have_no_change() -> None:
    assert changes([1.0, 1.0, 1.0, 9.0, 9.0][:2 * LEAST_RUNS - 1], [0.01] * 5) == []
