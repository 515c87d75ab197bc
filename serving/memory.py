"""How much memory a request takes while the graph runs, and whether that much is free.

An operation holds its inputs and its outputs. So the memory per example is estimated as the growth of the two tensors
that grow most, between a traced run of the request's first example and one of its first two. TensorFlow may hold more
(branches, buffers of convolutions) or less (operations in place): the estimate is not exact, but it keeps the system
from killing the server.
"""
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.errors import Code, ServingError

# Smaller requests are not measured: a machine that serves a model has memory for a few of its examples.
FEWEST_EXAMPLES = 16
_SMALL_BYTES = 64 << 20
# The share of the free memory that one request may take: other requests and processes need some, too.
_SHARE = 0.75


@dataclass(frozen=True, slots=True)
class MemoryLimit:  # decision 130
    """The bytes one request may take: `most_bytes`; if 0, a share of what is free at that moment; below 0, no limit."""

    most_bytes: int = 0
    free: Callable[[], int | None] = lambda: free_bytes()

    def check(self, examples: int, bytes_per_example: int) -> None:
        """Raises RESOURCE_EXHAUSTED, with the number of examples that may be sent."""
        needed = examples * bytes_per_example
        if self.most_bytes < 0 or (self.most_bytes == 0 and needed < _SMALL_BYTES):
            return
        free = self.most_bytes or self.free()
        if free is None:
            return
        allowed = self.most_bytes or int(free * _SHARE)
        if needed > allowed:
            raise ServingError(
                Code.RESOURCE_EXHAUSTED,
                f"a request of {examples} examples would take some {needed >> 20} MB ({bytes_per_example} bytes an "
                f"example), and {allowed >> 20} MB may be taken; send {max(allowed // bytes_per_example, 1)} examples "
                "at most in one request, or see --max_request_memory_mb")


def bytes_per_example(one: Mapping[str, int], two: Mapping[str, int]) -> int:
    """The estimate from traced runs with one and with two examples (node -> bytes of its outputs); 0: nothing grows."""
    grown = sorted((two[name] - size for name, size in one.items() if name in two), reverse=True)
    return sum(size for size in grown[:2] if size > 0)


def free_bytes(root: Path = Path("/")) -> int | None:
    """The bytes this process can still allocate, by its cgroup's limit and the machine's memory; None: unknown."""
    found = [free for free in (
        _machine(root / "proc/meminfo"),
        _cgroup(root / "sys/fs/cgroup/memory.max", root / "sys/fs/cgroup/memory.current",
                root / "sys/fs/cgroup/memory.stat", "inactive_file"),
        _cgroup(root / "sys/fs/cgroup/memory/memory.limit_in_bytes",
                root / "sys/fs/cgroup/memory/memory.usage_in_bytes",
                root / "sys/fs/cgroup/memory/memory.stat", "total_inactive_file")) if free is not None]
    return min(found, default=None)


def _machine(meminfo: Path) -> int | None:
    available = _fields(meminfo).get("MemAvailable:")
    return None if available is None else available * 1024


def _cgroup(limit: Path, used: Path, stat: Path, cache: str) -> int | None:
    try:
        # "max" means no limit. The kernel frees cached files when memory is short.
        return int(limit.read_text()) - int(used.read_text()) + _fields(stat).get(cache, 0)
    except (OSError, ValueError):
        return None


def _fields(path: Path) -> dict[str, int]:
    try:
        rows = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
