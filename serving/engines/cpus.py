"""How many CPUs this process may use: by its affinity, and by the quota of its cgroup."""
import math
import os
from collections.abc import Iterator
from pathlib import Path


def cpus(root: Path = Path("/")) -> int:
    """At least 1. `root`: where proc and sys/fs/cgroup are; version 1 and 2 of cgroups are read."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for quota in _quotas(root):
        # Half a CPU more is worth a thread: two threads use 1.5 CPUs better than one does.
        found = min(found, max(1, math.ceil(quota)))
    return found


def _quotas(root: Path) -> Iterator[float]:
    """The quotas, in CPUs, of the process's groups and of the groups above them."""
    mount = root / "sys/fs/cgroup"
    try:
        rows = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return
    for _, controllers, path in (row for row in rows if len(row) == 3):
        if not controllers:
            folders = [mount, mount / "unified"]
        elif "cpu" in controllers.split(","):
            folders = [mount / controllers, mount / "cpu"]
        else:
            continue
        parts = Path(path.lstrip("/")).parts
        for folder in folders:
            # In a container the path may be the host's, and only the mount itself is there.
            for depth in range(len(parts) + 1):
                group = folder.joinpath(*parts[:depth])
                yield from _quota(group) if not controllers else _quota_of_version_1(group)


def _quota(group: Path) -> Iterator[float]:
    try:
        allowed, period = (group / "cpu.max").read_text().split()
        yield int(allowed) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return  # no such file, or "max"


def _quota_of_version_1(group: Path) -> Iterator[float]:
    try:
        allowed, period = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        if allowed > 0:
            yield allowed / period
    except (OSError, ValueError, ZeroDivisionError):
        return
