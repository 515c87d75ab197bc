"""Runs `locust` as a child process and reads its results."""
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from null_server import NullServer

LOADTEST = Path(__file__).resolve().parents[2] / "loadtest"


class Run(NamedTuple):
    status: int
    stdout: str
    stderr: str
    hdr: Any

    @property
    def errors(self) -> list[str]:
        return [line for line in self.stderr.splitlines() if line.startswith("error: ")]


def options_for(server: NullServer) -> tuple[str, ...]:
    return "-H", server.rest, "--grpc-address", server.grpc, "--model", "null"


def run_locust(*options: str, files: Path = LOADTEST, timeout_s: float = 150) -> Run:
    """Runs `locust -f FILES --headless OPTIONS` to its end, in an empty directory."""
    with tempfile.TemporaryDirectory() as directory:
        hdr = Path(directory) / "hdr.json"
        done = subprocess.run(
            [sys.executable, "-m", "locust", "-f", str(files), "--headless", "--only-summary", "--loglevel", "ERROR",
             "--hdr", str(hdr), *options],
            cwd=directory, capture_output=True, text=True, timeout=timeout_s, check=False,
            env={**os.environ, "PYTHONPATH": str(LOADTEST)})
        return Run(done.returncode, done.stdout, done.stderr, json.loads(hdr.read_text()) if hdr.exists() else None)
