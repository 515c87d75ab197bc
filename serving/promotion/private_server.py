"""A server of its own for versions that production has not seen: the embedded one, on a Unix socket."""
from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dies_with_parent
from serving.client.grpc import GrpcClient
from serving.client.protocol import AnswerError, UnreachableError
from serving.promotion.errors import GateFailedError
from serving.promotion.servers import polled

START_S = 300.0
_LINES = 3


@dataclass
class PrivateServer:
    """A process that serves each of some versions as a model of its own."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path

    def client(self, name: str) -> GrpcClient:
        return GrpcClient(self.address, name)

    def refuse_dead(self, doing: str) -> None:
        """Raises GateFailedError if the process has ended."""
        if self.process.poll() is not None:
            raise GateFailedError(f"the server ended {doing}, with status {self.process.returncode}: "
                                  f"{self.last_words()}")

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
        log = folder / "log"
        with log.open("wb") as written:
            process = subprocess.Popen(dies_with_parent.argv([
                sys.executable, "-m", "serving", "serve", f"--model_config_file={folder / 'models.config'}",
                "--port=0", f"--grpc_socket_path={folder / 'socket'}", "--max_num_load_retries=0", *flags]),
                stdout=written, stderr=written, stdin=subprocess.DEVNULL, start_new_session=True)
        server = PrivateServer(f"unix:{folder / 'socket'}", process, log)
        try:
            for model in versions:
                _await(server, model)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await(server: PrivateServer, model: str) -> None:
    def look() -> str:
        server.refuse_dead("while it loaded the version")
        with server.client(model) as client:
            try:
                found = client.status()
            except (AnswerError, UnreachableError) as error:
                return str(error)
        if failed := next((one for one in found if one.code != "OK"), None):
            raise GateFailedError(f"it does not load: {failed.message}")
        return "" if any(one.state == "AVAILABLE" for one in found) else "it is being loaded"
    if last := polled(look, START_S):
        raise GateFailedError(f"it is not loaded after {START_S:g} s: {last}")
