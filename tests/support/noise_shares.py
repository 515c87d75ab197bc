"""What a recording says about noise: each source's share of the variance of a block."""
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from estimators import middle_half

Array = npt.NDArray[np.float64]
RESAMPLED = 400


def logarithms(recording: dict[str, Any], name: str) -> Array:
    """Of the typical latency [sweeps, processes] of a condition's blocks."""
    return np.asarray(np.log(middle_half(recording["seconds"][:, list(recording["names"]).index(name)])))


def spread(values: Array) -> float:
    """The standard deviation that normal values with these quartiles have: a few that are far off change it little."""
    low, high = np.quantile(values, (0.25, 0.75))
    return float((high - low) / 1.349)


def within(values: Array) -> Array:
    """The blocks without what their process is always faster or slower by."""
    return values - np.median(values, axis=0)


def of_processes(values: Array) -> float:
    """The variance that is due to which process it is."""
    noise = spread(within(values)) ** 2 * 1.57 / values.shape[0]  # of the median of so many blocks
    return max(0.0, float(np.median(values, axis=0).var(ddof=1)) - noise)


def explained(values: Array, by: Array) -> float:
    """The share of the variance of blocks that goes along with another figure of the same blocks, of its ranks."""
    rest, others = within(values).ravel(), (by - np.median(by, axis=0)).ravel()
    if not np.ptp(others) or not np.ptp(rest):
        return 0.0
    ranks = [np.argsort(np.argsort(one)).astype(np.float64) for one in (rest, others)]
    return float(np.corrcoef(*ranks)[0, 1] ** 2)


def part(values: Array, of: Array) -> float:
    """The share of the variance of blocks that is in a part of their time. `of` [sweeps, processes]: the part's share
    of the usual time of a block."""
    rest, own = within(values), of - np.median(of, axis=0)
    near = np.abs(rest) <= 3 * spread(rest)
    return float((rest * own)[near].mean() / np.square(rest[near]).mean()) if np.ptp(rest[near]) else 0.0


def of_requests(recording: dict[str, Any], name: str, seed: int = 0) -> float:
    """The variance of a block that is due to its requests, which differ by themselves: of blocks of the same requests,
    drawn with replacement."""
    random, place = np.random.default_rng(seed), list(recording["names"]).index(name)
    took = recording["seconds"][:, place]

    def typical() -> Array:
        drawn = np.take_along_axis(took, random.integers(0, took.shape[-1], took.shape), axis=-1)
        return np.asarray(np.log(middle_half(drawn)))
    return float(np.median([np.square(spread(typical() - typical())) / 2 for _ in range(9)]))


def felt_by_all(values: Array) -> float:
    """The share of the variance of blocks that the other processes' blocks of the same sweep have in common with it."""
    rest = within(values)
    if not spread(rest):
        return 0.0
    rest = np.clip(rest / spread(rest), -3, 3)
    others = (rest.sum(axis=1, keepdims=True) - rest) / (rest.shape[1] - 1)
    return max(0.0, float(np.mean(rest * others) / np.mean(rest ** 2)))


def share(recording: dict[str, Any], of: Callable[[dict[str, Any]], float], seed: int = 0
          ) -> tuple[float, float, float]:
    """(share, low, high): with its 95 % interval, from resampling the sweeps."""
    random, sweeps = np.random.default_rng(seed), recording["seconds"].shape[0]
    found = []
    for _ in range(RESAMPLED):
        chosen = random.integers(0, sweeps, sweeps)
        found.append(of({key: value[chosen] if np.ndim(value) > 1 else value for key, value in recording.items()}))
    low, high = np.quantile(found, (0.025, 0.975))
    return of(recording), float(low), float(high)
