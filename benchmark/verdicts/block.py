"""A block of measured requests, the unit of every comparison."""
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from statistics import fmean
from typing import cast

import numpy as np

from benchmark.verdicts.records import BlockRecord
from benchmark.verdicts.statistics import Array


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

    @cached_property
    def typical_s(self) -> float:
        return typical_latency(self.latencies)

    def to_json(self) -> BlockRecord:
        return cast(BlockRecord, asdict(self) | {"latencies": [round(value, 9) for value in self.latencies]})

    @classmethod
    def from_json(cls, value: BlockRecord) -> "Block":
        return cls(value["target"], value["replica"], value["protocol"], value["batch"], value["round"],
                   tuple(value["latencies"]), value["wall_s"], value["cpu_s"], value["errors"], value["wrong"])


def typical_latency(values: Sequence[float]) -> float:
    """The mean of the middle half; of all if there are fewer than four."""
    cut = len(values) // 4
    return fmean(sorted(values)[cut:len(values) - cut])


def latencies(blocks: Iterable[Block]) -> Array:
    """All latencies [n] in seconds, in the order measured."""
    return np.array([value for block in blocks for value in block.latencies], dtype=np.float64)
