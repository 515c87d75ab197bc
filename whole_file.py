"""Writes files so that each appears complete or not at all."""
import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import durable
from user_error import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT)


def refuse_unwritable(path: Path) -> None:
    """Raises UserError unless `whole_file` can write `path`. A device is refused: the rename would replace it."""
    target = path.resolve()
    folder = target.parent if target.parent.exists() else target.parent.parent
    if (target.exists() and not target.is_file()) or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"cannot write {path}: name a file in a folder that you may write to")


def write_text(path: str | Path, text: str) -> None:
    """Writes `text` to standard output if `path` is '-', else to a file as `whole_file` does."""
    if str(path) == "-":
        print(text)
        return
    write_bytes(path, text.encode())


def write_bytes(path: str | Path, content: bytes) -> None:
    with whole_file(path) as file:
        file.write(content)


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """Opens a temporary file and renames it to `path` once all of it is on disk. Raises UserError that names `path`.

    A missing folder is created, but not its parents: several missing folders are more likely a mistyped path.
    """
    refuse_unwritable(Path(path))
    target = Path(path).resolve()
    try:
        target.parent.mkdir(exist_ok=True)
        with durable.replaced(target) as file:
            yield file
    except OSError as error:
        raise UserError(f"{path} cannot be written: {remedied(error)}") from error


def remedied(error: OSError) -> str:
    """The system's error message; for a full disk also what to do about it."""
    reason = error.strerror or str(error)
    return f"{reason}; make room there, or write elsewhere" if error.errno in _FULL else reason


def write_json(path: str | Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2))
