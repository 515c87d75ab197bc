"""Verdicts on recorded noise: equal processes, of which a part is taken to be so much slower."""
from collections import Counter
from pathlib import Path

import numpy as np
from recorded_noise import as_blocks, load

from benchmark.verdicts.block import Block
from benchmark.verdicts.comparison import TYPICAL, Rules, certain, compare
from benchmark.verdicts.typical import FEWEST

# About a minute of blocks of 0.1 s, two of each target in a round.
ROUNDS = 120
LOOKED = 6


def verdicts(path: Path, ratio: float, within: float, runs: int, each: int = 4, before: bool = False, seed: int = 0
             ) -> Counter[str]:
    """Of so many comparisons of `each` processes with `each` others that take `ratio` times as long, looked at after
    every LOOKED rounds; `before`: of all rounds by the mean, beyond the distance of equal processes."""
    seconds, random, found = load(path)["seconds"][:, 0], np.random.default_rng(seed), Counter[str]()
    for _ in range(runs):
        chosen = random.permutation(seconds.shape[1])[:2 * each]
        first = int(random.integers(0, seconds.shape[0] - ROUNDS + 1))
        a, b = (as_blocks(seconds, own, range(first, first + ROUNDS), name, factor) for own, name, factor in (
            (chosen[:each], "a", 1.0), (chosen[each:], "b", ratio)))
        found[_before([*a, *b]) if before else _at_any_time([*a, *b], Rules(equal_within=within))] += 1
    return found


def _before(blocks: list[Block]) -> str:
    return compare(blocks, "a", "b", "mean").verdict


def _at_any_time(blocks: list[Block], rules: Rules) -> str:
    for last in range(FEWEST, ROUNDS + 1, LOOKED):
        seen = [block for block in blocks if block.round < last]
        if certain(seen, ["a", "b"], rules):
            return compare(seen, "a", "b", TYPICAL, rules).verdict
    return compare(blocks, "a", "b", TYPICAL, rules).verdict
