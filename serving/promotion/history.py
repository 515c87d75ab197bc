"""production/history.jsonl: what was done, a line for each operation, which cannot be changed unnoticed.

Each record has the digest of the line before it, so that a record that is altered, removed or put between others breaks
the chain. What is cut off at the end shows in nothing that is in the file; the digest of its last line, kept elsewhere,
tells that: `audit` prints it.
"""
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import durable

# Before the first line.
BEGINNING = "0" * 64


@dataclass(frozen=True)
class History:
    """The records of a file, oldest first, the digest of its last line, and the lines as written."""

    records: tuple[Mapping[str, Any], ...]
    head: str = BEGINNING
    lines: tuple[bytes, ...] = ()


class BrokenHistoryError(Exception):
    """The chain does not hold: the number of the line, from 1, and what is wrong."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line


def read(path: Path) -> History:
    """Raises BrokenHistoryError at the first line that does not follow from the one before it.

    A last line that was not written to its end is no record: its operation is still in the journal.
    """
    records, head = [], BEGINNING
    lines = _lines(path)
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError:
            raise BrokenHistoryError(number, "it is no JSON") from None
        if not isinstance(record, dict) or record.get("previous") != head:
            raise BrokenHistoryError(number, "it does not follow from the line before: that one was altered or removed"
                                     if number > 1 else "the lines before it were removed")
        records.append(record)
        head = _digest(line)
    return History(tuple(records), head, tuple(lines))


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Adds a record with an `id`, unless the last one has that id. Raises BrokenHistoryError and OSError."""
    history = read(path)
    if history.records and history.records[-1].get("id") == record["id"]:
        return
    line = json.dumps({**record, "previous": history.head}, sort_keys=True).encode()
    durable.write(path, b"".join(one + b"\n" for one in (*history.lines, line)))


def _lines(path: Path) -> list[bytes]:
    """The lines that were written to their end."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
