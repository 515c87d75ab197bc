"""Blocks of measured requests -> ratio, interval, verdict: pure, so it is tested on simulated latencies.

A round measures every target twice, in one order and then in reverse (A B B A, then B A A B). Each target runs as two
processes, its replicas. How far the equal replicas are apart is measured in the same minutes as the difference between
targets; it is the noise floor, and no smaller difference is called faster or slower.
"""
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from benchmark.verdicts.block import Block, latencies, typical_latency
from benchmark.verdicts.records import ComparisonRecord
from benchmark.verdicts.statistics import (
    Array,
    Ratio,
    Verdict,
    bootstrap_ratio,
    differs,
    least_effect,
    metric_value,
    noise_floor,
    percentile_of,
    samples_needed,
    verdict,
)
from benchmark.verdicts.typical import FEWEST, typical_ratio

# The metric by which a comparison is decided.
TYPICAL = "typical"
METRICS = (TYPICAL, "mean", "p50", "p90", "p99", "throughput")
MAX_BLOCK = 50  # requests in a block
ROUNDS = 50
# How much farther from 1 than in an ordinary comparison the mean must be, as it is looked at after every round.
SURE = 1 / 1.6
# Of half the width of an interval: the least effect that is seen in 80 % of runs.
SEEN = 1.3
PRECISE = 0.02  # half the width of an interval that is precise, as a fraction


@dataclass(frozen=True)
class Rules:
    """When a comparison counts, and how near is equal. Fractions, not per cent."""

    equal_within: float = 0.02
    anytime: bool = True  # a measurement may have ended at its verdict
    max_generator_cpu: float = 0.7
    max_aa_difference: float = 0.05
    max_error_ratio: float = 0.0


RULES = Rules()


@dataclass(frozen=True)
class Comparison:
    """One ratio (baseline over candidate; over 1: the candidate is faster) with its interval and verdict."""

    baseline: str
    candidate: str
    protocol: str
    batch: int
    metric: str
    ratio: float
    ci95: tuple[float, float]
    verdict: Verdict
    valid: bool
    reasons: tuple[str, ...]
    baseline_value: float
    candidate_value: float
    unit: str
    floor: float
    aa_ratio: float
    aa_ci95: tuple[float, float]
    least_effect: float
    samples: int
    rounds: int
    equal_within: float | None = None

    def to_json(self) -> ComparisonRecord:
        return cast(ComparisonRecord, {key: _finite(value) for key, value in asdict(self).items()})


