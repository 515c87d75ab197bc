"""Makes a version ready to answer: loads it, wraps it for batching, warms it up, and counts how long that took."""
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from serving.batching import Batching
from serving.chosen_elsewhere import of_version
from serving.errors import ServingError
from serving.metrics import Metrics
from serving.predictor import Predictor
from serving.remote_path import StorageError
from serving.servable import Loaded
from serving.warmup import warm_up

log = logging.getLogger("serving")


@dataclass
class VersionLoader:
    """Loads versions for a ModelStore. `engine` loads one, not yet tried; `warm_up_runs` 0: no warm-up; `require`
    raises ServingError for a model's directory that may not be loaded.

    `predictor` answers the warm-up requests. It needs the store, which needs this object, so it is set last.
    """

    engine: Callable[[str, int, Path], Any]
    metrics: Metrics
    batching: Batching | None = None
    warm_up_runs: int = 1
    require: Callable[[str, Path], None] | None = None
    predictor: Predictor | None = field(default=None, init=False)

    def load(self, name: str, number: int, path: Path) -> Loaded:
        """A version that can answer. Raises ServingError with TensorFlow Serving's code and message."""
        try:
            return self._load(name, number, path)
        except StorageError as error:
            raise ServingError(error.code, f"{error.filename}; {error.strerror}", error.advice) from None

    def _load(self, name: str, number: int, path: Path) -> Loaded:
        if self.require is not None:
            self.require(name, path)
        if line := of_version(name, path):  # before the first run, which may end the process
            log.warning("%s", line)
        loaded = self._loaded(name, number, path)
        try:
            made: Loaded = self.batching.wrap(loaded, path) if self.batching else loaded
            if not self._warmed_up(made, path):
                loaded.try_out()
        except (ServingError, StorageError):
            loaded.close()
            raise
        return made

    def _loaded(self, name: str, number: int, path: Path) -> Any:
        began, success = perf_counter(), False
        try:
            loaded = self.engine(name, number, path)
            success = True
        finally:
            # As in the original, a later failure in batching or warm-up does not count as a failed load.
            self.metrics.loaded(str(path), perf_counter() - began, success)
        return loaded

    def _warmed_up(self, made: Loaded, path: Path) -> bool:
        """Runs the version's warm-up requests; False if it has none or warm-up is off."""
        if not self.warm_up_runs or self.predictor is None:
            return False
        began = perf_counter()
        records = warm_up(self.predictor, made, path, self.warm_up_runs)
        if records:
            self.metrics.warmed_up(str(path), perf_counter() - began, records)
        return records > 0
