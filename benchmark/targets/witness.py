"""What a server's process used for its requests, told beside their time: CPU time, instructions and cycles.

None of them is what a client waits for, so they never make a verdict. They say what became cheaper, where a ratio only
says that answers come sooner.
"""
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from time import monotonic, sleep
from typing import IO, Self

from benchmark.targets.child import Child
from benchmark.verdicts.records import UsedRecord

# Of the program alone: the kernel's may not be counted without privileges.
EVENTS = {"instructions:u": "instructions", "cycles:u": "cycles"}
_ATTACHED_S = 2.0
_STOP_S = 5.0


@cache
def why_not_counted() -> str:
    """Why instructions and cycles cannot be counted here; "" if they can."""
    if shutil.which("perf") is None:
        return "perf is not installed"
    done = subprocess.run(["perf", "stat", "-x,", "-e", ",".join(EVENTS), "true"], capture_output=True, text=True,
                          check=False, timeout=20)
    if done.returncode:
        return f"perf may not count here: {' '.join(done.stderr.split()).removeprefix('Error: ')[:200]}"
    return "" if len(counted(done.stderr)) == len(EVENTS) else "this machine, mostly a virtual one, has no counters"


def counted(text: str) -> dict[str, float]:
    """The counts in the lines of `perf stat -x,`: value, unit, event, and what does not matter here."""
    found = {}
    for fields in (line.split(",") for line in text.splitlines()):
        if len(fields) > 2 and fields[2] in EVENTS:
            with suppress(ValueError):  # <not supported>, <not counted>
                found[EVENTS[fields[2]]] = float(fields[0])
    return found


class Witness:
    """Counts what a process uses while the with block runs; `used` tells it afterwards."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._perf: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._cpu_ns: int | None = None
        self._counts: dict[str, float] = {}

    def __enter__(self) -> Self:
        if not why_not_counted():
            self._log = tempfile.TemporaryFile()
            self._perf = subprocess.Popen(
                ["perf", "stat", "-x,", "-e", ",".join(EVENTS), "-p", str(self._child.server())],
                stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
            self._await_attached()
        self._cpu_ns = self._child.cpu_ns()
        return self

    def __exit__(self, *_: object) -> None:
        now = self._child.cpu_ns()
        self._cpu_ns = now - self._cpu_ns if now is not None and self._cpu_ns is not None else None
        if self._perf is not None and self._log is not None:
            self._perf.send_signal(signal.SIGINT)  # perf prints its counts then
            try:
                self._perf.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._perf.kill()
                self._perf.wait()
            self._log.seek(0)
            self._counts = counted(self._log.read().decode("utf-8", "replace"))
            self._log.close()

    def used(self) -> dict[str, float]:
        """What the process used in all: CPU seconds, and instructions and cycles where they are counted."""
        return {**({} if self._cpu_ns is None else {"cpu_s": self._cpu_ns / 1e9}), **self._counts}

    def _await_attached(self) -> None:
        assert self._perf is not None
        files, deadline = Path(f"/proc/{self._perf.pid}/fd"), monotonic() + _ATTACHED_S
        while monotonic() < deadline and self._perf.poll() is None:
            with suppress(OSError):
                if any("perf_event" in str(file.readlink()) for file in files.iterdir()):
                    return
            sleep(0.01)


def per_request(uses: Sequence[dict[str, float]], requests: int) -> UsedRecord:
    """The share of one request in what the equal processes of a target used for `requests` in all."""
    def share(name: str, factor: float = 1.0) -> float | None:
        if not requests or any(name not in each for each in uses):
            return None
        return factor * sum(each[name] for each in uses) / requests
    return {"requests": requests, "cpu_ms": share("cpu_s", 1e3), "instructions": share("instructions"),
            "cycles": share("cycles")}
