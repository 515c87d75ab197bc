"""What was written for an engine, as the manifest has it."""
from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Written:
    """`left`: the signatures that the engine does not have, each with the reason; `sha256` by file name.

    `bytes`: of all its files.
    """

    engine: str
    precision: str
    signatures: tuple[str, ...]
    left: Mapping[str, str]
    sha256: Mapping[str, str]
    bytes: int

    def to_json(self) -> dict[str, Any]:
        return {"engine": self.engine, "precision": self.precision, "signatures": list(self.signatures),
                "left": dict(self.left), "sha256": dict(self.sha256), "bytes": self.bytes}


def sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def told(left: Mapping[str, str]) -> str:
    """Why no signature could be converted."""
    return "; ".join(f"signature '{key}': {reason}" for key, reason in left.items()) or "it has no signatures"
