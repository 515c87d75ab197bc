"""A production root: its files, who may change them, and the operation that is under way.

    production/
        models.config           what the servers serve: the truth, which a reload only brings sooner
        MODEL/VERSION/          versions, only ever added under a new number
        MODEL/.VERSION.copy     a version that is being copied: servers skip the name
        MODEL/.VERSION.golden   the requests that it was proven with, and its answers
        MODEL/.VERSION.sig      its signature, and what was proven of it (.VERSION.intoto), if it was signed
        history.jsonl           what was done
        .journal                the operation that is under way, or was when its process ended
        .lock                   held by the process that changes the root
"""
from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import durable
from serving.promotion import config_file
from serving.promotion.config_file import ConfigFile
from serving.promotion.errors import LockedError, PromotionError
from serving.promotion.plan import Operation
from version_directory import signature_path, statement_path, versions
from whole_file import remedied


@dataclass(frozen=True)
class ProductionRoot:
    """The folder, which must be absolute: servers read the same paths from models.config."""

    path: Path

    @classmethod
    def at(cls, path: str | Path) -> ProductionRoot:
        """Raises PromotionError for a folder that is no production root."""
        root = cls(Path(path).resolve())
        if not root.config_path.is_file():
            there = "there is no such folder" if not root.path.exists() else "it has no models.config"
            raise PromotionError(f"{path} is no production root: {there}; `python -m serving promote MODEL VARIANT "
                                 f"--root {path}` makes one of a folder that is empty or not there")
        return root

    @classmethod
    def made(cls, path: str | Path) -> ProductionRoot:
        """The root, made if the folder is not there or empty. Raises PromotionError for any other folder."""
        root = cls(Path(path).resolve())
        if not root.config_path.exists() and (not root.path.exists() or not any(root.path.iterdir())):
            try:
                root.path.mkdir(exist_ok=True)
                durable.write(root.config_path, config_file.EMPTY.encode())
            except OSError as error:
                raise PromotionError(f"{path} cannot be made a production root: {remedied(error)}") from error
        return cls.at(path)

    @property
    def config_path(self) -> Path:
        return self.path / "models.config"

    @property
    def history_path(self) -> Path:
        return self.path / "history.jsonl"

    @property
    def journal_path(self) -> Path:
        return self.path / ".journal"

    def base_path(self, model: str) -> Path:
        return self.path / model

    def version_path(self, model: str, version: int) -> Path:
        return self.path / model / str(version)

    def copy_path(self, model: str, version: int) -> Path:
        return self.path / model / f".{version}.copy"

    def golden_path(self, model: str, version: int) -> Path:
        return self.path / model / f".{version}.golden"

    def beside(self, model: str, version: int) -> tuple[Path, ...]:
        """The files beside a version that go when it goes."""
        path = self.version_path(model, version)
        return self.golden_path(model, version), signature_path(path), statement_path(path)

    def versions(self, model: str) -> dict[int, Path]:
        """The versions of a model that have files, lowest first."""
        return versions(self.base_path(model))

    def config(self) -> ConfigFile:
        return ConfigFile.read(self.config_path)

    def journal(self) -> Operation | None:
        """The operation that was not finished. Raises PromotionError for a journal that cannot be read."""
        try:
            return Operation.from_json(json.loads(self.journal_path.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise PromotionError(f"{self.journal_path} cannot be read ({error}), so it is not known what was under "
                                 "way; see `python -m serving history`, set models.config right by hand, and remove "
                                 "the journal") from None

    def write_journal(self, operation: Operation | None) -> None:
        """Raises OSError."""
        if operation is None:
            durable.remove(self.journal_path)
        else:
            durable.write(self.journal_path, json.dumps(operation.to_json(), indent=1).encode())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the root for this process. Raises LockedError that says who holds it; ends with the process, too."""
        try:
            handle = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise PromotionError(f"{self.path} cannot be changed: {remedied(error)}") from error
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(handle, 1000, 0).decode(errors="replace") or "another process"
                raise LockedError(f"{self.path} is being changed by {holder}: wait until it has ended") from None
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()} ({' '.join(sys.argv[1:])})".encode(), 0)
            for written in (self.config_path, self.history_path, self.journal_path):
                durable.sweep(written)
            yield
            os.ftruncate(handle, 0)
        finally:
            os.close(handle)
