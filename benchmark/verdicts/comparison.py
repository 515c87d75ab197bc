"""Blocks of measured requests -> ratio, interval, verdict: pure, so it is tested on simulated latencies.

A round measures every target twice, in one order and then in reverse (A B B A, then B A A B). Each target runs as two
processes, its replicas. How far the equal replicas are apart is measured in the same minutes as the difference between
targets; it is the noise floor, and no smaller difference is called faster or slower.
"""
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from benchmark.verdicts.records import BlockRecord, ComparisonRecord
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

METRICS = ("mean", "p50", "p90", "p99", "throughput")
MAX_BLOCK = 50  # requests in a block
CLEAR = 0.1  # least distance of an interval from 1 for a clear verdict
ROUNDS = 50
PRECISE = 0.02  # half the width of an interval that is precise, as a fraction


@dataclass(frozen=True)
class Block:
    """Consecutive requests to one replica (process 0 or 1) of a target. Times are seconds."""

    target: str
    replica: int
    protocol: str
    batch: int
    round: int
    latencies: tuple[float, ...]
    wall_s: float
    cpu_s: float = 0.0
    errors: int = 0
    wrong: int = 0

    def to_json(self) -> BlockRecord:
        return cast(BlockRecord, asdict(self) | {"latencies": [round(value, 9) for value in self.latencies]})

    @classmethod
    def from_json(cls, value: BlockRecord) -> "Block":
        return cls(value["target"], value["replica"], value["protocol"], value["batch"], value["round"],
                   tuple(value["latencies"]), value["wall_s"], value["cpu_s"], value["errors"], value["wrong"])


@dataclass(frozen=True)
class Rules:
    """When a comparison counts. Fractions, not per cent."""

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


def round_order(targets: Sequence[str], round_: int) -> list[tuple[str, int]]:  # decision 60
    """(target, replica) in the order of a round, A B C C B A: each round begins with another target, each cycle of
    rounds with the other replica.

    A process that runs right after another process of the same program finds the CPU's caches warm, which makes it
    faster by 1 % or more. So each target begins equally many rounds, and no process is measured twice in succession.
    """
    lead, replica = round_ % len(targets), round_ // len(targets) % 2
    there = [*targets[lead:], *targets[:lead]]
    return [(target, replica) for target in there] + [(target, 1 - replica) for target in reversed(there)]


def compare(blocks: Iterable[Block], baseline: str, candidate: str, metric: str,
            rules: Rules = RULES, seed: int = 0) -> Comparison:
    """Compares two targets over blocks of one protocol and batch size, all of the same complete rounds."""
    chosen = [block for block in blocks if block.target in (baseline, candidate)]
    of_a = [block for block in chosen if block.target == baseline]
    of_b = [block for block in chosen if block.target == candidate]
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


def aa_control(blocks: Sequence[Block], metric: str, seed: int = 0) -> Ratio | None:
    """The ratio of a target's two equal replicas: its distance from 1 is noise. None with fewer than 2 rounds."""
    replicas = [_rounds([block for block in blocks if block.replica == replica], metric) for replica in (0, 1)]
    if min(map(len, replicas)) < 2 or len(replicas[0]) != len(replicas[1]):
        return None
    return bootstrap_ratio(replicas[0], replicas[1], metric, seed)


def clear(blocks: Sequence[Block], names: Sequence[str], margin: float = 3.0) -> bool:  # decision 108
    """Whether each candidate's ratio of means is valid and so far from 1 that more rounds cannot change its verdict.

    The interval must be `margin` times as far from 1 as a verdict needs, and at least 10 %: a check after every round
    finds small differences by chance (on a busy machine, 3 % between equal processes after 32 requests of 2 ms).
    """
    for candidate in names[1:]:
        found = compare(blocks, names[0], candidate, "mean")
        near = min(abs(np.log(bound)) if bound > 0 else 0.0 for bound in found.ci95)
        if found.verdict == "cannot tell" or near < max(margin * np.log1p(found.floor), np.log1p(CLEAR)):
            return False
    return True


def precise(blocks: Sequence[Block], names: Sequence[str]) -> bool:  # decision 64
    """Whether the ratios of means and the A/A controls (which make the noise floor) are all known within 2 %.

    A narrow interval ends a run whatever the verdict; a verdict ends a run only if it is far from any doubt (`clear`).
    """
    ratios = [(c.ratio, *c.ci95) for c in (compare(blocks, names[0], other, "mean") for other in names[1:])]
    controls = [aa_control([block for block in blocks if block.target == name], "mean") for name in names]
    ratios += [(control.value, control.low, control.high) for control in controls if control]
    return all(high - low <= 2 * PRECISE * value for value, low, high in ratios)


def latencies(blocks: Iterable[Block]) -> Array:
    """All latencies [n] in seconds, in the order measured."""
    return np.array([value for block in blocks for value in block.latencies], dtype=np.float64)


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
