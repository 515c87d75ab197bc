"""Verdicts on simulated blocks: rarely a difference between equal targets, rarely none where there are 10 %."""
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console
from simulated_latency import simulated_blocks

from benchmark.reports.compare import compared, figures_table
from benchmark.verdicts.block import Block
from benchmark.verdicts.comparison import TYPICAL, Rules, block_plan, certain, compare, precise, round_order
from benchmark.verdicts.typical import FEWEST


@pytest.mark.parametrize("repeat", [1, 2, 3, 7, 10, 100, 200, 999, 5000])
def test_a_plan_sends_each_target_exactly_the_requested_number(repeat: int) -> None:
    plan = block_plan(repeat)
    assert sum(there + back for there, back in plan) == repeat
    assert max(there for there, _ in plan) <= 50
    assert len(plan) >= min(50, repeat // 2)


def test_a_round_ends_in_reverse_order_and_targets_and_replicas_alternate() -> None:
    assert round_order(["a", "b"], 0) == [("a", 0), ("b", 0), ("b", 1), ("a", 1)]
    assert round_order(["a", "b"], 1) == [("b", 0), ("a", 0), ("a", 1), ("b", 1)]
    assert round_order(["a", "b"], 2) == [("a", 1), ("b", 1), ("b", 0), ("a", 0)]


def test_each_of_many_replicas_is_measured_equally_often() -> None:
    rounds = [round_order(["a", "b"], number, 3) for number in range(12)]
    seen = [process for order in rounds for process in order]
    assert {process: seen.count(process) for process in seen} == {(name, replica): 8 for name in "ab"
                                                                   for replica in range(3)}
    assert round_order(["a", "b"], 0, 1) == [("a", 0), ("b", 0), ("b", 0), ("a", 0)]


@pytest.mark.parametrize("targets", [["a", "b"], ["a", "b", "c"], ["a", "b", "c", "d"]])
def test_no_replica_is_favoured_by_the_block_before_it(targets: list[str]) -> None:
    """Caches are warmer after a block of the same replica or target, so that must be equally frequent for all."""
    cycle = [turn for round_ in range(2 * len(targets)) for turn in round_order(targets, round_)]
    before = list(zip(cycle[-1:] + cycle[:-1], cycle, strict=True))
    assert all(previous != turn for previous, turn in before)
    after_same_target = [turn for (target, _), turn in before if target == turn[0]]
    assert {after_same_target.count((target, replica)) for target in targets for replica in (0, 1)} == {1}


@pytest.mark.parametrize("process_bias", [0.0, 0.004, 0.01])
def test_power_of_simulated_runs(process_bias: float) -> None:
    """A/A: at most one verdict other than "cannot tell" in 20 runs. 10 % more work: "slower" in 9 of 10 runs."""
    wrong = [compare(simulated_blocks({"a": 0.06, "b": 0.06}, seed=seed, process_bias=process_bias), "a", "b", "mean")
             for seed in range(40)]
    assert sum(c.verdict != "cannot tell" for c in wrong) <= 2
    slow = [compare(simulated_blocks({"a": 0.06, "b": 0.066}, seed=seed, process_bias=process_bias), "a", "b", "mean")
            for seed in range(40)]
    assert sum(c.verdict == "slower" for c in slow) >= 36
    assert all(c.verdict != "faster" for c in slow)


@pytest.mark.parametrize("metric", ["typical", "mean", "p50", "throughput"])
def test_a_ratio_over_one_means_that_the_candidate_is_faster(metric: str) -> None:
    comparison = compare(simulated_blocks({"a": 0.08, "b": 0.04}), "a", "b", metric)
    assert comparison.verdict == "faster"
    assert comparison.ratio == pytest.approx(2, rel=0.05)
    assert comparison.valid
    if metric == "throughput":
        assert comparison.candidate_value == pytest.approx(100 / 0.04, rel=0.1)
        assert comparison.candidate_value > comparison.baseline_value


def test_a_common_drift_is_not_a_difference() -> None:
    blocks = [replace(block, latencies=tuple(value * (1 + block.round / 10) for value in block.latencies))
              for block in simulated_blocks({"a": 0.06, "b": 0.06}, process_bias=0)]
    assert compare(blocks, "a", "b", "mean").verdict == "cannot tell"


def _reasons(blocks: list[Block], metric: str = "mean", rules: Rules | None = None) -> str:
    comparison = compare(blocks, "a", "b", metric, rules or Rules())
    assert comparison.verdict == "cannot tell"
    assert not comparison.valid
    return "; ".join(comparison.reasons)


def test_invalid_p99_of_too_few_samples() -> None:
    assert _reasons(simulated_blocks({"a": 0.08, "b": 0.04}), "p99") == "p99 needs 662 samples, there are 200"


def test_valid_p99_of_enough_samples() -> None:
    comparison = compare(simulated_blocks({"a": 0.08, "b": 0.04}, repeat=700), "a", "b", "p99")
    assert comparison.valid
    assert comparison.verdict == "faster"


def test_invalid_when_requests_failed() -> None:
    blocks = simulated_blocks({"a": 0.08, "b": 0.04})
    blocks[3] = replace(blocks[3], errors=2)
    assert _reasons(blocks) == "2 of 402 requests failed"
    assert compare(blocks, "a", "b", "mean", Rules(max_error_ratio=0.01)).valid


def test_invalid_when_answers_differ() -> None:
    blocks = simulated_blocks({"a": 0.08, "b": 0.04})
    blocks[-1] = replace(blocks[-1], wrong=1)
    assert _reasons(blocks) == "1 answers differ from the baseline's"


def test_invalid_when_the_generator_was_the_bottleneck() -> None:
    blocks = [replace(block, cpu_s=block.wall_s * 0.8) for block in simulated_blocks({"a": 0.08, "b": 0.04})]
    assert "load generator was busy 80%" in _reasons(blocks)


def test_invalid_when_equal_replicas_are_far_apart() -> None:
    blocks = [replace(block, latencies=tuple(value * (1 + 0.2 * block.replica) for value in block.latencies))
              for block in simulated_blocks({"a": 0.08, "b": 0.06})]
    assert "A/A differs: two equal processes of a" in _reasons(blocks)


def test_valid_when_the_difference_is_much_larger_than_that_of_equal_replicas() -> None:
    blocks = [replace(block, latencies=tuple(value * (1 + 0.2 * block.replica) for value in block.latencies))
              for block in simulated_blocks({"a": 0.3, "b": 0.04})]
    comparison = compare(blocks, "a", "b", "mean")
    assert (comparison.verdict, comparison.valid) == ("faster", True)
    assert comparison.floor > 0.15


def test_invalid_with_a_single_round() -> None:
    assert "one round has no spread" in _reasons(simulated_blocks({"a": 0.08, "b": 0.04}, repeat=2))


def test_a_block_is_read_back_from_json() -> None:
    block = simulated_blocks({"a": 0.08, "b": 0.04})[0]
    again = Block.from_json(block.to_json())
    assert again.latencies == pytest.approx(block.latencies, abs=1e-9)
    assert replace(again, latencies=block.latencies) == block


@pytest.mark.parametrize("names", [("original", "optimized"), ("session:original", "session:optimized")])
def test_figures_and_common_names_fit_into_80_columns(names: tuple[str, str]) -> None:
    blocks = simulated_blocks({names[0]: 0.1894, names[1]: 0.1624}, repeat=40)
    inputs = "397 samples of samples.npz, 4 different batches in turn"
    table = figures_table("mnist", {**compared(names, blocks), "inputs": inputs, "measured_by": {}})
    console = Console(width=80, file=StringIO())
    console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    assert all(any(line.split()[0] == name for line in text.splitlines() if line.split()) for name in names)


@pytest.mark.parametrize(("repeat", "enough"), [(20, False), (2000, True)])
@pytest.mark.parametrize("candidate", [0.06, 0.03])
def test_precision_depends_only_on_the_width_of_the_interval(repeat: int, enough: bool, candidate: float) -> None:
    blocks = simulated_blocks({"a": 0.06, "b": candidate}, repeat)
    assert precise(blocks, ["a", "b"]) is enough


@pytest.mark.parametrize(("candidate", "within", "verdict"), [
    (0.06, 0.03, "equal"), (0.0606, 0.05, "equal"), (0.06, 0.0, "cannot tell"), (0.066, 0.03, "slower"),
    (0.054, 0.03, "faster")])
def test_equal_is_a_verdict_if_the_whole_interval_is_within_the_margin(candidate: float, within: float, verdict: str
                                                                       ) -> None:
    blocks = simulated_blocks({"a": 0.06, "b": candidate}, 2000, process_bias=0.002)
    found = compare(blocks, "a", "b", TYPICAL, Rules(equal_within=within))
    assert found.verdict == verdict
    if verdict == "equal":
        assert 1 / (1 + within) <= found.ci95[0] < found.ci95[1] <= 1 + within


def test_a_few_requests_that_take_very_long_make_a_version_slower_though_they_are_not_typical() -> None:
    blocks = simulated_blocks({"a": 0.06, "b": 0.06}, 2000, process_bias=0)
    slow = [replace(block, latencies=(block.latencies[0] * 6, *block.latencies[1:])) if block.target == "b" else block
            for block in blocks]
    assert compare(blocks, "a", "b", TYPICAL, Rules(equal_within=0.04)).verdict == "equal"
    found = compare(slow, "a", "b", TYPICAL, Rules(equal_within=0.04))
    assert found.verdict == "slower"
    assert found.ratio == pytest.approx(1, abs=0.03)


def test_only_rounds_that_have_both_are_compared() -> None:
    blocks = simulated_blocks({"a": 0.06, "b": 0.03, "c": 0.03})
    apart = [block for block in blocks if (block.target, block.round % 2) not in (("b", 0), ("c", 1))]
    assert compare(apart, "a", "b", TYPICAL).rounds == compare(blocks, "a", "b", TYPICAL).rounds / 2
    assert compare(apart, "a", "c", TYPICAL).verdict == "faster"


@pytest.mark.parametrize(("candidate", "within", "found"), [
    (0.066, 0.0, True), (0.06, 0.05, True), (0.06, 0.0, False)])
def test_a_verdict_is_certain_if_every_candidate_has_one(candidate: float, within: float, found: bool) -> None:
    blocks = simulated_blocks({"a": 0.06, "b": candidate, "c": 0.03}, 2000, process_bias=0.002)
    rules = Rules(equal_within=within)
    assert certain(blocks, ["a", "b", "c"], rules) is found
    assert certain(blocks, ["a", "c"], rules)
    wrong = [replace(block, wrong=1) if block.target == "c" else block for block in blocks]
    assert not certain(wrong, ["a", "c"], rules)


def test_no_verdict_is_certain_before_a_sequence_says_something() -> None:
    """An interval for a fixed number of rounds would be looked at many times."""
    blocks = simulated_blocks({"a": 0.06, "b": 0.03}, 2 * FEWEST, process_bias=0.002)
    assert {block.round for block in blocks} == set(range(FEWEST))
    assert certain(blocks, ["a", "b"])
    fewer = [block for block in blocks if block.round]
    assert compare(fewer, "a", "b", TYPICAL).verdict == "faster"
    assert not certain(fewer, ["a", "b"])
