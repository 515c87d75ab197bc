"""Designs: which process is measured when and where; what a trial of them chooses."""
import threading
from collections.abc import Sequence

import pytest

from benchmark.issuing.designs import Duet, Interleaved
from benchmark.issuing.trial import QUIETER, TOLERATED, Trial, choose, try_out
from benchmark.verdicts.block import Block


class Machine:
    """Notes where each process is pinned; a block takes as long as `seconds` says."""

    def __init__(self, **seconds: float) -> None:
        self.seconds = seconds
        self.pinned: dict[tuple[str, int], Sequence[int]] = {}
        self.seen: list[tuple[str, int, int, tuple[int, ...]]] = []
        self.together = threading.Barrier(2, timeout=10)

    def pin(self, process: tuple[str, int], cores: Sequence[int]) -> bool:
        self.pinned[process] = cores
        return True

    def alone(self, process: tuple[str, int], count: int, round_: int) -> Block:
        self.seen.append((*process, count, tuple(self.pinned.get(process, ()))))
        seconds = self.seconds[process[0]]
        return Block(*process, "grpc", 1, round_, (seconds,) * count, seconds * count)

    def at_once(self, process: tuple[str, int], count: int, round_: int) -> Block:
        self.together.wait()  # ends only if two are measured at the same time
        return self.alone(process, count, round_)


def test_interleaved_measures_there_and_back_one_after_the_other() -> None:
    machine = Machine(a=1, b=1)
    blocks = Interleaved("ab", 2, machine.alone).round(0, 3, 2)
    assert [(name, replica, count) for name, replica, count, _ in machine.seen] == [
        ("a", 0, 3), ("b", 0, 3), ("b", 1, 2), ("a", 1, 2)]
    assert {block.round for block in blocks} == {0}


def test_a_duet_measures_two_at_the_same_time_on_cores_of_their_own_and_changes_them() -> None:
    machine = Machine(a=1, b=1)
    duet = Duet("ab", 2, machine.at_once, machine.pin, ((0, 1), (2, 3)))
    blocks = duet.round(0, 3, 2)
    assert sorted(machine.seen) == [("a", 0, 2, (2, 3)), ("a", 0, 3, (0, 1)), ("b", 0, 2, (0, 1)), ("b", 0, 3, (2, 3))]
    assert [(block.target, len(block.latencies)) for block in blocks] == [("a", 3), ("b", 3), ("b", 2), ("a", 2)]


def test_in_duets_each_replica_meets_each_of_every_candidate() -> None:
    machine = Machine(a=1, b=1, c=1)
    duet = Duet("abc", 2, machine.at_once, machine.pin, ((0,), (1,)))
    met = set()
    for number in range(8):
        blocks = duet.round(number, 1, 1)
        met.add(tuple(dict.fromkeys((block.target, block.replica) for block in blocks)))
    assert met == {(("a", i), (other, j)) for i in (0, 1) for other in "bc" for j in (0, 1)}


def test_a_duet_needs_two_rounds_of_each_candidate() -> None:
    machine = Machine(a=1)
    assert Interleaved("abcd", 2, machine.alone).least == 2
    assert Duet("abcd", 2, machine.alone, machine.pin, ((0,), (1,))).least == 6


def test_a_trial_sees_the_ratio_of_the_first_two() -> None:
    for design in (Interleaved("ab", 2, Machine(a=2, b=1).alone),
                   Duet("abc", 2, (machine := Machine(a=2, b=1, c=7)).at_once, machine.pin, ((0,), (1,)))):
        assert try_out(design, design.names, 2).ratio == pytest.approx(0.6931, abs=1e-3)


@pytest.mark.parametrize(("duet", "chosen", "why"), [
    (Trial(0.0, 0.001, 0.9 * QUIETER * 0.01), "duet", "within 2.0% interleaved and within 1.3% as a duet"),
    (Trial(0.0, 0.001, 0.01), "interleaved", "within 2.0% interleaved and within 2.0% as a duet"),
    (Trial(0.02 + TOLERATED, 0.001, 0.001), "interleaved", "slow each other: their ratio was 3.0% off"),
    (Trial(-0.02 - TOLERATED, 0.001, 0.001), "interleaved", "slow each other: their ratio was 3.0% off")])
def test_a_duet_is_chosen_if_it_is_much_quieter_and_has_the_same_ratio(duet: Trial, chosen: str, why: str) -> None:
    name, words = choose(Trial(0.0, 0.001, 0.01), duet)
    assert name == chosen
    assert why in words
