"""Which engine runs a version: TensorFlow, or LiteRT where the flags prefer it and the version has its file."""
import importlib.util
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow_alone
from serving.config import Flags, tags_of
from serving.errors import Code, ServingError
from serving.memory import MemoryLimit
from serving.saved_model_file import TFLITE


class Engines:
    """Loads versions with the engine that the flags choose.

    TensorFlow is imported for the first version that needs it, and at once if the flags name no other engine.
    """

    def __init__(self, flags: Flags, memory: MemoryLimit) -> None:
        """Raises ServingError if a flag cannot be followed."""
        self._flags = flags
        self._memory = memory
        self._lock = threading.Lock()
        self._tensorflow: Callable[[str, int, Path], Any] | None = None
        if flags.prefer_tflite_model:
            _refuse_missing("ai_edge_litert", "--prefer_tflite_model", "litert")
        else:
            self._load_with_tensorflow()

    def load(self, name: str, version: int, path: Path) -> Any:
        """A version, not yet tried. Raises ServingError with TensorFlow Serving's code and message."""
        if self._flags.prefer_tflite_model and (path / TFLITE).is_file():
            from serving.engines import litert
            interpreters = max(self._flags.num_tflite_pools, 1) * max(self._flags.num_tflite_interpreters_per_pool, 1)
            return litert.load(name, version, path, interpreters, cpus() // interpreters)
        with self._lock:
            load = self._tensorflow or self._load_with_tensorflow()
        return load(name, version, path)

    def _load_with_tensorflow(self) -> Callable[[str, int, Path], Any]:
        from serving.engines.process import allow_xla, load_op_libraries, session_options
        from serving.engines.tensorflow import load
        flags, tags = self._flags, tags_of(self._flags)
        load_op_libraries(flags.tensorflow_op_libraries)
        options = session_options(
            flags.tensorflow_session_config_file, flags.tensorflow_session_parallelism,
            flags.tensorflow_intra_op_parallelism, flags.tensorflow_inter_op_parallelism, flags.mixed_precision)
        if tensorflow_alone.own_process:  # it is switched for the whole process, which may be a caller's
            allow_xla(flags.xla_cpu_compilation_enabled)

        def loaded(name: str, version: int, path: Path) -> Any:
            model = load(name, version, path, tags, options)
            model.memory = self._memory
            return model
        self._tensorflow = loaded
        return loaded


def cpus() -> int:
    """The CPUs that this process may use: as many as TensorFlow counts."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _refuse_missing(package: str, flag: str, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ServingError(Code.FAILED_PRECONDITION, f"{flag}: the package {package} is not installed; install "
                           f"it with: pip install -e '.[{extra}]'")
