"""A verdict of "cannot tell" is explained, with a next step that can help."""
from dataclasses import replace

import pytest
from simulated_latency import simulated_blocks

from benchmark.reports import compare as report
from benchmark.reports.compare import CompareResult
from benchmark.reports.head import head
from benchmark.reports.undecided import next_step
from benchmark.targets.target import Target
from benchmark.verdicts.comparison import TYPICAL, Comparison, compare
from benchmark.verdicts.records import ComparisonRecord

UNDECIDED = Comparison("original", "optimized", "rest", 100, "typical", 1.0, (0.97, 1.03), "cannot tell", True, (), 10,
                       10, "ms", 0.01, 1, (0.99, 1.01), 0.015, 200, 50)


def _record(**changes: object) -> ComparisonRecord:
    return replace(UNDECIDED, **changes).to_json()  # type: ignore[arg-type]


@pytest.mark.parametrize(("changes", "words", "never"), [
    ({}, "between 0.97 and 1.03. Measure longer, with --repeat 800", "--processes"),
    ({"floor": 0.028}, "Processes of the same variant differ by themselves", "Close"),
    ({"valid": False, "reasons": ("A/A differs: two equal processes of original are 9.0% apart",)},
     "something else used the machine", "--repeat"),
    ({"valid": False, "reasons": ("the load generator was busy 90% of the time: it was measured, not the server",)},
     "A larger --batch gives it more work", "Close")])
def test_the_next_step_is_for_the_cause(changes: dict[str, object], words: str, never: str) -> None:
    said = next_step(_record(**changes))
    assert said is not None
    assert words in said
    assert never not in said


@pytest.mark.parametrize("changes", [
    {"verdict": "faster"}, {"valid": False, "reasons": ("3 answers differ from the baseline's",)},
    {"valid": False, "reasons": ("one round has no spread: repeat at least 4 times",)},
    {"ci95": (float("nan"), float("inf"))}])
def test_nothing_is_advised_that_cannot_help(changes: dict[str, object]) -> None:
    assert next_step(_record(**changes)) is None


def test_it_stands_below_its_verdict_on_the_terminal_and_on_the_page() -> None:
    blocks = simulated_blocks({"a": 0.06, "b": 0.06}, 200)
    result: CompareResult = {
        **head("compare", [Target("a", "m", "address")], 0, "random"), "measured_by": {},
        **report.compared(["a", "b"], blocks)}
    said = next_step(compare(blocks, "a", "b", TYPICAL).to_json())
    assert said is not None
    assert report.lines(result)[1] == said
    assert said in report.html(result)