def block_plan(repeat: int) -> list[tuple[int, int]]:
    """(requests in the first half, requests in the second half) of each round; `repeat` requests per target in total.

    50 rounds; fewer for under 100 requests, more if a block would have over 50. Rounds are short so that a busy moment
    of the machine slows all targets alike.
    """
    rounds = max(1, min(ROUNDS, repeat // 2), -(-repeat // (2 * MAX_BLOCK)))
    share = [repeat * (i + 1) // rounds - repeat * i // rounds for i in range(rounds)]
    return [(n - n // 2, n // 2) for n in share]


def round_order(targets: Sequence[str], round_: int, replicas: int = 2) -> list[tuple[str, int]]:  # decision 60
    """(target, replica) in the order of a round, A B C C B A: each round begins with another target, each cycle of
    rounds with the next of the replicas.

    A process that runs right after another process of the same program finds the CPU's caches warm, which makes it
    faster by 1 % or more. So each target begins equally many rounds, and no process is measured twice in succession.
    """
    lead, replica = round_ % len(targets), round_ // len(targets) % replicas
    there = [*targets[lead:], *targets[:lead]]
    return [*((target, replica) for target in there),
            *((target, (replica + 1) % replicas) for target in reversed(there))]


def compare(blocks: Iterable[Block], baseline: str, candidate: str, metric: str,
            rules: Rules = RULES, seed: int = 0) -> Comparison:
    """Compares two targets over blocks of one protocol and batch size, in the complete rounds that have both."""
    of_a, of_b = _of_both(blocks, baseline, candidate)
    chosen = [*of_a, *of_b]
    if metric == TYPICAL:
        return _by_typical(of_a, of_b, rules, seed)
    a, b = _rounds(of_a, metric), _rounds(of_b, metric)
    ratio = bootstrap_ratio(a, b, metric, seed)
    controls = {name: aa_control(own, metric, seed) for name, own in ((baseline, of_a), (candidate, of_b))}
    floor = noise_floor(*(control for control in controls.values() if control is not None))
    reasons = _reasons(chosen, a, b, ratio, controls, metric, rules)
    aa = controls[baseline] or Ratio(1.0, 0.0, float("inf"), float("inf"))
    value_a, value_b, unit = _value(of_a, metric), _value(of_b, metric), "ms"
    if metric == "throughput":
        batch = chosen[0].batch
        value_a, value_b, unit = batch / value_a, batch / value_b, "examples/s"
    else:
        value_a, value_b = value_a * 1e3, value_b * 1e3
    return Comparison(
        baseline, candidate, chosen[0].protocol, chosen[0].batch, metric, ratio.value, (ratio.low, ratio.high),
        # decision 61
        "cannot tell" if reasons else verdict(ratio, floor), not reasons, tuple(reasons), value_a, value_b, unit,
        floor, aa.value, (aa.low, aa.high), least_effect(ratio, floor), sum(map(np.size, a)), len(a))


def _by_typical(of_a: Sequence[Block], of_b: Sequence[Block], rules: Rules, seed: int) -> Comparison:
    """The comparison that decides: certain at any time, so that looking after every round is allowed."""
    baseline, candidate = of_a[0].target, of_b[0].target
    found = typical_ratio(of_a, of_b, rules.anytime)
    mean = compare([*of_a, *of_b], baseline, candidate, "mean", rules, seed)
    said = certain_verdict(found.low, found.high, rules.equal_within)
    # A few requests that take very long are not typical, and count.
    if said in ("faster", "equal") and mean.valid and mean.ci95[1] ** SURE < 1 / (1 + mean.floor):
        said = "slower"
    half = np.log(found.high / found.low) / 2 if found.low > 0 else np.inf
    value_a, value_b = (typical_latency(latencies(own).tolist()) * 1e3 for own in (of_a, of_b))
    return replace(
        mean, metric=TYPICAL, ratio=found.value, ci95=(found.low, found.high),
        verdict="cannot tell" if mean.reasons else said, baseline_value=value_a, candidate_value=value_b,
        floor=found.luck, least_effect=float(np.expm1(half * SEEN)),
        equal_within=rules.equal_within)


def decisive(comparisons: Iterable[ComparisonRecord]) -> list[ComparisonRecord]:
    """Those whose metric decides; results of before 2026-12 were decided by the mean."""
    there = list(comparisons)
    metric = TYPICAL if any(each["metric"] == TYPICAL for each in there) else "mean"
    return [each for each in there if each["metric"] == metric]


def aa_control(blocks: Sequence[Block], metric: str, seed: int = 0) -> Ratio | None:
    """The ratio of a target's two equal replicas: its distance from 1 is noise. None with fewer than 2 rounds."""
    replicas = [_rounds([block for block in blocks if block.replica == replica], metric) for replica in (0, 1)]
    if min(map(len, replicas)) < 2 or len(replicas[0]) != len(replicas[1]):
        return None
    return bootstrap_ratio(replicas[0], replicas[1], metric, seed)


def certain_verdict(low: float, high: float, equal_within: float) -> Verdict:
    """By where the whole interval of a ratio is."""
    if 1 / (1 + equal_within) <= low and high <= 1 + equal_within:
        return "equal"
    return "faster" if low > 1 else "slower" if high < 1 else "cannot tell"


def certain(blocks: Sequence[Block], names: Sequence[str], rules: Rules = RULES) -> bool:  # decision 237
    """Whether there is a verdict for every candidate. It may be asked after every round: of fewer rounds than a
    sequence needs, the answer is no."""
    # The typical ratio alone is known quickly, and mostly it says no.
    for other in names[1:]:
        both = _of_both(blocks, names[0], other)
        if len({block.round for block in both[0]}) < FEWEST:
            return False
        found = typical_ratio(*both)
        if certain_verdict(found.low, found.high, rules.equal_within) == "cannot tell":
            return False
    return all(compare(blocks, names[0], other, TYPICAL, rules).verdict != "cannot tell" for other in names[1:])


def precise(blocks: Sequence[Block], names: Sequence[str]) -> bool:
    """Whether all typical ratios are known within 2 %."""
    typical = [typical_ratio(*_of_both(blocks, names[0], other)) for other in names[1:]]
    return all(found.high - found.low <= 2 * PRECISE * found.value for found in typical)


def _of_both(blocks: Iterable[Block], baseline: str, candidate: str) -> tuple[list[Block], list[Block]]:
    """Their blocks of the rounds that have both."""
    chosen = [block for block in blocks if block.target in (baseline, candidate)]
    of_a, of_b = ({block.round for block in chosen if block.target == name} for name in (baseline, candidate))
    both = [block for block in chosen if block.round in of_a & of_b]
    return [block for block in both if block.target == baseline], [block for block in both if block.target == candidate]


def _rounds(blocks: Sequence[Block], metric: str) -> list[Array]:
    """The samples of each round: latencies, or for throughput the wall time per request of each block."""
    rounds: dict[int, list[npt.ArrayLike]] = {}
    for block in blocks:
        if block.latencies:
            samples = [block.wall_s / len(block.latencies)] if metric == "throughput" else block.latencies
            rounds.setdefault(block.round, []).append(samples)
    return [np.concatenate([np.asarray(part, dtype=np.float64) for part in rounds[key]]) for key in sorted(rounds)]


def _value(blocks: Sequence[Block], metric: str) -> float:
    if metric == "throughput":
        return sum(block.wall_s for block in blocks) / sum(len(block.latencies) for block in blocks)
    return metric_value(metric, latencies(blocks))


def _reasons(blocks: Sequence[Block], a: Sequence[Array], b: Sequence[Array], ratio: Ratio,
             controls: dict[str, Ratio | None], metric: str, rules: Rules) -> list[str]:
    reasons = []
    errors, wrong = sum(block.errors for block in blocks), sum(block.wrong for block in blocks)
    sent = errors + sum(len(block.latencies) for block in blocks)
    if errors > rules.max_error_ratio * sent:
        reasons.append(f"{errors} of {sent} requests failed")
    if wrong:
        reasons.append(f"{wrong} answers differ from the baseline's")
    if len(a) < 2:
        reasons.append("one round has no spread: repeat at least 4 times")
    percentile = percentile_of(metric)
    if percentile is not None:
        have, need = min(sum(map(np.size, a)), sum(map(np.size, b))), samples_needed(percentile)
        if have < need:
            reasons.append(f"{metric} needs {need:,} samples, there are {have:,}")
    busy = sum(block.cpu_s for block in blocks) / max(sum(block.wall_s for block in blocks), 1e-9)
    if busy > rules.max_generator_cpu:
        reasons.append(f"the load generator was busy {busy:.0%} of the time, so the result shows its speed, "
                       "not the server's")
    for name, control in controls.items():
        if control is not None and differs(control, rules.max_aa_difference) and not _dwarfs(ratio, control):
            reasons.append(f"A/A differs: two equal processes of {name} are {abs(control.value - 1):.1%} apart")
    return reasons


def _dwarfs(ratio: Ratio, control: Ratio) -> bool:
    """Whether a difference is so large that the distance between equal replicas cannot explain it."""
    return min(abs(np.log(ratio.low)), abs(np.log(ratio.high))) > 3 * abs(np.log(control.value)) and (
        (ratio.low > 1) == (ratio.high > 1))


def _finite(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
