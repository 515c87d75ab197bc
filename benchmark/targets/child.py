"""Child processes that end with the measurement at the latest: servers, in-process engines, load generators."""
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from time import clock_gettime_ns, monotonic, sleep
from types import TracebackType
from typing import Any, Self

import psutil

import dies_with_parent
from user_error import FailedError

STOP_S = 20.0
# The clock of a process's CPU time on Linux is its id's complement beside this: the scheduler's own count, in ns.
_SCHEDULED = 2
# How long a process may go on using CPU after its last answer; how often that is looked at, and from which share of one
# core on it counts.
SETTLE_S, _LOOK_S, _BUSY = 0.5, 0.006, 0.1
# Below the ephemeral ports (32768 and above on Linux), which the system may give to another process at any moment.
PORTS = range(15_000, 30_000)
PORT_TAKEN = re.compile(r"already in use|failed to bind|cannot be bound", re.IGNORECASE)
INFORMATION = re.compile(r"^(\S+ \S+: )?(I\d{4} |I |\d{4}-\d\d-\d\d \S+ I )|^INFO\b|^py-spy> |^@ +0x|^\*\*\* "
                         # tfserving.sh's own last line: the server's is before it.
                         r"|; its reason is above$")


class PortTakenError(FailedError):
    """Another process bound a port after it was chosen and before the child could bind it: choose again."""


class Child:
    """A child process that is stopped on exit from the with block; on Linux the kernel kills it if the parent dies.

    It runs in a new session, so that Ctrl-C reaches only the parent, which then stops it.
    """

    def __init__(self, title: str, argv: Sequence[str], env: Mapping[str, str] | None = None,
                 cwd: str | Path | None = None, **pipes: Any) -> None:
        self.title = title
        self.argv = list(argv)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        self._cpu_clock: int | None = None
        self.began = monotonic()
        self.process = subprocess.Popen(
            dies_with_parent.argv(self.argv), cwd=cwd, env={**os.environ, **(env or {})}, start_new_session=True,
            **{"stdin": subprocess.DEVNULL, "stdout": self._log, "stderr": self._log, **pipes})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def last_message(self, most: int = 300) -> str:
        """The last line it printed that is neither information nor a C++ stack: its last `most` characters."""
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().decode("utf-8", "replace").splitlines()]
        notable = [line for line in lines if line and not INFORMATION.search(line)]
        return notable[-1][-most:] if notable else "its log does not say why"

    def check(self, doing: str) -> None:
        """Raises FailedError with the exit status and the last message if the process has ended.

        Raises PortTakenError if its last message says that a port is in use.

        Args:
            doing: completes "the server of X died ...", such as "while loading the model".
        """
        code = self.process.poll()
        if code is not None:
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
            message = self.last_message()
            # SIGKILL comes from the kernel's out-of-memory killer, or from a person.
            killed = "; was memory short (see the kernel's log)? Run again with more memory"
            hint = killed if code == -signal.SIGKILL else ""
            kind = PortTakenError if PORT_TAKEN.search(message) else FailedError
            raise kind(f"the {self.title} died {doing} ({how}): {message}{hint}")

    def await_death(self, doing: str, timeout_s: float) -> None:
        """As `check`, but first waits up to `timeout_s` for the process to end."""
        deadline = monotonic() + timeout_s
        while self.alive and monotonic() < deadline:
            sleep(0.02)
        self.check(doing)

    def wait_until(self, ready: Callable[[], bool], timeout_s: float, doing: str) -> float:
        """Polls until ready() is true; returns the seconds since the process was started.

        Raises FailedError if the process ends or takes longer than `timeout_s`.
        """
        deadline = self.began + timeout_s
        while not ready():
            self.check(doing)
            if monotonic() > deadline:
                raise FailedError(f"the {self.title} was not ready after {timeout_s:g} s: {self.last_message()}")
            sleep(0.02)
        return monotonic() - self.began

    def resident_bytes(self) -> int | None:
        """Resident memory of the process and all its children; None if it cannot be read."""
        try:
            own = psutil.Process(self.server())
            return sum(int(process.memory_info().rss) for process in [own, *own.children(recursive=True)])
        except psutil.Error:
            return None

    def server(self) -> int:
        """The process id of the server, which is not always the child's own."""
        return self.process.pid

    def settle(self, most_s: float = SETTLE_S) -> None:  # decision 217
        """Waits until the process, which has nothing to do, uses no CPU any more, for at most `most_s`.

        Worker threads of some engines spin after a request, in case that another one comes: OpenMP's for 0.2 s. Where
        the system does not say how much CPU a process uses, this does not wait.
        """
        deadline, used = monotonic() + most_s, self.cpu_ns()
        while used is not None and monotonic() < deadline:
            sleep(_LOOK_S)
            before, used = used, self.cpu_ns()
            if used is None or used - before < _BUSY * _LOOK_S * 1e9:
                return

    def cpu_ns(self) -> int | None:
        """Nanoseconds of CPU time that the server's threads have used; None if the system does not say."""
        try:
            if self._cpu_clock is None:
                self._cpu_clock = ~self.server() << 3 | _SCHEDULED
            return clock_gettime_ns(self._cpu_clock)
        except (OSError, psutil.Error):
            return None

    def stop(self, timeout_s: float = STOP_S) -> None:
        if self.alive:
            self.process.terminate()
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        # A child's own children (such as the server that a wrapper script started) are in the same process group.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self._log.close()


class Container(Child):
    """tfserving.sh with a container: the server's process is a child of the container engine, not of tfserving.sh."""

    def server(self) -> int:
        # The container's name ends with the process id of tfserving.sh.
        container = _docker("ps", "--quiet", "--filter", f"name=-{self.process.pid}$")
        server = _docker("inspect", "--format", "{{.State.Pid}}", container)
        # Except on Linux, the container engine runs its processes in a virtual machine.
        if not server.isdecimal() or sys.platform != "linux":
            raise psutil.NoSuchProcess(-1, msg="the container's server is not a process of this machine")
        return int(server)


def _docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False).stdout.strip()


def free_ports(count: int) -> list[int]:
    """Loopback ports that are free now, though another process may still take them. Raises FailedError without any."""
    with ExitStack() as stack:
        found: list[int] = []
        for port in random.sample(PORTS, len(PORTS)):
            each = stack.enter_context(socket.socket())
            with suppress(OSError):
                each.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                return found
    raise FailedError(f"no free port from {PORTS.start} to {PORTS.stop - 1}: stop servers that are not needed")


def python_module(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]
