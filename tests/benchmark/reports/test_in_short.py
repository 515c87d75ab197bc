"""One sentence on all comparisons of a run."""
from dataclasses import replace

from benchmark.reports.in_short import in_short
from benchmark.verdicts.comparison import Comparison
from benchmark.verdicts.records import ComparisonRecord

EQUAL = Comparison("original", "optimized", "rest", 100, "typical", 1.0, (0.99, 1.01), "equal", True, (), 10, 10, "ms",
                   0.005, 1, (0.99, 1.01), 0.015, 200, 50, 0.02)


def _record(**changes: object) -> ComparisonRecord:
    return replace(EQUAL, **changes).to_json()  # type: ignore[arg-type]


def test_every_candidate_is_said_the_fastest_first() -> None:
    fast = {"candidate": "int8", "verdict": "faster", "ci95": (2.2, 3.2)}
    assert in_short([
        _record(), _record(protocol="grpc"), _record(**fast, ratio=2.51),
        _record(**fast, ratio=3.0, protocol="grpc")]) == (
        "In short, against original: int8 is 2.51 times as fast over REST, 3.00 times as fast over gRPC; "
        "optimized is equal within 2.0% over REST and gRPC")


def test_batches_are_named_where_there_are_several_and_what_is_slower_or_not_valid_is_said() -> None:
    assert in_short([
        _record(verdict="slower", ratio=0.8), _record(batch=1, valid=False, verdict="cannot tell")]) == (
        "In short, against original: optimized is slower by 25.0% over REST batch 100, not told apart over REST "
        "batch 1")


def test_where_nothing_was_seen_it_says_why_and_what_to_do() -> None:
    words = in_short([_record(verdict="cannot tell", ci95=(0.9, 1.1)), _record(verdict="cannot tell", valid=False)])
    assert words is not None
    assert words.startswith("In short, nothing was told apart. The times varied, so all that is known")
    assert in_short([_record(verdict="cannot tell", valid=False)] * 2) == (
        "In short, nothing was told apart. The reasons stand below.")


def test_a_single_comparison_has_its_own_sentence() -> None:
    assert in_short([_record()]) is None
