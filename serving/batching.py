"""Requests -> batches, as TensorFlow Serving's batching parameters say.

A batch holds requests for the same tensors of the same version. It is run when it is full or its first request has
waited for the timeout, by one of a few threads that all batches of a scheduler share.
"""
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import numpy as np

from serving import text_proto
from serving.errors import Code, ServingError, invalid
from serving.servable import Array, Servable, Signature
from serving.tensor_proto import numpy_dtype

log = logging.getLogger("serving")

PER_MODEL_FILE = "batching_params.pbtxt"


@dataclass(frozen=True, slots=True)
class Parameters:
    """BatchingParameters as values; the defaults are TensorFlow Serving's."""

    max_batch_size: int = 1000
    batch_timeout_s: float = 0.0
    max_enqueued_batches: int = 10
    num_batch_threads: int = os.cpu_count() or 1
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    split: bool = False
    max_execution_batch_size: int = 1000

    def check_allowed_sizes(self) -> None:
        """Raises INVALID_ARGUMENT, as each model's load does."""
        sizes = self.allowed_batch_sizes
        if sizes and sizes[-1] != self.max_batch_size:
            raise invalid("Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
                          f"{sizes[-1]}; expected {self.max_batch_size}")
        if any(a >= b for a, b in pairwise(sizes)):
            raise invalid("allowed_batch_sizes entries must be monotonically increasing")


def read_parameters(path: str) -> Parameters:
    """Parameters from a file in text form. Raises ServingError; values that crash the original are refused."""
    message = text_proto.read(path, text_proto.message("BatchingParameters"))

    def value(name: str, default: int, least: int) -> int:
        given: int = getattr(message, name).value if message.HasField(name) else default
        if given < least:
            wanted = "positive" if least else "non-negative"
            raise invalid(f"{name} must be {wanted}; was {given}")
        return given

    size = value("max_batch_size", 1000, 1)
    split = message.enable_large_batch_splitting.value
    execution = value("max_execution_batch_size", size, 1) if split else size
    if execution > size:
        raise invalid(f"max_execution_batch_size must not be more than max_batch_size; was {execution}, not {size}")
    return Parameters(
        size, value("batch_timeout_micros", 0, 0) / 1e6, value("max_enqueued_batches", 10, 1),
        value("num_batch_threads", os.cpu_count() or 1, 1), tuple(message.allowed_batch_sizes),
        message.pad_variable_length_inputs, split, execution)


class Batching:
    """Wraps servables: one scheduler for all, or one for each version that brings its own parameters."""

    def __init__(self, parameters_file: str, per_model: bool) -> None:
        self._shared = None if per_model else Scheduler(
            read_parameters(parameters_file) if parameters_file else Parameters())

    def wrap(self, servable: "Closable", path: Path) -> "Closable":
        """The servable with batching, if it is to have it. Raises ServingError for unfit parameters."""
        if self._shared is not None:
            return BatchingServable(servable, self._shared)
        own = path / PER_MODEL_FILE
        if not own.is_file():
            return servable
        parameters = read_parameters(str(own))
        parameters.check_allowed_sizes()
        return BatchingServable(servable, Scheduler(parameters), owns_scheduler=True)

    def stop(self) -> None:
        """Ends the shared threads. No request is running."""
        if self._shared is not None:
            self._shared.stop()


@dataclass(slots=True)
class _Task:
    """One request, or one part of a request that was split."""

    values: Sequence[Array]
    size: int
    deadline: float | None
    enqueued: float
    done: threading.Event = field(default_factory=threading.Event)
    results: list[Array] = field(default_factory=list)
    error: ServingError | None = None


@dataclass(slots=True)
class _Batch:
    began: float
    tasks: list[_Task] = field(default_factory=list)
    size: int = 0


class _Queue:
    """The batches that wait for one combination of tensors. Guarded by the scheduler's lock."""

    __slots__ = ("batches", "process")

    def __init__(self, process: Callable[[list[_Task]], None]) -> None:
        self.process = process
        self.batches: deque[_Batch] = deque()


