"""Ratios from a result of `benchmark compare`, and what its refusal becomes."""
from pathlib import Path

import pytest
from tiny_saved_model import write_tiny_saved_model

from export.precision.choice import Ratio, not_faster
from export.precision.timing import Timing, ratios
from user_error import FailedError


def test_only_the_candidates_means_are_taken() -> None:
    one = {"candidate": "session:int8", "batch": 8, "metric": "typical", "ratio": 2.0, "ci95": [1.9, 2.1],
           "floor": 0.01, "verdict": "faster", "reasons": []}
    result = {"comparisons": [one, {**one, "metric": "p50", "ratio": 9.0}, {**one, "candidate": "session:int8-towers"},
                              {**one, "batch": 1, "ci95": [None, None], "verdict": "cannot tell",
                               "reasons": ["one round has no spread", "2 requests failed"]}]}
    found = ratios(result, "int8")
    assert found == {8: Ratio(2.0, 1.9, 2.1, 0.01, "faster"), 1: Ratio(
        2.0, 0.0, float("inf"), 0.01, "cannot tell", "one round has no spread; 2 requests failed")}
    assert not_faster(found).endswith("could not be told: one round has no spread; 2 requests failed")


def test_what_compare_refuses_is_a_failure_with_its_reason(tmp_path: Path) -> None:
    write_tiny_saved_model(tmp_path / "versions/original/1")
    timing = Timing(tmp_path / "versions", "serving_default", (1,), None, 1.0)
    with pytest.raises(FailedError, match=r"^benchmark compare: no variant 'int8' in .*: there are original$"):
        timing.compare("original", ["int8"], tmp_path / "result.json")
    assert not (tmp_path / "result.json").exists()
