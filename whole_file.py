"""Files that appear whole or not at all."""
import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from user_error import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT)


def refuse_unwritable(path: Path) -> None:
    """UserError unless `whole_file` can make a file there. A device is none: renaming would put a file in its place."""
    target = path.resolve()
    folder = target.parent if target.parent.exists() else target.parent.parent
    if (target.exists() and not target.is_file()) or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"cannot write {path}: name a file in a folder that you may write to")


def write_text(path: str | Path, text: str) -> None:
    """Writes a whole file or none: '-' is standard output, any other path appears by one rename."""
    if str(path) == "-":
        print(text)
        return
    write_bytes(path, text.encode())


def write_bytes(path: str | Path, content: bytes) -> None:
    with whole_file(path) as file:
        file.write(content)


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """A file that gets its name by one rename, once all of it is on disk. Raises UserError that names it.

    A folder that is missing is made, but no chain of them: that is a mistyped path.
    """
    refuse_unwritable(Path(path))
    target = Path(path).resolve()
    partial = None
    try:
        target.parent.mkdir(exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; a report is as readable as any other file of the user's.
        os.chmod(partial, 0o666 & ~umask())
        os.replace(partial, target)
    except BaseException as error:
        if partial:
            Path(partial).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UserError(f"{path} cannot be written: {remedied(error)}") from error
        raise


def remedied(error: OSError) -> str:
    """What the system says of a failure, and what to do about it where that is not what the user just tried."""
    reason = error.strerror or str(error)
    return f"{reason}; make room there, or write elsewhere" if error.errno in _FULL else reason


def write_json(path: str | Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2))


def umask() -> int:
    # There is no way to read the umask but to set it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
