"""The one grammar of --slo."""
import pytest

from serving.client.objective import Objective, parse_objective
from user_error import UserError


@pytest.mark.parametrize(("text", "expected"), [
    ("p99=50ms", Objective(99, 0.05)), ("p99.9=1s", Objective(99.9, 1)), ("mean=300us", Objective(0, 3e-4)),
    ("max=2s", Objective(100, 2)), ("p50=1.5ms", Objective(50, 0.0015)), ("p100=2s", Objective(100, 2)),
    ("p99=50", Objective(99, 0.05)), ("99:50", Objective(99, 0.05)), ("99.9:1s", Objective(99.9, 1)),
    ("mean:10", Objective(0, 0.01)),
])
def test_objectives(text: str, expected: Objective) -> None:
    assert parse_objective(text) == expected


def test_an_objective_is_printed_with_its_name() -> None:
    assert [str(parse_objective(text)) for text in ("p99.9=1s", "mean=300us", "max=50")] == [
        "p99.9 <= 1000 ms", "mean <= 0.3 ms", "max <= 50 ms"]


@pytest.mark.parametrize("text", ["", "p99", "p101=1s", "p0=1s", "p99<1s", "p99=-1s", "p99=1h", "p99=0ms", "min=1s",
                                  "p99=50 ms", "p99=50ms,p50=1ms"])
def test_objectives_that_are_invalid(text: str) -> None:
    with pytest.raises(UserError, match="is no objective; write p99=50ms, mean=10ms or max=1s"):
        parse_objective(text)
