"""production/history.jsonl: what was done, a line for each operation, which cannot be changed unnoticed.

Each record has the digest of the line before it, so that a record that is altered, removed or put between others breaks
the chain. What is cut off at the end shows in nothing that is in the file; the digest of its last line, kept elsewhere,
tells that: `audit` prints it.
"""
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import durable

# Before the first line.
BEGINNING = "0" * 64
# Of a broken history, a record without one of these cannot be gone by.
_EVERY = {"id": str, "what": str, "outcome": str, "model": str, "version": int, "digest": str, "before": dict,
          "after": dict, "dropped": list, "why": str, "when": str}


@dataclass(frozen=True)
class History:
    """The records of a file, oldest first, the digest of its last line, the lines as written, and where the chain does
    not hold."""

    records: tuple[Mapping[str, Any], ...]
    head: str = BEGINNING
    lines: tuple[bytes, ...] = ()
    broken: "BrokenHistoryError | None" = None


class BrokenHistoryError(Exception):
    """The chain does not hold: the number of the line, from 1, and what is wrong."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line


def read(path: Path) -> History:
    """Raises BrokenHistoryError at the first line that does not follow from the one before it."""
    found = readable(path)
    if found.broken is not None:
        raise found.broken
    return found


def readable(path: Path) -> History:
    """What can be read of a history, whether or not its chain holds: going back must not wait for its repair.

    A last line that was not written to its end is no record: its operation is still in the journal.
    """
    records, head, broken = [], BEGINNING, None
    lines = _lines(path)
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if record is None:
            broken = broken or BrokenHistoryError(number, "it is no JSON")
        elif not isinstance(record, dict) or record.get("previous") != head:
            broken = broken or BrokenHistoryError(
                number, "it does not follow from the line before: that one was altered or removed" if number > 1
                else "the lines before it were removed")
        if isinstance(record, dict):
            records.append(record)
        head = _digest(line)
    usable = records if broken is None else [one for one in records if all(
        isinstance(one.get(name), kind) for name, kind in _EVERY.items())]
    return History(tuple(usable), head, tuple(lines), broken)


def append(path: Path, record: Mapping[str, Any], sign: Callable[[bytes], str] | None = None) -> None:
    """Adds a record with an `id`, unless the last one has that id; with its signature by `sign`. Raises OSError.

    A chain that is broken goes on from its last line: `audit` says where it broke, as before.
    """
    history = readable(path)
    if history.records and history.records[-1].get("id") == record["id"]:
        return
    whole = {**record, "previous": history.head}
    if sign is not None:
        whole["signature"] = sign(signed_content(whole))
    line = json.dumps(whole, sort_keys=True).encode()
    durable.write(path, b"".join(one + b"\n" for one in (*history.lines, line)))


def signed_content(record: Mapping[str, Any]) -> bytes:
    """What the signature of a record is of: all the rest of it, so also its place in the chain."""
    return json.dumps({name: value for name, value in record.items() if name != "signature"}, sort_keys=True).encode()


def _lines(path: Path) -> list[bytes]:
    """The lines that were written to their end."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
