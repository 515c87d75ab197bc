"""A version's files: copied into production so that all of them are there, or none, and known by their digests."""
import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from serving.promotion import durable

_CHUNK = 1 << 20


def digests(version: Path) -> dict[str, str]:
    """{path below the version: SHA-256 of its content}, in order. Raises OSError."""
    found = {}
    for folder, folders, names in os.walk(version, onerror=_stop, followlinks=True):
        folders.sort()
        for name in names:
            path = Path(folder, name)
            found[path.relative_to(version).as_posix()] = _digest(path)
    return dict(sorted(found.items()))


def whole(digests: Mapping[str, str]) -> str:
    """One digest of all files and their names."""
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def copy(source: Path, target: Path) -> str:
    """Copies a version into a folder that is replaced, flushes all of it, and reads it again. Returns its digest.

    Raises OSError, also if what was written differs from what was read.
    """
    durable.remove(target)
    target.mkdir(parents=True)
    written = {}
    for folder, folders, names in os.walk(source, onerror=_stop, followlinks=True):
        folders.sort()
        there = target / Path(folder).relative_to(source)
        there.mkdir(exist_ok=True)
        for name in names:
            shutil.copyfile(Path(folder, name), there / name)
            durable.flush(there / name)
            written[(there / name).relative_to(target).as_posix()] = _digest(Path(folder, name))
        durable.flush(there)
    for above in (target.parent, target.parent.parent):
        durable.flush(above)
    there_now = digests(target)
    if there_now != written:
        changed = sorted(name for name in {*written, *there_now} if written.get(name) != there_now.get(name))
        raise OSError(5, "it was copied otherwise than it was read", str(target / changed[0]))
    return whole(written)


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()


def _stop(error: OSError) -> None:
    raise error
