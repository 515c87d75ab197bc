"""The hidden folder in which candidates are made and measured; what an interrupted run has finished stays in it.

    .NAME.candidates-1/        beside the base path NAME; TensorFlow Serving and `publish` skip it
        versions/VARIANT/1/    a candidate, in the layout that `benchmark compare` reads; `original` is a link
        VARIANT.json           what is known of it, written once it is known
"""
from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from typing import Any

from export import publish
from whole_file import write_json


class Workspace:
    """One run's folder, which no other run uses at the same time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.versions = path / "versions"
        self.versions.mkdir(exist_ok=True)

    def version(self, name: str) -> Path:
        return self.versions / name / "1"

    def link_original(self, source: Path) -> None:
        base = self.versions / "original"
        shutil.rmtree(base, ignore_errors=True)
        base.mkdir()
        (base / "1").symlink_to(source.absolute(), target_is_directory=True)

    def known(self, name: str, recipe: Mapping[str, Any]) -> dict[str, Any] | None:
        """The facts that `remember` kept, if they were found by this recipe."""
        try:
            found = json.loads((self.path / f"{name}.json").read_text())
        except (OSError, ValueError):
            return None
        return dict(found["facts"]) if found.get("recipe") == json.loads(json.dumps(recipe)) else None

    def remember(self, name: str, recipe: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        write_json(self.path / f"{name}.json", {"recipe": recipe, "facts": facts})

    @contextmanager
    def new(self, name: str) -> Iterator[Path]:
        """A directory to fill, which becomes `version(name)` at the end in place of what was there."""
        (self.path / f"{name}.json").unlink(missing_ok=True)
        shutil.rmtree(self.versions / name, ignore_errors=True)
        with publish.new_version(self.versions / name, 1) as made:
            yield made.path


@contextmanager
def workspace(base: Path) -> Iterator[Workspace]:  # decision 182
    """The first folder that no running run has; removed at the end, unless the run is interrupted (or killed).

    A run that is refused, or cannot be done, is at its end.
    """
    home = publish.staging_home(base)
    missing = [folder for folder in (home, *home.parents) if not folder.exists()]
    home.mkdir(parents=True, exist_ok=True)
    path, lock = _claim(home, f".{base.name}.candidates-")
    try:
        yield Workspace(path)
    except Exception:
        _remove(path, missing)
        raise
    except BaseException:  # Ctrl-C, SIGTERM
        print(f"what is finished stays in {path}: the same command goes on from there", file=sys.stderr)
        raise
    else:
        _remove(path, missing)
    finally:
        os.close(lock)


def _remove(path: Path, missing: Sequence[Path]) -> None:
    """Removes the folder, and of the folders that were made for it those that are empty."""
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        for folder in missing:
            folder.rmdir()


def _claim(home: Path, prefix: str) -> tuple[Path, int]:
    """The folder with the lowest number that is not locked, and its lock."""
    there = sorted(int(path.name.removeprefix(prefix)) for path in home.iterdir()
                   if path.name.startswith(prefix) and path.name.removeprefix(prefix).isdecimal())
    # Those that are there first: one of them may be what an interrupted run has left.
    for number in chain(there, (number for number in count(1) if number not in there)):
        path = home / f"{prefix}{number}"
        path.mkdir(exist_ok=True)
        try:
            lock = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue  # its owner has just removed it
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.stat().st_ino == os.fstat(lock).st_ino:
                return path, lock
        except (BlockingIOError, FileNotFoundError):
            pass  # its owner is alive, or has just removed it
        os.close(lock)
    raise AssertionError("count() does not end")
