"""A version's files: copied into production so that all of them are there, or none, and known by their digests."""
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import durable


def digests(version: Path) -> dict[str, str]:
    """{path below the version: SHA-256 of its content}, in order. Raises OSError."""
    found = {}
    for folder, _, names in os.walk(version, onerror=_stop, followlinks=True):
        for path in (Path(folder, name) for name in names):
            found[path.relative_to(version).as_posix()] = digest(path)
    return dict(sorted(found.items()))


def digest(path: Path) -> str:
    """SHA-256 of a file's content. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    durable.copy_tree(source, target)
    durable.flush_tree(target)
    for above in (target.parent, target.parent.parent):
        durable.flush(above)
    read, written = digests(source), digests(target)
    if read != written:
        changed = sorted(name for name in {*read, *written} if read.get(name) != written.get(name))
        raise OSError(5, "it was copied otherwise than it was read", str(target / changed[0]))
    return whole(written)


def _stop(error: OSError) -> None:
    raise error
