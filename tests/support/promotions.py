"""Production roots that a real server hosts, and clients of them."""
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from running_server import free_port
from waiting import until

from serving.client.grpc import GrpcClient, answered_version
from serving.client.protocol import AnswerError, UnreachableError
from serving.promotion.plan import STABLE
from serving.promotion.root import ProductionRoot
from serving.promotion.servers import Server

MODEL = "half"
X = {"x": np.array([1.0, 4.0], np.float32)}


class Hosting:
    """A server of a root, on the same ports each time that it is started; it polls models.config every second."""

    def __init__(self, root: ProductionRoot, **flags: Any) -> None:
        rest, port = free_port(), free_port()
        self.server = Server(f"http://127.0.0.1:{rest}", f"127.0.0.1:{port}")
        self._command = [
            sys.executable, "-m", "serving", "serve", f"--model_config_file={root.config_path}",
            "--model_config_file_poll_wait_seconds=1", "--allow_version_labels_for_unavailable_models=true",
            f"--port={port}", f"--rest_api_port={rest}", *(f"--{name}={value}" for name, value in flags.items())]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)
        until(self._answers)

    def _answers(self) -> bool:
        assert self.process.poll() is None, f"ended with {self.process.returncode}: {' '.join(self._command)}"
        try:
            self.server.states("nothing")
        except UnreachableError:
            return False
        return True

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


@contextmanager
def hosted(root: ProductionRoot, **flags: Any) -> Iterator[Server]:
    """A server of the root."""
    hosting = Hosting(root, **flags)
    try:
        yield hosting.server
    finally:
        hosting.stop()


@dataclass
class Traffic:
    """50 requests a second through the label stable, and what was answered."""

    server: Server
    seen: Counter[str] = field(default_factory=Counter)
    last: str = ""

    def __enter__(self) -> "Traffic":
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()
        until(lambda: self.seen)
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _send(self) -> None:
        assert self.server.grpc is not None
        with GrpcClient(self.server.grpc, MODEL, label=STABLE) as client:
            request = client.prepare(X)
            while not self._done.wait(0.02):
                try:
                    raw = client.send(request)
                    y = client.decode(raw)["y"].tolist()
                    self.last = f"version {answered_version(raw)}: {y}"
                except (AnswerError, UnreachableError) as error:
                    self.last = str(error)
                self.seen[self.last] += 1
