"""How many threads an engine gets: as many as the process may use CPUs, by its affinity and by its cgroup's quota."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from serving.engines.cpus import cpus

ROOT = Path(__file__).resolve().parents[3]
ALL = len(os.sched_getaffinity(0))


def machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        (root / "sys/fs/cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "sys/fs/cgroup" / name).write_text(text)
    return root


def test_threads_are_counted_within_what_the_process_may_use() -> None:
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); " \
           "from serving.engines.cpus import cpus; print(cpus())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


@pytest.mark.parametrize(("groups", "files", "found"), [
    ("", {}, 64),
    ("0::/\n", {"cpu.max": "max 100000\n"}, 64),
    ("0::/\n", {"cpu.max": "300000 100000\n"}, 3),
    ("0::/\n", {"cpu.max": "250000 100000\n"}, 3),
    ("0::/\n", {"cpu.max": "20000 100000\n"}, 1),
    ("0::/\n", {"cpu.max": "9900000 100000\n"}, 64),
    ("0::/\n", {"cpu.max": "nonsense"}, 64),
    ("0::/a/b\n", {"cpu.max": "max 100000\n", "a/cpu.max": "200000 100000\n", "a/b/cpu.max": "max 100000\n"}, 2),
    # In a container: the path is the host's, and the group's files are at the mount.
    ("0::/docker/1234\n", {"cpu.max": "400000 100000\n"}, 4),
    # Version 1, alone and beside version 2.
    ("4:memory:/m\n2:cpu,cpuacct:/a\n0::/\n", {"cpu,cpuacct/a/cpu.cfs_quota_us": "150000\n",
                                               "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n"}, 2),
    ("2:cpu:/a\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n",
                    "cpu/a/cpu.cfs_quota_us": "500000\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, 5),
    ("2:cpu:/a\n0::/\n", {"unified/cpu.max": "700000 100000\n"}, 7),
])
def test_the_quota_of_the_cgroup_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str,
                                       files: dict[str, str], found: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))
    assert cpus(machine(tmp_path, groups, files)) == found


def test_without_cgroups_the_affinity_counts(tmp_path: Path) -> None:
    assert cpus(tmp_path) == ALL
