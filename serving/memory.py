"""How much memory a request takes while the graph runs, and whether that much is free.

An operation holds its inputs and its outputs. So the memory per example is estimated as the growth of the two tensors
that grow most, between a traced run of the request's first example and one of its first two. TensorFlow may hold more
(branches, buffers of convolutions) or less (operations in place): the estimate is not exact, but it keeps the system
from killing the server.
"""
import resource
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from serving.errors import Code, ServingError

# Smaller requests are not measured: a machine that serves a model has memory for a few of its examples.
FEWEST_EXAMPLES = 16
_SMALL_BYTES = 64 << 20
# The share of the free memory that requests may take in the graph: messages and other processes need some, too.
_SHARE = 0.75
# What a request took is kept for the next one: so many bytes in any case, and more up to this share of the free memory.
_KEPT_BYTES, _KEPT_SHARE = 256 << 20, 0.25


# A gRPC message is held up to five times: as received, in two copies by grpcio, parsed, and as arrays.
_COPIES_OF_A_MESSAGE = 5
_LONGEST_MESSAGE = 2**31 - 1  # the most that protobuf parses


def longest_message(most_bytes: int, free: Callable[[], int | None] | None = None) -> int:  # decision 130
    """The bytes of the longest gRPC message to take, as gRPC's option has it (-1: any). Arguments: see MemoryLimit."""
    if most_bytes < 0:
        return -1
    available = (free or free_bytes)()
    room = most_bytes or (_LONGEST_MESSAGE if available is None else available // _COPIES_OF_A_MESSAGE)
    return min(room, _LONGEST_MESSAGE)


class MemoryLimit:  # decision 130
    """How many bytes the running requests may take in the graph, in all.

    `most_bytes`; if 0, a share of what would be free without them; below 0, no limit.
    """

    def __init__(self, most_bytes: int = 0, free: Callable[[], int | None] | None = None,
                 used: Callable[[], int] | None = None) -> None:
        """`free`: bytes that can still be allocated, None if unknown; `used`: bytes that this process has."""
        self.most_bytes = most_bytes
        self._free = free or free_bytes
        self._used = used or used_bytes
        self._lock = threading.Lock()
        self._running = 0
        self._idle_bytes = 0

    @contextmanager
    def reserved(self, examples: int, bytes_per_example: int) -> Iterator[None]:
        """Counts a request as running within the context. Raises RESOURCE_EXHAUSTED if there is no room for it."""
        needed = examples * bytes_per_example
        with self._lock:
            if not self._running:
                self._idle_bytes = self._used()
            allowed = self._allowed(self._running + needed)
            if allowed is not None and self._running + needed > allowed:
                raise _exhausted(examples, bytes_per_example, max(allowed - self._running, 0), self._running)
            self._running += needed
        try:
            yield
        finally:
            with self._lock:
                self._running -= needed

    def _allowed(self, wanted: int) -> int | None:
        """The bytes that all running requests may take; None: no limit applies to `wanted` bytes."""
        if self.most_bytes:
            return self.most_bytes if self.most_bytes > 0 else None
        free = self._free() if wanted >= _SMALL_BYTES else None
        if free is None:
            return None
        # What the running requests have already allocated is no longer free, and must not be counted twice.
        taken = min(max(self._used() - self._idle_bytes, 0), self._running)
        return int((free + taken) * _SHARE)


def _exhausted(examples: int, bytes_per_example: int, left: int, running: int) -> ServingError:
    needs = examples * bytes_per_example >> 20
    if running:
        return ServingError(Code.RESOURCE_EXHAUSTED, (
            f"a request of {examples} examples would take some {needs} MB ({bytes_per_example} bytes an example), and "
            f"{left >> 20} MB may be taken beside the {running >> 20} MB of the requests that run; send it again when "
            "they have ended, send fewer examples, or see --max_request_memory_mb"))
    return ServingError(Code.RESOURCE_EXHAUSTED, (
        f"a request of {examples} examples would take some {needs} MB ({bytes_per_example} bytes an example), and "
        f"{left >> 20} MB may be taken; send {max(left // bytes_per_example, 1)} examples at most in one request, or "
        "see --max_request_memory_mb"))


def bytes_per_example(one: Mapping[str, int], two: Mapping[str, int]) -> int:
    """The estimate from traced runs with one and with two examples (node -> bytes of its outputs); 0: nothing grows."""
    grown = sorted((two[name] - size for name, size in one.items() if name in two), reverse=True)
    return sum(size for size in grown[:2] if size > 0)


def worth_keeping(taken: int, free: Callable[[], int | None] | None = None) -> bool:  # decision 219
    """Whether an engine may keep the bytes that a request took, for the next request of its size."""
    if taken <= _KEPT_BYTES:
        return True
    left = (free or free_bytes)()
    return left is not None and taken <= (left + taken) * _KEPT_SHARE


def used_bytes(statm: Path = Path("/proc/self/statm")) -> int:
    """The bytes of memory that this process has; 0: unknown."""
    try:
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def free_bytes(root: Path = Path("/")) -> int | None:
    """The bytes this process can still allocate; None: unknown.

    By the machine's memory, the limit of its cgroup, and its own limit of address space (ulimit -v).
    """
    found = [free for free in (
        _address_space(root / "proc/self/statm"),
        _machine(root / "proc/meminfo"),
        _cgroup(root / "sys/fs/cgroup/memory.max", root / "sys/fs/cgroup/memory.current",
                root / "sys/fs/cgroup/memory.stat", "inactive_file"),
        _cgroup(root / "sys/fs/cgroup/memory/memory.limit_in_bytes",
                root / "sys/fs/cgroup/memory/memory.usage_in_bytes",
                root / "sys/fs/cgroup/memory/memory.stat", "total_inactive_file")) if free is not None]
    return min(found, default=None)


def _address_space(statm: Path) -> int | None:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    try:
        return max(limit - int(statm.read_text().split()[0]) * resource.getpagesize(), 0)
    except OSError:
        return None


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
