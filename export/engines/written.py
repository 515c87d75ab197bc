"""What was written for an engine, as the manifest has it."""
from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from export.engines.checks import Check


@dataclass(frozen=True)
class Written:
    """`left`: the signatures that the engine does not have, each with the reason; `sha256` by file name.

    `bytes`: of all its files; `checks`: by signature, what TensorFlow checks and the engine does not.
    """

    engine: str
    precision: str
    signatures: tuple[str, ...]
    left: Mapping[str, str]
    sha256: Mapping[str, str]
    bytes: int
    checks: Mapping[str, Sequence[Check]]

    def to_json(self) -> dict[str, Any]:
        return {"engine": self.engine, "precision": self.precision, "signatures": list(self.signatures),
                "left": dict(self.left), "sha256": dict(self.sha256), "bytes": self.bytes,
                "checks_left_out": {key: [asdict(one) for one in found] for key, found in self.checks.items() if found}}


def sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def told(left: Mapping[str, str]) -> str:
    """Why no signature could be converted."""
    return "; ".join(f"signature '{key}': {reason}" for key, reason in left.items()) or "it has no signatures"
