"""A server of its own for versions that production has not seen: the embedded one, on free loopback ports."""
from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

import dies_with_parent
from serving.client.grpc import GrpcClient
from serving.client.protocol import AnswerError, UnreachableError
from serving.promotion.errors import GateFailedError

START_S = 300.0
_LINES = 3


@dataclass
class PrivateServer:
    """A process that serves each of some versions as a model of its own. `load_s`: from its start until all answer."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path
    load_s: float = 0.0

    def client(self, name: str) -> GrpcClient:
        return GrpcClient(self.address, name)

    def refuse_dead(self, doing: str) -> None:
        """Raises GateFailedError if the process has ended."""
        if self.process.poll() is not None:
            raise GateFailedError(f"the server ended {doing}, with status {self.process.returncode}: "
                                  f"{self.last_words()}")

    def resident_bytes(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def last_words(self) -> str:
        return " ".join(self.log.read_text(errors="replace").strip().splitlines()[-_LINES:]) or "it said nothing"


@contextmanager
def private_server(versions: Mapping[str, Path], flags: Sequence[str] = ()) -> Iterator[PrivateServer]:
    """Serves {name: version directory} until the end of the context. Raises GateFailedError if one does not load."""
    with tempfile.TemporaryDirectory(prefix="promotion-") as name:
        folder = Path(name)
        entries = []
        for model, version in versions.items():
            (folder / model).mkdir()
            (folder / model / "1").symlink_to(version.resolve())
            entries.append(f'config {{ name: "{model}" base_path: "{folder / model}" model_platform: "tensorflow" }}')
        (folder / "models.config").write_text(f"model_config_list {{ {' '.join(entries)} }}")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        began, log = time.monotonic(), folder / "log"
        with log.open("wb") as written:
            process = subprocess.Popen(dies_with_parent.argv([
                sys.executable, "-m", "serving", "serve", f"--model_config_file={folder / 'models.config'}",
                f"--port={port}", "--max_num_load_retries=0", *flags]), stdout=written, stderr=written,
                stdin=subprocess.DEVNULL, start_new_session=True)
        server = PrivateServer(f"127.0.0.1:{port}", process, log)
        try:
            for model in versions:
                _await(server, model, began + START_S)
            server.load_s = time.monotonic() - began
            yield server
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await(server: PrivateServer, model: str, deadline: float) -> None:
    while True:
        server.refuse_dead("while it loaded the version")
        with server.client(model) as client:
            try:
                found = client.status()
            except (AnswerError, UnreachableError):
                found = ()
        if any(one.state == "AVAILABLE" for one in found):
            return
        if failed := next((one for one in found if one.code != "OK"), None):
            raise GateFailedError(f"it does not load: {failed.message}")
        if time.monotonic() > deadline:
            raise GateFailedError(f"it is not loaded after {START_S:g} s")
        time.sleep(0.05)
