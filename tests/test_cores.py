"""Cores: how many a process may use, and processes that are pinned to them."""
import os
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

import cores

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process")


def test_a_process_is_pinned_with_all_its_threads_and_those_that_it_starts_later() -> None:
    code = ("import os, sys, threading\n"
            "stop = threading.Event()\n"
            "threading.Thread(target=stop.wait, daemon=True).start()\n"
            "print('ready', flush=True); sys.stdin.readline()\n"
            "threading.Thread(target=stop.wait, daemon=True).start()\n"
            "print([sorted(os.sched_getaffinity(int(name))) for name in os.listdir('/proc/self/task')], flush=True)\n"
            "sys.stdin.readline()\n")
    first = cores.usable()[0]
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as child:
        assert child.stdin
        assert child.stdout
        child.stdout.readline()
        assert cores.pin(child.pid, [first])
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == f"{[[first]] * 3}\n"
        child.stdin.close()
        child.kill()


def test_a_process_that_is_not_there_is_not_pinned() -> None:
    gone = max(psutil.pids()) + 100_000
    assert not cores.pin(gone, cores.usable())


def test_where_pinning_is_forbidden_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(pid: int, wanted: set[int]) -> None:
        raise PermissionError
    monkeypatch.setattr(os, "sched_setaffinity", forbidden)
    assert not cores.pin(os.getpid(), cores.usable())


def test_a_thread_that_ends_meanwhile_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    real, before = os.sched_setaffinity, os.sched_getaffinity(0)

    def gone(pid: int, wanted: set[int]) -> None:
        if pid == thread.native_id:
            raise ProcessLookupError
        real(pid, wanted)
    monkeypatch.setattr(os, "sched_setaffinity", gone)
    assert cores.pin(os.getpid(), before)
    stop.set()
    thread.join()


@pytest.mark.parametrize(("limit", "count", "why"), [
    ("max 100000", 2, ""), ("50000 100000", 1, "the CPU quota is 0.5 CPUs"),
    ("150000 100000", 1, "the CPU quota is 1.5 CPUs")])
def test_no_more_cores_are_usable_than_the_quota_has_time_for(limit: str, count: int, why: str, tmp_path: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpu.max").write_text(limit)
    monkeypatch.setattr(cores, "_cgroup_directories", lambda root: [tmp_path])
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5})
    assert cores.usable() == (3, 5)[:count]
    assert cores.why_not_two() == why


def test_of_one_core_there_are_not_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3})
    assert cores.usable() == (3,)
    assert cores.why_not_two() == "there is one core"


def test_a_system_without_pinning_has_no_usable_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity")
    assert cores.usable() == ()
    assert cores.why_not_two() == "this system pins no process"


@pytest.mark.parametrize(("files", "quota"), [
    ({"cpu.max": "max 100000"}, 8.0), ({"cpu.max": "150000 100000"}, 1.5),
    ({"a/cpu.max": "50000 100000", "cpu.max": "150000 100000"}, 0.5),
    ({"a/cpu.max": "max 100000", "cpu.max": "150000 100000"}, 1.5),
    ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2.0),
    ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8.0)])
def test_the_quota_is_the_lowest_of_all_parent_cgroups(files: dict[str, str], quota: float,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"/proc/self/cgroup": "0::/a/b", **{f"/sys/fs/cgroup/{name}": text for name, text in files.items()}}
    monkeypatch.setattr(cores, "_text", lambda path: there.get(str(path)))
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    assert cores.cpu_quota() == quota
