"""Locust runs as a child process: importing it patches the whole interpreter for gevent."""
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from locust_runs import Run, Target, run_locust

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "loadtest"))


@pytest.fixture
def locust() -> Callable[..., Run]:
    return run_locust


@pytest.fixture(scope="session")
def null_server() -> Iterator[Target]:
    """A server that answers with its input at once, on free ports."""
    with subprocess.Popen([sys.executable, "-m", "benchmark", "null-server"], cwd=ROOT, stdout=subprocess.PIPE,
                          text=True) as process:
        # A process that never speaks is killed, and the line read below is empty.
        watchdog = threading.Timer(30, process.kill)
        watchdog.start()
        assert process.stdout is not None
        line = process.stdout.readline()
        watchdog.cancel()
        found = re.search(r"REST (http://\S+), gRPC (\S+)", line)
        assert found, line
        yield Target(found[1], found[2])
        process.send_signal(signal.SIGTERM)
