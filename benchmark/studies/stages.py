"""The stages of a study, each in a file of its own: what is finished is not measured again after Ctrl-C or a crash."""
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import cpu_class
from benchmark.reports.environment import cpu_model
from cores import cpu_quota
from whole_file import write_json


def cpu() -> str:
    """The CPU that figures depend on: its class, name, family and model, and how much of it there is."""
    return f"{cpu_class.current()}, {cpu_model()}, {os.cpu_count()} CPUs, {cpu_quota():g} may be used"


@dataclass(frozen=True)
class Stages:
    """Files of finished stages in `folder`: FOLDER/KEY.json with what the stage depends on and what it found.

    A stage is taken from its file if it depends on the same: its definition, the digests of the models, the CPU.
    `again`: every stage is measured anew.
    """

    folder: Path
    again: bool = False

    def done(self, key: str, depends_on: Any) -> dict[str, Any] | None:
        """What a finished stage found; None if it is not finished, or depended on something else."""
        if self.again:
            return None
        try:
            stored = json.loads(self._file(key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        same = isinstance(stored, dict) and stored.get("depends_on") == _digest(depends_on)
        return stored["found"] if same and isinstance(stored.get("found"), dict) else None

    def run(self, key: str, depends_on: Any, measure: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        """What the stage found, from its file or by `measure(file for its raw result)`.

        Adds `took_s`, the seconds that it took when it was measured.
        """
        if (found := self.done(key, depends_on)) is not None:
            return found
        self.folder.mkdir(parents=True, exist_ok=True)
        began = monotonic()
        found = measure(self.folder / f"{key}.raw.json")
        found = {**found, "took_s": round(monotonic() - began, 1)}
        write_json(self._file(key), {"depends_on": _digest(depends_on), "found": found})
        return found

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
