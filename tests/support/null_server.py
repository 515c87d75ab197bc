"""`python -m benchmark null-server` as a child process, on free ports."""
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class NullServer(NamedTuple):
    """Its addresses, host:port."""
    rest: str
    grpc: str


@contextmanager
def running_null_server(*options: str) -> Iterator[NullServer]:
    with subprocess.Popen([sys.executable, "-m", "benchmark", "null-server", *options], cwd=ROOT,
                          stdout=subprocess.PIPE, text=True) as process:
        # A process that never speaks is killed, and the line read below is empty.
        watchdog = threading.Timer(120, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            watchdog.cancel()
            found = re.search(r"REST http://(\S+), gRPC (\S+)", line)
            assert found, line
            yield NullServer(found[1], found[2])
        finally:
            process.send_signal(signal.SIGTERM)
