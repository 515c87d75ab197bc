"""A SavedModel loaded as TensorFlow Serving loads it, in a process of its own: one that dies takes nobody with it."""
from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from export.tensors import Array
from user_error import FailedError, UserError

_TIMEOUT_S = 600
_CONTEXT = multiprocessing.get_context("forkserver")  # decision 24


class RunError(Exception):
    """The model answered with an error."""


class DiedError(Exception):
    """The process that ran the model ended."""


def prepare() -> None:
    """Starts importing TensorFlow for the processes to come; returns at once."""
    _CONTEXT.set_forkserver_preload(["export.runtime"])
    # Ctrl-C reaches the whole group: the processes to come leave the answer to us, and end when we do.
    ours = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if ours else None
    try:
        forkserver.ensure_running()
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


class LoadedModel:
    """`with LoadedModel(path, tags) as model: answer = model.run("serving_default", inputs)`

    Raises UserError if the model does not load.
    """

    def __init__(self, path: Path, tags: Sequence[str]) -> None:
        self.path = path
        self._signatures: dict[str, bytes] = {}
        prepare()
        self._pipe, far = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_serve, args=(far, str(path), tuple(tags)), daemon=True)
        self._process.start()
        far.close()

    def __enter__(self) -> LoadedModel:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def loaded(self) -> float:
        """Waits until the model is loaded. Returns the seconds that took."""
        try:
            seconds, packed = self._receive()
            self._signatures = packed
            return float(seconds)
        except DiedError as error:
            raise FailedError(f"{self.path} does not load: {error}") from None
        except RunError as error:
            raise UserError(str(error)) from None

    @property
    def signatures(self) -> dict[str, Any]:
        """The SignatureDefs by key, once it is loaded."""
        from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
        return {key: SignatureDef.FromString(packed) for key, packed in self._signatures.items()}

    def start(self, signature: str, inputs: Mapping[str, Array]) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # `finish` says how the process ended
            self._pipe.send((signature, dict(inputs)))

    def finish(self) -> dict[str, Array]:
        """The answer to what `start` asked. Raises RunError or DiedError."""
        answer = self._receive()
        assert isinstance(answer, dict)
        return answer

    def run(self, signature: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.start(signature, inputs)
        return self.finish()

    def _receive(self) -> Any:
        if not self._pipe.poll(_TIMEOUT_S):
            self._process.kill()
            raise DiedError(f"no answer in {_TIMEOUT_S} s")
        try:
            answer = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            code = self._process.exitcode or 0
            end = signal.Signals(-code).name if code < 0 else f"status {code}"
            raise DiedError(f"its process ended with {end}") from None
        if isinstance(answer, Exception):
            raise answer
        return answer


def _serve(pipe: Any, path: str, tags: tuple[str, ...]) -> None:
    from time import perf_counter

    from export import saved_model
    from export.runtime import tf
    began = perf_counter()
    try:
        model = saved_model.read(path, tags)
        signatures = {key: type(one).FromString(one.SerializeToString()) for key, one in model.signatures.items()}
        # The message holds all weights of a frozen model.
        model = saved_model.SavedModel(model.path, type(model.meta_graph)(meta_info_def=model.meta_graph.meta_info_def))
        with saved_model.session(model) as running:
            pipe.send((perf_counter() - began, {key: one.SerializeToString() for key, one in signatures.items()}))
            while True:
                name, inputs = pipe.recv()
                signature = signatures[name]
                fetches = {key: info.name for key, info in signature.outputs.items()}
                feeds = {signature.inputs[key].name: value for key, value in inputs.items()}
                try:
                    pipe.send(_arrays(running.run(fetches, feeds)))
                except (tf.errors.OpError, ValueError, TypeError) as error:
                    pipe.send(RunError(saved_model.reason(error)))
    except UserError as error:
        pipe.send(RunError(str(error)))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass


def _arrays(answer: Mapping[str, Any]) -> dict[str, Any]:
    import numpy as np
    return {key: np.asarray(value, object) if isinstance(value, bytes) else np.asarray(value)
            for key, value in answer.items()}
