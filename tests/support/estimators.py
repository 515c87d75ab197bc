"""What could be taken for the ratio of two targets, so that recorded noise can say which of it moves least.

Each takes `a` and `b`, the latencies [rounds, 2, requests] of a baseline and a candidate, and gives one logarithm of a
ratio for each round.
"""
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmark.verdicts.typical import clipped_mean

Array = npt.NDArray[np.float64]


def middle_half(values: Array) -> Array:
    ordered = np.sort(values, axis=-1)
    cut = ordered.shape[-1] // 4
    return np.asarray(ordered[..., cut:ordered.shape[-1] - cut].mean(axis=-1))


def of_blocks(statistic: Callable[[Array], Array]) -> Callable[[Array, Array], Array]:
    """By a statistic of each block."""
    return lambda a, b: np.asarray((np.log(statistic(a)) - np.log(statistic(b))).mean(axis=-1))


def hodges_lehmann(a: Array, b: Array) -> Array:
    """The median of how far each request is from each of the other target's in the round."""
    one, other = (np.log(values).reshape(values.shape[0], -1) for values in (a, b))
    return np.asarray(np.median((one[:, :, None] - other[:, None, :]).reshape(a.shape[0], -1), axis=1))


def with_control(a: Array, b: Array) -> Array:
    """The middle half, without what goes along with the distance of the round's two blocks of one target (A/A)."""
    values = of_blocks(middle_half)(a, b)
    controls = np.stack([np.log(middle_half(one)) @ np.array([1.0, -1.0]) for one in (a, b)], axis=1)
    controls -= np.median(controls, axis=0)
    # What is far off would decide on the slope.
    limits = 3 * 1.4826 * np.median(np.abs(controls), axis=0)
    kept = np.clip(controls, -limits, limits)
    slope, *_ = np.linalg.lstsq(kept, values - np.median(values), rcond=None)
    return np.asarray(values - kept @ slope)


ROUNDS: dict[str, Callable[[Array, Array], Array]] = {
    "mean": of_blocks(lambda values: values.mean(axis=-1)),
    "median": of_blocks(lambda values: np.median(values, axis=-1)),
    "lowest quarter's end": of_blocks(lambda values: np.quantile(values, 0.25, axis=-1)),
    "minimum": of_blocks(lambda values: values.min(axis=-1)),
    "middle half": of_blocks(middle_half),
    "Hodges-Lehmann of pairs": hodges_lehmann,
    "middle half, less its A/A control": with_control}


OVER_ROUNDS: dict[str, Callable[[Array], float]] = {
    "mean": lambda values: float(values.mean()), "median": lambda values: float(np.median(values)),
    "Huber's": lambda values: clipped_mean(values)[0]}


def drawn(seconds: Any, each: int, rounds: int, random: np.random.Generator) -> tuple[Array, Array]:
    """(a, b): so many processes each of [sweeps, processes, requests], in as many consecutive sweeps; two in a round,
    as `compare` measures them."""
    chosen = random.permutation(seconds.shape[1])[:2 * each]
    first = int(random.integers(0, seconds.shape[0] - rounds + 1))
    sweeps = np.arange(first, first + rounds)
    turns = np.arange(rounds)[:, None] + np.arange(2)
    a, b = (seconds[sweeps[:, None], own[turns % each]] for own in (chosen[:each], chosen[each:]))
    return a, b
