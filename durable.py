"""Files, folders and renames that are still there after a crash: flushed to the disk, names in their folders too."""
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

# Characters that mkstemp adds to a prefix.
_RANDOM = 8


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """Opens a temporary file that takes the place of `path` once all of it is on the disk. Raises OSError."""
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only the user can read; a new file gets the usual permissions.
        os.chmod(partial, path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~umask())
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    flush(path.parent)


def write(path: Path, content: bytes) -> None:
    """Replaces a file, whole or not at all. Raises OSError."""
    with replaced(path) as file:
        file.write(content)


def sweep(path: Path) -> None:
    """Removes what a process left that was killed while it wrote the file. Nobody may be writing it. Raises OSError."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.{'?' * _RANDOM}"):
        left.unlink()


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


def copy_tree(source: Path, target: Path) -> None:
    """Copies all files below `source` to `target`. Raises the first OSError.

    shutil.copytree goes on after an error, and raises one that lists all as text, without the reason's number.
    """
    for folder, _, files in os.walk(source, onerror=_stop, followlinks=True):
        there = target / Path(folder).relative_to(source)
        there.mkdir(exist_ok=True)
        for name in files:
            try:
                shutil.copyfile(Path(folder, name), there / name)
            except OSError as error:  # with both names if the copy cannot be written
                raise OSError(error.errno, error.strerror, str(error.filename2 or error.filename)) from error


def flush_tree(root: Path) -> None:
    """Puts all files below a folder, and all lists of names, on the disk."""
    for folder, _, files in os.walk(root, topdown=False):
        for name in files:
            flush(Path(folder, name))
        flush(Path(folder))


def flush(path: Path) -> None:
    """Puts a file or a folder's list of names on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def umask() -> int:
    # The umask can only be read by setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _stop(error: OSError) -> None:
    raise error
