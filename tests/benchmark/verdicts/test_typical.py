"""The typical ratio: sharp where rounds agree, unmoved by a few that do not, and no sharper than processes allow."""
from dataclasses import replace

import numpy as np
import pytest

from benchmark.verdicts.block import Block, typical_latency
from benchmark.verdicts.typical import APART, FEWEST, of_rounds, typical_ratio


def blocks(target: str, ratio: float = 1.0, rounds: int = 60, replicas: int = 2, noise: float = 0.01,
           apart: float = 0.0, seed: int = 0, request_s: float = 0.01) -> list[Block]:
    """Two blocks of eight requests in each round; each process is faster or slower than the others by `apart`."""
    random = np.random.default_rng([seed, *target.encode()])
    luck = np.exp(apart * random.normal(size=replicas))
    made = []
    for round_ in range(rounds):
        for replica in {round_ % replicas, (round_ + 1) % replicas}:
            latencies = request_s * ratio * luck[replica] * np.exp(noise * random.standard_t(3)
                                                                   + 0.02 * random.normal(size=8))
            made.append(Block(target, replica, "grpc", 1, round_, tuple(latencies), float(latencies.sum())))
    return made


def test_typical_is_the_mean_of_the_middle_half() -> None:
    assert typical_latency([5.0, 1.0, 2.0, 3.0, 90.0, 4.0, 0.1, 6.0]) == (2 + 3 + 4 + 5) / 4
    assert typical_latency([1.0, 2.0, 6.0]) == 3


@pytest.mark.parametrize("ratio", [0.5, 0.98, 1.0, 1.02, 3.0])
def test_the_ratio_is_baseline_over_candidate_and_within_its_interval(ratio: float) -> None:
    found = typical_ratio(blocks("a", ratio, rounds=400), blocks("b", rounds=400))
    assert found.value == pytest.approx(ratio, rel=0.01)
    assert found.low < ratio < found.high


def test_a_round_that_something_disturbed_moves_the_ratio_little() -> None:
    a, b = blocks("a"), blocks("b")
    found = typical_ratio(a, b)
    disturbed = [replace(block, latencies=tuple(value * 3 for value in block.latencies)) if block.round % 10 == 3
                 else block for block in b]
    moved = typical_ratio(a, disturbed)
    assert moved.value == pytest.approx(found.value, rel=0.004)
    assert moved.high - moved.low < 2 * (found.high - found.low)


def test_more_rounds_do_not_average_out_which_processes_ran_and_more_processes_do() -> None:
    widths = {(rounds, replicas): (found := typical_ratio(
        blocks("a", rounds=rounds, replicas=replicas, noise=0.001, apart=APART),
        blocks("b", rounds=rounds, replicas=replicas, noise=0.001, apart=APART))).high - found.low
        for rounds, replicas in ((200, 2), (3200, 2), (200, 8))}
    assert widths[3200, 2] > 0.7 * widths[200, 2]
    assert widths[200, 8] < 0.6 * widths[200, 2]


def test_processes_that_are_far_apart_make_the_interval_wide() -> None:
    near, far = (typical_ratio(blocks("a", apart=apart, replicas=4), blocks("b", apart=apart, replicas=4))
                 for apart in (0.0, 0.05))
    assert far.luck > 4 * near.luck
    assert far.high - far.low > 2.5 * (near.high - near.low)


def test_one_process_of_each_is_as_far_from_another_as_processes_are_known_to_be() -> None:
    one, two = (typical_ratio(blocks("a", replicas=replicas), blocks("b", replicas=replicas)) for replicas in (1, 2))
    assert one.luck > 1.3 * two.luck


@pytest.mark.parametrize("rounds", [1, 2, FEWEST - 1])
def test_of_few_rounds_an_interval_for_their_number_is_taken(rounds: int) -> None:
    found = typical_ratio(blocks("a", 2.0, rounds), blocks("b", rounds=rounds))
    assert (found.low, found.high) == (0.0, np.inf) if rounds == 1 else found.low < 2 < found.high
    assert np.isfinite(found.high) is np.bool_(rounds > 1)


def test_short_rounds_are_put_together_as_neighbours_have_much_in_common() -> None:
    """What disturbs 20 rounds on end counts as if it were one."""
    a = blocks("a", rounds=2000, replicas=8, request_s=0.0001)
    random = np.random.default_rng(1)
    waves = np.repeat(np.exp(0.02 * random.normal(size=100)), 20)
    b = [replace(block, latencies=tuple(value * waves[block.round] for value in block.latencies))
         for block in blocks("b", rounds=2000, request_s=0.0001)]
    long = [[replace(block, wall_s=1.0) for block in own] for own in (a, b)]
    found, naive = typical_ratio(a, b), typical_ratio(*long)
    assert found.high - found.low > 1.2 * (naive.high - naive.low)


@pytest.mark.parametrize(("ratio", "wrong", "least"), [(1.0, 1, 0), (0.98, 0, 18)])
def test_looking_after_every_round_equals_are_hardly_ever_told_apart_and_two_per_cent_are(
        ratio: float, wrong: int, least: int) -> None:
    seen = []
    for seed in range(20):
        a, b = (blocks(name, share, 300, 4, 0.008, 0.002, seed) for name, share in (("a", ratio), ("b", 1.0)))
        seen.append("no")
        for last in range(FEWEST, 300, 20):
            found = typical_ratio(*([block for block in own if block.round <= last] for own in (a, b)))
            if not found.low <= 1 <= found.high:
                seen[-1] = "faster" if found.low > 1 else "slower"
                break
    assert seen.count("faster") <= wrong
    assert seen.count("slower") >= least
    assert ratio < 1 or seen.count("slower") <= wrong


def test_a_round_gives_one_logarithm() -> None:
    a, b = blocks("a", 2.0, rounds=3, noise=0), blocks("b", rounds=3, noise=0)
    assert of_rounds(a, b) == pytest.approx(np.log(2), abs=0.03)
    assert of_rounds(a, b).shape == (3,)


def test_an_interval_for_a_number_of_rounds_that_was_chosen_before_is_narrower_and_holds() -> None:
    missed = 0
    for seed in range(100):
        a, b = blocks("a", rounds=60, seed=seed, replicas=8), blocks("b", rounds=60, seed=seed, replicas=8)
        found, always = typical_ratio(a, b, anytime=False), typical_ratio(a, b)
        missed += not found.low <= 1 <= found.high
        assert found.high - found.low < always.high - always.low
        assert found.value == pytest.approx(always.value, rel=0.003)
    assert missed <= 5
