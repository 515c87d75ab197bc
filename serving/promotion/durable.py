"""Files and renames that are still there after a crash: flushed to the disk, and their folders too."""
import os
import shutil
import tempfile
from pathlib import Path

from whole_file import umask


def write(path: Path, content: bytes) -> None:
    """Replaces a file, whole or not at all. Raises OSError."""
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(partial, path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~umask())
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    flush(path.parent)


def remove(path: Path) -> None:
    """Removes a file or a whole folder, if it is there. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.exists() or path.is_symlink():
        path.unlink()
    else:
        return
    flush(path.parent)


def rename(source: Path, target: Path) -> None:
    """Raises OSError, also if the target is there."""
    if target.exists():
        raise FileExistsError(17, "File exists", str(target))
    source.rename(target)
    flush(target.parent)


def flush(path: Path) -> None:
    """Puts a file or a folder's list of names on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
