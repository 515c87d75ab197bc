"""Runs a command on a busy or small machine, to check that no test depends on the machine's speed.

    python tests/support/busy_machine.py                    make test, with another process that loads each core
    python tests/support/busy_machine.py --one-core         the same with one core's worth of CPU time for everything
    python tests/support/busy_machine.py --one-core -- pytest -q tests/shell

--one-core sets a quota in a new control group (version 2), which needs root and is refused in most containers;
elsewhere the command and the load are bound to one CPU. The program prints which of the two it used. The exit status
is the command's.
"""
import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_GROUPS = Path("/sys/fs/cgroup")
_PERIOD_US = 100_000
# Ends when its parent ends, even if that was killed: no load may be left running.
_LOAD = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(100_000))"


@contextmanager
def load(processes: int) -> Iterator[list[int]]:  # decision 100
    """Runs `processes` processes that compute without pause, on the CPUs of this process; yields their process ids."""
    running = [subprocess.Popen([sys.executable, "-c", _LOAD]) for _ in range(processes)]
    try:
        yield [process.pid for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()


@contextmanager
def one_core(say: Callable[[str], None] = print) -> Iterator[None]:
    """Within this context, this process and the children it starts share the time of one CPU."""
    group, before = _GROUPS / f"busy-machine-{os.getpid()}", os.sched_getaffinity(0)
    try:
        # Only in a control group file system: elsewhere these would be created as normal files.
        (_GROUPS / "cgroup.controllers").read_text()
        group.mkdir()
        for name, text in (("cpu.max", f"{_PERIOD_US} {_PERIOD_US}"), ("cgroup.procs", str(os.getpid()))):
            with (group / name).open("r+") as file:
                file.write(text)
        quota = True
    except OSError as error:
        if group.is_dir():
            group.rmdir()
        os.sched_setaffinity(0, {min(before)})
        say(f"no quota can be set here ({error}): bound to CPU {min(before)} instead")
        quota = False
    else:
        say(f"a quota of one core, by {group}")
    try:
        yield
    finally:
        if quota:
            (_GROUPS / "cgroup.procs").write_text(str(os.getpid()))
            group.rmdir()
        os.sched_setaffinity(0, before)


def main(arguments: list[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one-core", action="store_true", help="one core's worth of CPU time for all processes")
    parser.add_argument("command", nargs="*", help="pytest and its arguments, after --; default: as make test")
    given = parser.parse_args(arguments)
    words = given.command or ["pytest", "-q", "-n", "2", "--dist", "loadfile"]
    command = [sys.executable, "-m", *words] if words[0] == "pytest" else words

    def run() -> int:
        with load(len(os.sched_getaffinity(0))) as processes:
            print(f"{len(processes)} busy processes beside: {' '.join(command)}", flush=True)
            return subprocess.run(command, cwd=ROOT, check=False).returncode
    if not given.one_core:
        return run()
    with one_core():
        return run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
