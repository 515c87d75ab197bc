"""A SavedModel loaded as TensorFlow Serving loads it, in a separate process, so that a crash ends only that."""
from __future__ import annotations

import multiprocessing
import re
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import forkserver
from pathlib import Path
from types import ModuleType
from typing import Any

from export.tensors import Array
from user_error import FailedError, UserError

_LOAD_S = 600  # for loading
ANSWER_S = 600  # for one answer; a loop that depends on its input may never end
_SAID = "said"  # the file with the process's standard output and error
_CHECK = re.compile(r"^F\d{4} [^\n]*?\] ([^\n]*)|\] (Check failed: [^\n]*)", re.MULTILINE)
_CONTEXT = multiprocessing.get_context("forkserver")  # decision 24


class RunError(Exception):
    """The model's answer is an error."""


class DiedError(Exception):
    """The process that ran the model ended."""


def prepare() -> None:
    """Starts importing TensorFlow for later processes; returns without waiting for that."""
    _CONTEXT.set_forkserver_preload(["export.preloaded"])
    # Ctrl-C reaches all processes of the group: these ignore it, and end when this one does.
    ours = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if ours else None
    try:
        forkserver.ensure_running()
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


@contextmanager
def _without_main() -> Iterator[None]:
    """Keeps multiprocessing from running the caller's script again in a new process (it does so for unpickling).

    All objects sent to it are from this package. A script that calls `export.optimize` needs no `if __name__ == ...`.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class SilentError(DiedError):
    """There was no answer in ANSWER_S seconds, and the process was ended."""


class LoadedModel:
    """`with LoadedModel(path, tags) as model: answer = model.run("serving_default", inputs)`

    Inputs and answers are arrays by part (see export.parts). `own_directory`: the model runs in an empty directory,
    which is deleted afterwards with all files it wrote there. `summary`, a function of a module, is applied to each
    answer within the process: large answers need not leave it. Raises UserError if the model does not load.
    """

    def __init__(self, path: Path, tags: Sequence[str], own_directory: bool = False,
                 summary: Callable[[dict[str, Array]], Any] | None = None, engine: str = "") -> None:
        """`engine`: what runs it instead of TensorFlow, from the files that it has for that engine."""
        self.path = path
        self._engine = engine
        self._summary = summary
        self.without_value: frozenset[str] = frozenset()
        self._tags = tuple(tags)
        self._signatures: dict[str, bytes] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="export-run-"))
        self._where = self._folder / "here" if own_directory else None
        if self._where:
            self._where.mkdir()
        prepare()
        self._begin()

    def _begin(self) -> None:
        self._pipe, far = _CONTEXT.Pipe()
        self._busy = False  # with a request whose answer was not waited for
        self._process = _CONTEXT.Process(daemon=True, target=_serve, args=(
            far, str(self.path.absolute()), self._tags, str(self._folder / _SAID), str(self._where or ""),
            self._summary, self._engine))
        with _without_main():
            self._process.start()
        far.close()

    def __enter__(self) -> LoadedModel:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _end(self) -> None:
        self._pipe.close()
        self._process.join(0 if self._busy else 5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def restart(self) -> None:
        """Loads the model again, after its process has ended."""
        self._end()
        self._begin()
        self.loaded()

    def loaded(self) -> float:
        """Waits until the model is loaded. Returns the seconds that took."""
        try:
            seconds, self._signatures, self.without_value = self._receive(_LOAD_S)
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
        self._busy = True
        with suppress(BrokenPipeError, ConnectionResetError):  # `finish` says how the process ended
            self._pipe.send((signature, dict(inputs)))

    def finish(self) -> dict[str, Array]:
        """The answer to the request that `start` sent. Raises RunError or DiedError."""
        answer = self._receive(ANSWER_S)
        assert isinstance(answer, dict)
        return answer

    def run(self, signature: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.start(signature, inputs)
        return self.finish()

    def summary(self, signature: str, inputs: Mapping[str, Array]) -> Any:
        """What `summary` makes of the answer."""
        self.start(signature, inputs)
        return self._receive(ANSWER_S)

    def run_at_once(self, requests: Sequence[tuple[str, Mapping[str, Array]]]) -> list[dict[str, Array] | RunError]:
        """The answers to requests (signature, inputs) that run at the same time, each in a thread of its own.

        As in a server, nothing compares the inputs with the shapes in the signature before the graph runs. A refused
        request's answer is its error. Raises DiedError.
        """
        with suppress(BrokenPipeError, ConnectionResetError):
            self._pipe.send([(signature, dict(inputs)) for signature, inputs in requests])
        answers = self._receive(ANSWER_S)
        assert isinstance(answers, list)
        return answers

    def _receive(self, limit_s: float) -> Any:
        if not self._pipe.poll(limit_s):
            self._process.kill()
            raise SilentError(f"no answer in {limit_s:g} s")
        try:
            answer = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            code = self._process.exitcode or 0
            end = signal.Signals(-code).name if code < 0 else f"status {code}"
            raise DiedError(f"its process ended with {end}{self._last_words()}") from None
        self._busy = False
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _last_words(self) -> str:
        """TensorFlow's failed check, or the exception, in what the process wrote; without the stack trace."""
        try:
            said = (self._folder / _SAID).read_text(errors="replace")
        except OSError:
            return ""
        found = ["".join(groups) for groups in _CHECK.findall(said)] or (
            said.strip().splitlines()[-1:] if "Traceback" in said else [])
        return f" ({found[-1].strip()})" if found else ""


