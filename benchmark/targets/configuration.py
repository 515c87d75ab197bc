"""The settings of a server that change its speed, as values: flags, environment, batching parameters."""
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Batching:
    """TensorFlow Serving's BatchingParameters: requests wait until max_batch_size is reached or the timeout is over."""

    max_batch_size: int
    batch_timeout_micros: int
    num_batch_threads: int

    def text(self) -> str:
        return (f"max_batch_size {{ value: {self.max_batch_size} }}\n"
                f"batch_timeout_micros {{ value: {self.batch_timeout_micros} }}\n"
                f"num_batch_threads {{ value: {self.num_batch_threads} }}\n"
                f"max_enqueued_batches {{ value: {100 * self.num_batch_threads} }}\n")


@dataclass(frozen=True)
class Configuration:
    """One choice of settings. 0 and None leave a setting at the server's default; Configuration() is all defaults."""

    intra_op: int = 0
    inter_op: int = 0
    omp_threads: int | None = None
    onednn: bool | None = None
    batching: Batching | None = None
    rest_threads: int | None = None
    grpc_threads: int | None = None

    @property
    def name(self) -> str:
        """The settings that are not the defaults, in a short and unique form."""
        batching = self.batching and (f"batching={self.batching.max_batch_size}/{self.batching.batch_timeout_micros}us/"
                                      f"{self.batching.num_batch_threads}")
        onednn = None if self.onednn is None else f"onednn={'on' if self.onednn else 'off'}"
        parts = [self.intra_op and f"intra={self.intra_op}", self.inter_op and f"inter={self.inter_op}",
                 self.omp_threads and f"omp={self.omp_threads}", onednn, batching,
                 self.rest_threads and f"rest={self.rest_threads}", self.grpc_threads and f"grpc={self.grpc_threads}"]
        return " ".join(str(part) for part in parts if part) or "defaults"

    def flags(self, batching_file: str | Path) -> tuple[str, ...]:
        """The settings as TensorFlow Serving's flags; the caller writes `batching.text()` to batching_file."""
        named = (("tensorflow_intra_op_parallelism", self.intra_op), ("tensorflow_inter_op_parallelism", self.inter_op),
                 ("rest_api_num_threads", self.rest_threads), ("grpc_max_threads", self.grpc_threads))
        made = tuple(f"--{name}={value}" for name, value in named if value)
        batching = ("--enable_batching", f"--batching_parameters_file={batching_file}") if self.batching else ()
        return (*made, *batching)

    def environment(self) -> tuple[tuple[str, str], ...]:
        onednn = () if self.onednn is None else (("TF_ENABLE_ONEDNN_OPTS", str(int(self.onednn))),)
        return (*((("OMP_NUM_THREADS", str(self.omp_threads)),) if self.omp_threads else ()), *onednn)


def candidates(cpu_quota: float, count: int, seed: int) -> list[Configuration]:
    """The defaults and count - 1 others within the CPU quota, a seeded sample without repetition.

    No thread count is above the quota: a container that sees all of the host's CPUs but may use two of them is five to
    ten times slower if a thread pool has a thread for each CPU of the host.
    """
    cpus = max(1, math.ceil(cpu_quota))
    threads = sorted({1, cpus} | {2**i for i in range(cpus.bit_length()) if 2**i <= cpus})
    batchings: Sequence[Batching | None] = (None, *(
        Batching(size, timeout, number) for size in (8, 32) for timeout in (500, 2000) for number in threads))
    wire: Sequence[int | None] = (None, 2 * cpus, 4 * cpus)
    space = [Configuration(*values) for values in itertools.product(
        (0, *threads), (0, *threads), (None, *threads), (None, False), batchings, wire, wire)]
    chosen = np.random.default_rng(seed).permutation(np.arange(1, len(space)))[:count - 1]
    return [Configuration(), *(space[i] for i in chosen)]
