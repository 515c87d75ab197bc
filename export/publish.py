"""Publishes version directories atomically: by one rename.

TensorFlow Serving polls base paths, so a version is written to a hidden directory beside the base path, flushed and
renamed. A run that is killed leaves at most that hidden directory, which the next run removes.
"""
import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import durable
from user_error import UserError
from version_directory import model_file, newest, versions
from whole_file import remedied


def find(path: str | Path) -> Path:
    """The directory of a SavedModel: `path` itself, or the newest version in it. Raises UserError if there is none."""
    if not str(path):
        raise UserError("the path of a model is empty")
    base = Path(path).expanduser()
    if not base.exists():
        raise UserError(f"{path}: no such file or directory")
    found = base if model_file(base) else newest(base)
    if found:
        return found
    raise UserError(f"{path} is no SavedModel: it holds neither saved_model.pb nor a version directory that does")


@dataclass
class NewVersion:
    """A version that is being written into the directory `path`. Once it is published, `published` is its directory."""

    path: Path
    published: Path


@contextmanager
def new_version(base: Path, version: int | None = None) -> Iterator[NewVersion]:
    """A context with an empty directory to fill; when it ends without an error, that becomes a version of `base`.

    Without `version` it gets the next free number; simultaneous runs get different ones.
    Raises UserError if the version exists: a published version is never overwritten.
    """
    if base.exists() and not base.is_dir():
        raise UserError(f"{base} is a file; --to takes the directory that holds a model's versions")
    number = _free_version(base, version)
    home = staging_home(base)
    missing = [folder for folder in (home, *home.parents) if not folder.exists()]
    prefix = f".{base.name}.part-"
    with _named_errors(base, prefix):
        home.mkdir(parents=True, exist_ok=True)
        staging, lock = _claim(home, prefix)
    try:
        with _named_errors(base, prefix):
            os.chmod(staging, 0o777 & ~durable.umask())
            filled = staging / str(number)
            filled.mkdir()
            made = NewVersion(filled, base / str(number))
            yield made
            durable.flush_tree(staging)
            made.published = _rename(filled, base, number, chosen=version is not None)
    finally:
        os.close(lock)
        shutil.rmtree(staging, ignore_errors=True)
        with suppress(OSError):
            for folder in missing:
                folder.rmdir()  # removes only empty directories


@contextmanager
def _named_errors(base: Path, hidden: str) -> Iterator[None]:
    """Turns OSErrors into UserErrors. They name `base` if the OSError names no file, or one in the hidden directory."""
    try:
        yield
    except OSError as error:
        where = os.fsdecode(error.filename or "")
        raise UserError(f"{base if not where or hidden in where else where}: {remedied(error)}; "
                        "nothing was published") from error


def _free_version(base: Path, wanted: int | None) -> int:
    if wanted is None:
        return max(versions(base), default=0) + 1
    if wanted < 1:
        raise UserError(f"--version {wanted}: a version is a positive integer")
    if wanted in versions(base) or (base / str(wanted)).exists():
        raise UserError(f"{base / str(wanted)} exists and is never overwritten; choose another --version, "
                        "or leave it out for the next free one")
    return wanted


def staging_home(base: Path) -> Path:  # decision 20
    """The directory for hidden ones: beside the base path, so that a killed run does not change that; inside it if the
    rename needs that."""
    parent = base.absolute().parent
    if base.exists() and (base.stat().st_dev != parent.stat().st_dev or not os.access(parent, os.W_OK)):
        return base
    return parent


def _claim(home: Path, prefix: str) -> tuple[Path, int]:
    """A new directory and its lock, which is held until this run ends: it shows other runs that this one is alive."""
    turn = os.open(home, os.O_RDONLY)
    try:
        # One run at a time, so that no other run removes the directory as abandoned before it is locked.
        fcntl.flock(turn, fcntl.LOCK_EX)
        _remove_abandoned(home, prefix)
        staging = Path(tempfile.mkdtemp(dir=home, prefix=prefix))
        lock = os.open(staging, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        return staging, lock
    finally:
        os.close(turn)


def _remove_abandoned(home: Path, prefix: str) -> None:
    for leftover in home.glob(f"{glob.escape(prefix)}*"):
        try:
            handle = os.open(leftover, os.O_RDONLY)
        except FileNotFoundError:
            continue  # its owner has just finished
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(leftover, ignore_errors=True)
        except BlockingIOError:
            pass  # its owner is alive
        finally:
            os.close(handle)


def _rename(filled: Path, base: Path, number: int, chosen: bool) -> Path:
    if not base.exists():
        # One rename makes both base path and version: the base path is never empty.
        try:
            os.rename(filled.parent, base)
            durable.flush(base.parent)
            return base / filled.name
        except OSError:
            if not base.is_dir():
                raise
    while True:
        target = base / str(number)
        if not target.exists():
            try:
                os.rename(filled, target)
                break
            except OSError:
                if not target.exists():
                    raise
        if chosen:
            raise UserError(f"{target} was published by another run meanwhile; choose another --version")
        number += 1
    durable.flush(base)
    return target
