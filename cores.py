"""The cores that a process may use, and processes that are pinned to them: pinned, two neither move nor meet."""
import os
from collections.abc import Iterable
from pathlib import Path


def cpu_quota() -> float:
    """The number of CPUs that this process may use: the least of its affinity and its cgroups' quotas (v2 and v1)."""
    allowed = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    for directory in _cgroup_directories(Path("/sys/fs/cgroup")):
        if text := _text(directory / "cpu.max"):
            limit, _, period = text.partition(" ")
            if limit != "max":
                allowed = min(allowed, int(limit) / int(period or 100_000))
    v1 = [_text(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us") for name in ("quota", "period")]
    if v1[0] and v1[1] and int(v1[0]) > 0:
        allowed = min(allowed, int(v1[0]) / int(v1[1]))
    return allowed


def _cgroup_directories(root: Path) -> list[Path]:
    own = next((line.split("::", 1)[1] for line in (_text("/proc/self/cgroup") or "").splitlines()
                if line.startswith("0::")), "/")
    here = root / own.strip().lstrip("/")
    return [here, *(parent for parent in here.parents if parent == root or root in parent.parents)]


def _text(path: str | Path) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def allowed() -> tuple[int, ...]:
    """The cores that this process may use; none where the system cannot pin."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_setaffinity") else ()


def usable() -> tuple[int, ...]:
    """Of the allowed cores as many as the quota has time for, and one at least."""
    return allowed()[:max(1, int(cpu_quota()))]


def why_not_two() -> str:
    """Why fewer than two cores are usable; "" if two are."""
    if len(usable()) > 1:
        return ""
    if not allowed():
        return "this system pins no process"
    return "there is one core" if len(allowed()) == 1 else f"the CPU quota is {cpu_quota():g} CPUs"


def pin(pid: int, chosen: Iterable[int]) -> bool:
    """Lets a process with all its threads, those that it starts later too, use the chosen cores only; False if that is
    forbidden, or there is no such process."""
    wanted = set(chosen)
    try:
        for _ in range(2):  # a thread may have started another one meanwhile
            for thread in Path(f"/proc/{pid}/task").iterdir():
                try:
                    os.sched_setaffinity(int(thread.name), wanted)
                except ProcessLookupError:
                    continue  # it has ended
    except OSError:
        return False
    return True
