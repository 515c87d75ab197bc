"""What a run of `optimize` returns or raises."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.equivalence import Report
from user_error import FailedError


@dataclass(frozen=True)
class Made:
    """A version just made: the pipeline's steps as text, the comparison, and (before, after) in bytes and nodes.

    `lines`: what else there is to say about it, such as the layers that stay in float32, and the candidates.
    """

    steps: tuple[str, ...]
    equality: Report
    bytes: tuple[int, int]
    nodes: tuple[int, int]
    stages: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Optimized:
    """A published version. `manifest` describes how it was made; `made` is None if an existing version was reused."""

    path: Path
    manifest: Mapping[str, Any]
    made: Made | None

    def to_json(self) -> dict[str, Any]:
        """The content of --json."""
        return {"path": str(self.path), **self.manifest}

    def __str__(self) -> str:
        if self.made is None:
            return f"{self.path} is up to date"
        (before, after), (nodes_before, nodes_after) = self.made.bytes, self.made.nodes
        return (f"{self.path}: {before / 1e6:.2f} MB -> {after / 1e6:.2f} MB, {nodes_before} -> {nodes_after} nodes "
                f"({self.made.stages})")


class RefusedError(FailedError):
    """Nothing was published: what was made is not good enough. `report` is the content of --json."""

    def __init__(self, reason: str, report: dict[str, Any]) -> None:
        super().__init__(f"nothing published, {reason}")
        self.report = report


class NotEqualError(RefusedError):
    """Nothing was published: the result's answers differ from the source's by more than is allowed."""

    def __init__(self, steps: Sequence[str], equality: Report, report: dict[str, Any], why: str = "") -> None:
        super().__init__(why or f"the result is not equal: {equality.why_not()}", report)
        self.steps = tuple(steps)
        self.equality = equality
