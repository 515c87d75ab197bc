"""Runs tfserving.sh as a child process and reads what it prints."""
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from running_server import free_port

SCRIPT = Path(__file__).resolve().parents[2] / "tfserving.sh"


class Hosted:
    """A running tfserving.sh; `log` is the file with everything that it has printed so far."""

    def __init__(self, arguments: list[str], environment: dict[str, str], log: Path, cwd: Path) -> None:
        self.log = log
        self.port, self.rest_port = int(environment["PORT"]), int(environment["REST_PORT"])
        with log.open("w") as out:
            self.process = subprocess.Popen([str(SCRIPT), *arguments], stdout=out, stderr=out, cwd=cwd,
                                            env=os.environ | environment, stdin=subprocess.DEVNULL,
                                            start_new_session=True)

    def await_text(self, text: str, seconds: float = 150) -> str:
        deadline = time.monotonic() + seconds
        while text not in (output := self.log.read_text()):
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{output}"
            assert time.monotonic() < deadline, f"no '{text}' in time:\n{output}"
            time.sleep(0.05)
        return output

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)

    def end(self) -> None:
        """Ends the script and every process that it started, even after a failed test."""
        try:
            if self.process.poll() is None:
                self.stop(signal.SIGTERM)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


Run = Callable[..., Hosted]


@contextmanager
def hosting(models: Path, folder: Path, **common: str) -> Iterator[Run]:
    """Yields what starts the script, with arguments and environment variables; everything ends with the context.

    folder: the script's working directory, where its log is written. common: variables of every start.
    """
    running: list[Hosted] = []

    def start(*arguments: str, **environment: str) -> Hosted:
        hosted = Hosted(list(arguments), {"MODELS": str(models), "PORT": str(free_port()),
                                          "REST_PORT": str(free_port()), **common, **environment},
                        folder / f"log{len(running)}", folder)
        running.append(hosted)
        return hosted

    try:
        yield start
    finally:
        for hosted in running:
            hosted.end()
