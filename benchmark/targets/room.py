"""How many processes of each target the memory of this machine holds."""
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmark.targets.target import Target
from version_directory import model_bytes

# Resident memory of a process that runs a model: TensorFlow, and the weights as read, as constants and as its kernels
# reorder them. Loaded, models of 22, 207 and 875 MB took 0.6, 0.9 and 1.6 GB; they take more when they run.
_PROCESS_BYTES, _TIMES = 600 << 20, 4
_SHARE = 0.8  # of what is free; requests take memory, too


def processes(targets: Sequence[Target], asked: int, free_bytes: int | None = None) -> int:  # decision 199
    """`asked`, or as many processes of each target as the free memory holds, at least 1. Sizes of files decide."""
    free = psutil.virtual_memory().available if free_bytes is None else free_bytes
    return max(1, min(asked, int(_SHARE * free // max(1, needed_bytes(targets)))))


def needed_bytes(targets: Sequence[Target]) -> int:
    """Estimated resident memory of one process of each target, without those that run already."""
    return sum(_PROCESS_BYTES + _TIMES * _read_bytes(target.files, directory)
               for target in targets if (directory := target.version_directory))


def _read_bytes(files: Sequence[Path] | None, directory: Path) -> int:
    return model_bytes(directory) if files is None else sum(file.stat().st_size for file in files)