class Scheduler:
    """A few threads that run whichever batches are due."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self._due = threading.Condition()
        self._queues: deque[_Queue] = deque()
        self._stopped = False
        for number in range(parameters.num_batch_threads):
            threading.Thread(target=self._work, name=f"batch-{number}", daemon=True).start()

    def add_queue(self, process: Callable[[list[_Task]], None]) -> _Queue:
        """A new queue, whose batches `process` runs."""
        queue = _Queue(process)
        with self._due:
            self._queues.append(queue)
        return queue

    def remove_queues(self, queues: Sequence[_Queue]) -> None:
        """Forgets queues that nobody waits for any more."""
        with self._due:
            for queue in queues:
                self._queues.remove(queue)

    def stop(self) -> None:
        """Ends the threads."""
        with self._due:
            self._stopped = True
            self._due.notify_all()

    def submit(self, queue: _Queue, task: _Task) -> list[_Task]:
        """Puts a task into a batch, or parts of it into several. Raises INVALID_ARGUMENT or UNAVAILABLE."""
        p = self.parameters
        if task.size > p.max_batch_size:
            raise invalid(f"Task size {task.size} is larger than maximum input batch size {p.max_batch_size}")
        with self._due:
            batches = queue.batches
            room = p.max_execution_batch_size - batches[-1].size if batches else p.max_execution_batch_size
            self._refuse_when_full(queue, task, room)
            parts = _parts(task, room, p.max_execution_batch_size) if p.split and task.size > room else [task]
            for part in parts:
                if not batches or batches[-1].size + part.size > p.max_execution_batch_size:
                    batches.append(_Batch(task.enqueued))
                batches[-1].tasks.append(part)
                batches[-1].size += part.size
            self._due.notify()
        return parts

    def _refuse_when_full(self, queue: _Queue, task: _Task, room: int) -> None:
        p, waiting = self.parameters, max(len(queue.batches), 1)
        full = "The batch scheduling queue to which this task was submitted is full; "
        if p.split:
            capacity = (p.max_enqueued_batches - waiting) * p.max_execution_batch_size + room
            if task.size > capacity:
                raise ServingError(Code.UNAVAILABLE, (
                    f"{full}task size is {task.size} but scheduling capacity is only {capacity} "
                    f"(num_enqueued_batches={waiting}, max_enqueued_batches={p.max_enqueued_batches}, "
                    f"open_batch_size={p.max_execution_batch_size - room}, "
                    f"max_execution_batch_size={p.max_execution_batch_size})"))
        elif task.size > room and waiting >= p.max_enqueued_batches:
            raise ServingError(Code.UNAVAILABLE, f"{full}currently {waiting} batches enqueued and "
                               f"max_enqueued_batches is {p.max_enqueued_batches}")

    def _work(self) -> None:
        while True:
            with self._due:
                queue, batch = self._next()
                while batch is None and not self._stopped:
                    self._due.wait(self._until_next())
                    queue, batch = self._next()
                if batch is None or queue is None:
                    return
                if any(q.batches for q in self._queues):
                    # The notice of another batch may have reached this thread.
                    self._due.notify()
            queue.process(batch.tasks)

    def _next(self) -> tuple[_Queue | None, _Batch | None]:
        """A batch that is due, the queues taking turns."""
        now = monotonic()
        for _ in range(len(self._queues)):
            queue = self._queues[0]
            self._queues.rotate(-1)
            if queue.batches and self._is_due(queue, now):
                return queue, queue.batches.popleft()
        return None, None

    def _is_due(self, queue: _Queue, now: float) -> bool:
        first = queue.batches[0]
        return (len(queue.batches) > 1 or first.size >= self.parameters.max_execution_batch_size
                or now >= first.began + self.parameters.batch_timeout_s)

    def _until_next(self) -> float | None:
        due = [queue.batches[0].began for queue in self._queues if queue.batches]
        return max(0.0, min(due) + self.parameters.batch_timeout_s - monotonic()) if due else None


class Closable(Servable, Protocol):
    """A servable that can be freed."""

    def close(self) -> None: ...


class BatchingServable:
    """A servable whose runs are put together into batches."""

    def __init__(self, servable: Closable, scheduler: Scheduler, owns_scheduler: bool = False) -> None:
        scheduler.parameters.check_allowed_sizes()
        self._servable = servable
        self._scheduler = scheduler
        self._owns_scheduler = owns_scheduler
        self._lock = threading.Lock()
        self._queues: dict[tuple[tuple[str, ...], tuple[str, ...]], _Queue] = {}
        self._dtypes = {spec.name: numpy_dtype(spec.dtype) for signature in servable.signatures.values()
                        for spec in signature.inputs.values()}

    @property
    def name(self) -> str:
        return self._servable.name

    @property
    def version(self) -> int:
        return self._servable.version

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._servable.signatures

    @property
    def metadata(self) -> Any:
        return self._servable.metadata

    def close(self) -> None:
        """Frees the servable. No request is running."""
        self._scheduler.remove_queues(list(self._queues.values()))
        if self._owns_scheduler:
            self._scheduler.stop()
        self._servable.close()

    def run(self, feeds: Sequence[str], values: Sequence[Array], fetches: Sequence[str],
            timeout_s: float | None = None) -> list[Array]:
        """See Servable.run: waits until the batch with these values has been run."""
        size = _batch_size(values)
        # A wrong type fails on its own, not with everything that shares its batch; and nothing can be put together
        # out of no rows: the original waits for ever.
        if size == 0 or any(value.dtype != self._dtypes.get(feed) for feed, value in zip(feeds, values, strict=True)):
            return self._servable.run(feeds, values, fetches, timeout_s)
        now = monotonic()
        task = _Task(values, size, None if timeout_s is None else now + timeout_s, now)
        parts = self._scheduler.submit(self._queue(tuple(feeds), tuple(fetches)), task)
        for part in parts:
            part.done.wait()
            if part.error is not None:
                raise part.error
        if len(parts) == 1:
            return parts[0].results
        return [np.concatenate([part.results[k] for part in parts]) for k in range(len(fetches))]

    def _queue(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> _Queue:
        with self._lock:
            queue = self._queues.get((feeds, fetches))
            if queue is None:
                queue = self._queues[feeds, fetches] = self._scheduler.add_queue(
                    lambda tasks: self._process(feeds, fetches, tasks))
            return queue

    def _process(self, feeds: tuple[str, ...], fetches: tuple[str, ...], tasks: list[_Task]) -> None:
        try:
            self._run_batch(feeds, fetches, tasks)
        except ServingError as error:
            _fail(tasks, error)
        except Exception as error:
            # The requests that wait have to be told, whatever it was, and the next batch needs this thread.
            log.exception("a batch of model %s failed", self.name)
            _fail(tasks, ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}"))
        finally:
            for task in tasks:
                task.done.set()

    def _run_batch(self, feeds: tuple[str, ...], fetches: tuple[str, ...], tasks: list[_Task]) -> None:
        now = monotonic()
        deadline = None if any(t.deadline is None for t in tasks) else max(t.deadline or 0.0 for t in tasks)
        if deadline is not None and deadline <= now:
            raise ServingError(Code.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue")
        size = sum(task.size for task in tasks)
        padding = next((s for s in self._scheduler.parameters.allowed_batch_sizes if s >= size), size) - size
        merged: dict[str, Array] = {}
        for feed in dict.fromkeys(feeds):
            columns = [task.values[k] for task in tasks for k, name in enumerate(feeds) if name == feed]
            merged[feed] = self._merge(feed, columns, padding)
        results = self._servable.run(list(merged), list(merged.values()), fetches,
                                     None if deadline is None else deadline - now)
        for result in results:
            if result.ndim == 0:
                raise ServingError(Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
            if len(result) != size + padding:
                raise ServingError(Code.FAILED_PRECONDITION, "Batched output tensor's 0th dimension does not equal "
                                   "the sum of the 0th dimension sizes of the input tensors")
        if len(tasks) == 1 and not padding:
            tasks[0].results = results
            return
        at = 0
        for task in tasks:
            task.results = [result[at:at + task.size] for result in results]
            at += task.size

    def _merge(self, feed: str, columns: list[Array], padding: int) -> Array:
        if len({column.shape[1:] for column in columns}) > 1:
            if not self._scheduler.parameters.pad_variable_length_inputs:
                raise ServingError(Code.FAILED_PRECONDITION, (
                    f"Tensors with name '{feed}' from different tasks have different shapes and padding is turned off."
                    "Set pad_variable_length_inputs to true, or ensure that all tensors with the same name"
                    "have equal dimensions starting with the first dim."))
            columns = _same_shape(columns)
        # The first row of the last request is a valid row.
        rows = columns + [columns[-1][:1]] * padding
        return rows[0] if len(rows) == 1 else np.concatenate(rows)


def _batch_size(values: Sequence[Array]) -> int:
    if not values:
        raise invalid("Batching session Run() must have at least one input tensor")
    if any(value.ndim == 0 for value in values):
        raise invalid("Batching Run() input tensors must have at least one dimension")
    if len({len(value) for value in values}) > 1:
        raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
    return len(values[0])


def _parts(task: _Task, room: int, most: int) -> list[_Task]:
    """The task in parts: what still fits into the open batch, then batches full."""
    cuts = [0, *range(room or most, task.size, most), task.size]
    return [_Task([value[a:b] for value in task.values], b - a, task.deadline, task.enqueued)
            for a, b in pairwise(cuts)]


def _same_shape(columns: list[Array]) -> list[Array]:
    """All but the first dimension padded to the largest, with each tensor's own first element."""
    if len({column.ndim for column in columns}) > 1 or columns[0].ndim > 6:
        raise invalid("Only tensors with rank from 1 to 6 can be padded.")
    if any(column.size == 0 for column in columns):
        raise invalid("Got empty tensor in batch of non-empty tensors.")
    largest = np.max([column.shape for column in columns], axis=0)
    padded = []
    for column in columns:
        made = np.full((len(column), *largest[1:]), column.flat[0], column.dtype)
        made[tuple(slice(0, size) for size in column.shape)] = column
        padded.append(made)
    return padded


def _fail(tasks: Sequence[_Task], error: ServingError) -> None:
    for task in tasks:
        task.error = error
