"""Times versions against each other, interleaved and in process: `python -m benchmark compare session:... --json`."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dies_with_parent
from export.precision.choice import Ratio
from user_error import FailedError

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Timing:
    """What is timed: `folder` holds VARIANT/1 for each variant; `samples` the examples to send, made up if None."""

    folder: Path
    signature: str
    batches: tuple[int, ...]
    samples: Path | None
    max_s: float

    def compare(self, baseline: str, candidates: Sequence[str], to: Path) -> dict[str, Any]:
        """Measures, and writes the whole result of `compare` to `to`. Raises FailedError with what it says."""
        names = [f"session:{name}" for name in (baseline, *candidates)]
        arguments = [sys.executable, "-m", "benchmark", "compare", *names, "--models", str(self.folder.parent),
                     "--model", self.folder.name, "--signature", self.signature,
                     "--batch", ",".join(map(str, self.batches)), "--warmup", "3", "--max-time", f"{self.max_s:g}",
                     *(("--samples", str(self.samples)) if self.samples else ()), "--json", str(to)]
        with tempfile.TemporaryFile() as said:
            # Not in this process group: Ctrl-C reaches only this process, which then ends the other.
            child = subprocess.Popen(dies_with_parent.argv(arguments), cwd=ROOT, stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=said, start_new_session=True)
            try:
                status = child.wait()
            finally:
                _end(child)
            said.seek(0)
            last = said.read().decode("utf-8", "replace").strip().splitlines()[-1:]
        # Another status than 0 with a result: answers differed while it was measured.
        if status:
            raise FailedError(f"benchmark compare: {''.join(last).removeprefix('error: ') or f'exit status {status}'}")
        return dict(json.loads(to.read_text()))


def ratios(result: Mapping[str, Any], candidate: str) -> dict[int, Ratio]:
    """A candidate's ratios by batch size, of the metric by which `compare` decides."""
    found = {}
    for each in result["comparisons"]:
        if each["metric"] == "typical" and each["candidate"] == f"session:{candidate}":
            low, high = each["ci95"]
            found[int(each["batch"])] = Ratio(
                each["ratio"], 0.0 if low is None else low, float("inf") if high is None else high, each["floor"],
                each["verdict"], "; ".join(each["reasons"]))
    return found


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ends the command and, since it is the leader of its session, what it started."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
