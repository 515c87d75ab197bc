"""Latencies like those of a noisy shared machine: skewed, with a common drift, stalls, and a bias of each process."""
import numpy as np

from benchmark.verdicts.block import Block
from benchmark.verdicts.comparison import block_plan, round_order


def simulated_blocks(means: dict[str, float], repeat: int = 200, seed: int = 0, process_bias: float = 0.004,
                     protocol: str = "rest", batch: int = 100) -> list[Block]:
    """Blocks as `compare` would measure them for targets of the given mean latency in seconds.

    Log-normal spread of 8 %, a common drift that changes by 1.5 % per block, stalls of up to 2x in 2 % of the
    requests, and a constant factor for each process (memory layout): `process_bias` is its standard deviation.
    """
    random = np.random.default_rng(seed)
    bias = {(name, replica): np.exp(random.normal(0, process_bias)) for name in means for replica in (0, 1)}
    drift, blocks = 0.0, []
    for round_, counts in enumerate(block_plan(repeat)):
        for position, (name, replica) in enumerate(round_order(list(means), round_)):
            drift = 0.9 * drift + random.normal(0, 0.015)
            count = counts[position >= len(means)]
            spread = np.exp(random.normal(0, 0.08, count)) * (1 + (random.random(count) < 0.02) * random.random(count))
            latencies = means[name] * bias[name, replica] * np.exp(drift) * spread
            blocks.append(Block(name, replica, protocol, batch, round_, tuple(latencies), float(latencies.sum()) * 1.01,
                                float(latencies.sum()) * 0.02))
    return blocks
