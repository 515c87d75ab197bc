"""Requests and their answers, written to files as they come, for the models whose configuration asks for it.

    config {
      name: "mnist" ...
      logging_config {
        log_collector_config { filename_prefix: "/var/log/requests/mnist" }
        sampling_config { sampling_rate: 0.01 }
      }
    }

The fields are TensorFlow Serving's own, whose public server has no writer behind them and refuses a configuration that
has them. The files, PREFIX-000001.tfrecord and so on, are TFRecords of tensorflow.serving.PredictionLog: what warm-up
reads, and every command that takes recorded traffic. A request never waits for the disk: what cannot be written as fast
as it comes is dropped, and counted.
"""
from __future__ import annotations

import errno
import logging
import os
import queue
import random
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from io import FileIO
from itertools import count
from pathlib import Path

from serving import tfrecord
from serving.config import Model
from serving.recording import Predicted
from serving.servable import Array

log = logging.getLogger("serving")

# Requests that wait for the writer.
_WAITING = 256
WRITTEN, DROPPED = "written", "dropped"
_NUMBER = re.compile(r"-(\d{6,})\.tfrecord(?:\.part)?$")


@dataclass
class _File:
    """The file that is being written: under another name until it is whole."""

    prefix: str
    path: Path
    handle: FileIO
    bytes: int = 0


class RequestLogs:  # decision 241
    """The logs of all models. `most_bytes` of a file, after which the next is begun; `most_files` of a model are kept.

    `counted(model, outcome)` is told of each request that chance chose: "written" or "dropped".
    """

    def __init__(self, most_bytes: int, most_files: int, counted: Callable[[str, str], None]) -> None:
        self._most_bytes, self._most_files, self._counted = most_bytes, most_files, counted
        self._wanted: Mapping[str, tuple[str, float]] = {}
        self._waiting: queue.Queue[tuple[str, Predicted] | None] = queue.Queue(_WAITING)
        self._files: dict[str, _File] = {}
        self._thread: threading.Thread | None = None
        self._failed = set[str]()

    def configure(self, models: Iterable[Model]) -> None:
        """Which models are logged from now on, where, and which share of their requests."""
        self._wanted = {model.name: (model.log_prefix, model.sampling_rate) for model in models
                        if model.log_prefix and model.sampling_rate > 0}
        if self._wanted and self._thread is None:
            self._thread = threading.Thread(target=self._write, name="request-log", daemon=True)
            self._thread.start()

    def answered(self, model: str, version: int, signature: str, inputs: Mapping[str, Array],
                 outputs: Mapping[str, Array]) -> None:
        """Notes a request that was answered, if chance will have it."""
        wanted = self._wanted.get(model)
        if wanted is None or random.random() >= wanted[1]:
            return
        try:
            self._waiting.put_nowait((wanted[0], Predicted(model, inputs, signature, outputs, version)))
        except queue.Full:
            self._counted(model, DROPPED)

    def close(self) -> None:
        """Writes what waits, and ends the files."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None

    def _write(self) -> None:
        while (one := self._waiting.get()) is not None:
            prefix, predicted = one
            try:
                self._append(prefix, predicted.to_log().SerializeToString())
                self._counted(predicted.model, WRITTEN)
                self._failed.discard(prefix)
            except (OSError, ValueError) as error:
                self._counted(predicted.model, DROPPED)
                if prefix not in self._failed:  # once, and not for each request of a full disk
                    self._failed.add(prefix)
                    log.error("requests cannot be logged to %s: %s; they are dropped until they can", prefix, error)
                self._end(prefix)
        for prefix in list(self._files):
            self._end(prefix)

    def _append(self, prefix: str, record: bytes) -> None:
        file = self._files.get(prefix)
        if file is None:
            file = self._files[prefix] = self._begin(prefix)
        framed = tfrecord.framed(record)
        try:
            if file.handle.write(framed) != len(framed):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file.path))
        except OSError:
            file.handle.truncate(file.bytes)  # half a record would be the end of what can be read
            raise
        file.bytes += len(framed)
        if file.bytes >= self._most_bytes:
            self._end(prefix)

    def _begin(self, prefix: str) -> _File:
        folder = Path(prefix).parent
        folder.mkdir(parents=True, exist_ok=True)
        there = _numbered(prefix)
        for _, path in there[:max(0, len(there) + 1 - self._most_files)]:
            path.unlink(missing_ok=True)
        # A number above all that are there: another server may be writing one, or was killed while it did.
        for number in count(there[-1][0] + 1 if there else 1):
            path = Path(f"{prefix}-{number:06}.tfrecord")
            try:
                return _File(prefix, path, path.with_suffix(".tfrecord.part").open("xb", buffering=0))
            except FileExistsError:
                continue
        raise AssertionError

    def _end(self, prefix: str) -> None:
        """The file is whole: it gets its name. An empty one goes."""
        file = self._files.pop(prefix, None)
        if file is None:
            return
        part = Path(file.handle.name)
        try:
            file.handle.close()
            part.rename(file.path) if file.bytes else part.unlink()
        except OSError as error:
            log.error("the request log %s cannot be ended: %s", part, error)


def _numbered(prefix: str) -> list[tuple[int, Path]]:
    """The files of a prefix, whole or not, oldest first, each with its number."""
    name = os.path.basename(prefix)
    found = [(int(match[1]), path) for path in Path(prefix).parent.glob(f"{_escaped(name)}-*.tfrecord*")
             if (match := _NUMBER.search(path.name)) and path.name[:match.start()] == name]
    return sorted(found)


def _escaped(name: str) -> str:
    return re.sub(r"([\[\]*?])", r"[\1]", name)
