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

from serving.promotion import durable

# Before the first line.
BEGINNING = "0" * 64


@dataclass(frozen=True)
class History:
    """The records of a file, oldest first, each as it was written, and the digest of its last line."""

    records: tuple[Mapping[str, Any], ...]
    head: str = BEGINNING


class BrokenHistoryError(Exception):
    """The chain does not hold: the number of the line, from 1, and what is wrong."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line


def read(path: Path) -> History:
    """Raises BrokenHistoryError at the first line that does not follow from the one before it.

    A last line that was not written to its end is no record: its operation is still in the journal.
    """
    content = path.read_bytes() if path.exists() else b""
    records, head = [], BEGINNING
    for number, line in enumerate(_lines(content), 1):
        try:
            record = json.loads(line)
        except ValueError:
            raise BrokenHistoryError(number, "it is no JSON") from None
        if not isinstance(record, dict) or record.get("previous") != head:
            raise BrokenHistoryError(number, "it does not follow from the line before: that one was altered or removed"
                                     if number > 1 else "the lines before it were removed")
        records.append(record)
        head = _digest(line)
    return History(tuple(records), head)


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Adds a record with an `id`, unless the last one has that id. Raises BrokenHistoryError and OSError."""
    history = read(path)
    if history.records and history.records[-1].get("id") == record["id"]:
        return
    content = path.read_bytes() if path.exists() else b""
    whole = b"".join(line + b"\n" for line in _lines(content))
    line = json.dumps({**record, "previous": history.head}, sort_keys=True).encode()
    durable.write(path, whole + line + b"\n")


def _lines(content: bytes) -> list[bytes]:
    """The lines that were written to their end."""
    return content.split(b"\n")[:-1]


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
