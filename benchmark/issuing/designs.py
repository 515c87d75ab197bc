"""How the blocks of a round are measured: interleaved, one process after the other, or as a duet, two at a time.

Interleaved (A B B A): what changes on the machine within a round hits one more than the other. Processes that need no
more than one core are pinned to the same one, so that the scheduler moves what disturbs them to another.

Duet (source: Bulej et al., "Duet benchmarking: improving measurement accuracy in the cloud", ICPE 2020): A and B at the
same time, each with its client on cores of its own, then the other way round; what happens on the machine hits both.
It lies where they meet in caches or at the memory, or want more than their core; see `trial`.
"""
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from benchmark.verdicts.block import Block
from benchmark.verdicts.comparison import round_order

# (target, replica), requests, round -> the block
Measure = Callable[[tuple[str, int], int, int], Block]
# (target, replica), cores
Pin = Callable[[tuple[str, int], Sequence[int]], bool]


class Design(Protocol):
    """How a round is measured; `name` is that of --design."""

    name: str

    @property
    def least(self) -> int:
        """After so many rounds every ratio has an interval."""

    def round(self, number: int, there: int, back: int) -> list[Block]:
        """The blocks of a round: so many requests of each target there, and so many back."""


@dataclass(frozen=True)
class Interleaved:
    """A B C C B A, one process at a time."""

    names: Sequence[str]
    replicas: int
    measure: Measure
    name = "interleaved"
    least = 2  # one round has no spread

    def round(self, number: int, there: int, back: int) -> list[Block]:
        order = round_order(self.names, number, self.replicas)
        return [self.measure(process, there if place < len(self.names) else back, number)
                for place, process in enumerate(order)]


@dataclass(frozen=True)
class Duet:
    """The baseline and one candidate at the same time, on cores of their own, then with the cores changed."""

    names: Sequence[str]
    replicas: int
    measure: Measure
    pin: Pin
    places: tuple[Sequence[int], Sequence[int]]
    name = "duet"

    @property
    def least(self) -> int:
        return 2 * (len(self.names) - 1)

    def round(self, number: int, there: int, back: int) -> list[Block]:
        others = self.names[1:]
        turn, place = divmod(number, len(others))
        first = (self.names[0], turn % self.replicas)
        # Each replica of the one meets each of the other.
        second = (others[place], (turn + turn // self.replicas) % self.replicas)
        return [*self._pair(first, second, there, number), *self._pair(second, first, back, number)]

    def _pair(self, one: tuple[str, int], other: tuple[str, int], count: int, number: int) -> list[Block]:
        self.pin(one, self.places[0])
        self.pin(other, self.places[1])
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda process: self.measure(process, count, number), (one, other)))
