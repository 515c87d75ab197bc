"""Loads each version with the engine wanted for its model, or with TensorFlow if it has no files for that engine."""
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow_alone
from other_engines import LITERT, OPENVINO, OTHER_ENGINES, TENSORFLOW
from serving.config import Flags, tags_of
from serving.engines.cpus import cpus
from serving.engines.wanted import engines_wanted
from serving.errors import Code, ServingError
from serving.memory import MemoryLimit

log = logging.getLogger("serving")


class Engines:  # decision 200
    """Loads versions with the engines that the flags choose.

    TensorFlow is imported for the first version that needs it, and at once if the flags name no other engine.
    """

    def __init__(self, flags: Flags, memory: MemoryLimit) -> None:
        """Raises ServingError if a flag cannot be followed, or an engine's package is not installed."""
        self._flags = flags
        self._memory = memory
        self._lock = threading.Lock()
        self._tensorflow: Callable[[str, int, Path], Any] | None = None
        self._wanted = engines_wanted(flags)
        for engine in sorted(self._wanted.all() - {TENSORFLOW}):
            if why := OTHER_ENGINES[engine].why_missing():
                asked = "--engines_file" if engine != self._wanted.default else (
                    f"--engine={engine}" if flags.engine else "--prefer_tflite_model")
                raise ServingError(Code.FAILED_PRECONDITION, f"{asked}: {why}")
        if self._wanted.all() == {TENSORFLOW}:
            self._load_with_tensorflow()

    def load(self, name: str, version: int, path: Path) -> Any:
        """A version, not yet tried. Raises ServingError with TensorFlow Serving's code and message."""
        flags, engine = self._flags, self._wanted.of(name)
        if engine in OTHER_ENGINES and not (path / (file := OTHER_ENGINES[engine].file)).is_file():
            log.info("version %s of model %s has no %s: TensorFlow runs it", version, name, file)
            engine = TENSORFLOW
        threads = flags.tensorflow_intra_op_parallelism or flags.tensorflow_session_parallelism
        if engine == LITERT.name:
            from serving.engines import litert
            interpreters = max(flags.num_tflite_pools, 1) * max(flags.num_tflite_interpreters_per_pool, 1)
            model = litert.load(name, version, path, interpreters, threads or cpus() // interpreters)
            model.memory = self._memory
            return model
        if engine == OPENVINO.name:
            from serving.engines import openvino
            from serving.engines.openvino_graph import Resources
            resources = Resources(threads or cpus(), flags.openvino_streams, self._memory)
            return openvino.load(name, version, path, tags_of(flags), resources, self._with_tensorflow)
        return self._with_tensorflow(name, version, path)

    def _with_tensorflow(self, name: str, version: int, path: Path) -> Any:
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