def _serve(pipe: Any, path: str, tags: tuple[str, ...], said: str, where: str,
           summary: Callable[[dict[str, Array]], Any] | None, engine: str) -> None:
    import os
    from time import perf_counter

    from export import saved_model
    from export.parts import parts
    from export.runtime import tf
    began = perf_counter()
    # Keeps C++ traces and the model's own output out of the command's output.
    handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)
    if where:
        os.chdir(where)
    try:
        with _by_engine(engine, path, tags) if engine else _in_session(path, tags) as (signatures, running):
            pipe.send((perf_counter() - began, {key: one.SerializeToString() for key, one in signatures.items()},
                       frozenset() if engine else _without_value(running)))
            ends = {name: [{part: tensor for key, info in side.items() for part, tensor in parts(key, info).items()}
                           for side in (one.inputs, one.outputs)] for name, one in signatures.items()}

            def answer(run: Callable[..., Any], name: str, inputs: Mapping[str, Array]) -> dict[str, Array] | RunError:
                named, fetches = ends[name]
                try:
                    got = _arrays(run(fetches, {named[part]: value for part, value in inputs.items()}))
                    return got if summary is None else summary(got)
                except (tf.errors.OpError, ValueError, TypeError) as error:
                    return RunError(saved_model.reason(error))
            unchecked = running if engine else _Unchecked(running)
            while True:
                asked = pipe.recv()
                pipe.send(answer(running.run, *asked) if isinstance(asked, tuple) else _at_once(
                    [partial(answer, unchecked.run, *one) for one in asked]))
    except UserError as error:
        pipe.send(RunError(str(error)))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass


def _by_engine(engine: str, path: str, tags: tuple[str, ...]) -> Any:
    from export.engines.running import running_by
    return running_by(engine, path, tags)


@contextmanager
def _in_session(path: str, tags: tuple[str, ...]) -> Iterator[tuple[dict[str, Any], Any]]:
    """The SignatureDefs, and a Session that runs the graph."""
    from export import saved_model
    model = saved_model.read(path, tags)
    signatures = {key: type(one).FromString(one.SerializeToString()) for key, one in model.signatures.items()}
    # Freed, since the message holds all weights of a frozen model.
    model = saved_model.SavedModel(model.path, type(model.meta_graph)(meta_info_def=model.meta_graph.meta_info_def))
    with saved_model.session(model) as running:
        yield signatures, running


class _Unchecked:
    """Runs a Session as a server does in C++: Python's own comparison of values with placeholders is left out."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._calls: dict[tuple[tuple[str, ...], tuple[str, ...]], Any] = {}
        self._lock = threading.Lock()

    def run(self, fetches: Mapping[str, str], feeds: Mapping[str, Array]) -> dict[str, Any]:
        import numpy as np
        from tensorflow.core.protobuf import config_pb2
        graph = self._session.graph
        fed, fetched = (tuple(graph.as_graph_element(name).name for name in names)
                        for names in (feeds, fetches.values()))
        with self._lock:
            if (fed, fetched) not in self._calls:
                self._calls[fed, fetched] = self._session._make_callable_from_options(config_pb2.CallableOptions(
                    feed=fed, fetch=fetched))
        values = [np.asarray(value, None if value.dtype == object else graph.get_tensor_by_name(
            name).dtype.as_numpy_dtype) for name, value in zip(fed, feeds.values(), strict=True)]
        return dict(zip(fetches, self._calls[fed, fetched](*values), strict=True))


def _at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Makes the calls in threads that begin together."""
    together = threading.Barrier(len(calls))

    def work(call: Callable[[], Any]) -> Any:
        together.wait()
        return call()
    with ThreadPoolExecutor(len(calls)) as pool:
        return [one.result() for one in [pool.submit(work, call) for call in calls]]


def _without_value(running: Any) -> frozenset[str]:
    """The nodes of the variables that have no value after loading."""
    from export.runtime import tf
    from export.variables import HANDLES, REFERENCES
    with running.graph.as_default():
        asked = {}
        for operation in running.graph.get_operations():
            if operation.type in HANDLES:
                asked[operation.name] = tf.raw_ops.VarIsInitializedOp(resource=operation.outputs[0])
            elif operation.type in REFERENCES:
                asked[operation.name] = tf.compat.v1.is_variable_initialized(operation.outputs[0])
        return frozenset(name for name, there in running.run(asked).items() if not there)


def _arrays(answer: Mapping[str, Any]) -> dict[str, Any]:
    import numpy as np
    return {key: np.asarray(value, object) if isinstance(value, bytes) else np.asarray(value)
            for key, value in answer.items()}
