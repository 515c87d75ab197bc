"""tests/support/busy_machine.py: the load, the quota of one core, and the exit status."""
import os
import subprocess
import sys
from pathlib import Path

import psutil
from busy_machine import load, main

SCRIPT = Path(__file__).parent / "support" / "busy_machine.py"


def test_the_load_uses_cpu_time_and_ends_afterwards() -> None:
    with load(2) as processes:
        busy = [psutil.Process(process) for process in processes]
        while min(sum(process.cpu_times()[:2]) for process in busy) < 0.1:
            pass  # a load that waits for something never uses so much CPU time
    assert not any(psutil.pid_exists(process) for process in processes)


def test_the_exit_status_is_that_of_the_command() -> None:
    assert main(["--", sys.executable, "-c", "raise SystemExit(7)"]) == 7


def test_one_core_is_a_quota_or_one_cpu_and_is_printed() -> None:
    code = "import os, pathlib; print(len(os.sched_getaffinity(0)), pathlib.Path('/proc/self/cgroup').read_text())"
    before = os.sched_getaffinity(0)
    done = subprocess.run([sys.executable, str(SCRIPT), "--one-core", "--", sys.executable, "-c", code],
                          capture_output=True, text=True, check=True)
    if "a quota of one core" in done.stdout:
        assert "busy-machine-" in done.stdout.splitlines()[-2] + done.stdout.splitlines()[-1]
    else:
        assert "no quota can be set here" in done.stdout
        assert any(line.startswith("1 ") for line in done.stdout.splitlines())
    assert os.sched_getaffinity(0) == before
