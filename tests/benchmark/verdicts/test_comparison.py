"""Verdicts on simulated blocks: rarely a difference between equal targets, rarely none where there are 10 %."""
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console
from simulated_latency import simulated_blocks

from benchmark.reports.compare import compared, figures_table
from benchmark.verdicts.comparison import Block, Rules, block_plan, clear, compare, round_order


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


@pytest.mark.parametrize("metric", ["mean", "p50", "throughput"])
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


@pytest.mark.parametrize(("candidate", "found"), [(0.060, False), (0.059, False), (0.056, False), (0.030, True),
                                                  (0.120, True)])
def test_only_a_large_difference_is_clear(candidate: float, found: bool) -> None:
    assert clear(simulated_blocks({"a": 0.06, "b": candidate}, 60), ["a", "b"]) is found


def test_repeated_checks_during_a_run_never_find_a_clear_difference_of_equal_targets() -> None:
    for seed in range(5):
        blocks = simulated_blocks({"a": 0.06, "b": 0.06}, 100, seed=seed)
        rounds = sorted({block.round for block in blocks})
        assert not any(clear([block for block in blocks if block.round <= last], ["a", "b"]) for last in rounds[4::8])
