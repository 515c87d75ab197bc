"""Requests -> batches, by TensorFlow Serving's batching parameters.

A batch holds requests for the same tensors of the same version. It is run when it is full or when its first request has
waited for the timeout. All batches of a scheduler share a few threads.
"""
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from serving.batch_scheduler import Parameters, Queue, Scheduler, Task, read_parameters
from serving.errors import Code, ServingError, invalid
from serving.metrics import BatchingMetrics
from serving.servable import Array, Loaded, Signature
from serving.tensor_proto import numpy_dtype

log = logging.getLogger("serving")

PER_MODEL_FILE = "batching_params.pbtxt"


class Batching:
    """Wraps servables: one scheduler for all, or one for each version that has its own parameters file."""

    def __init__(self, parameters_file: str, per_model: bool, metrics: BatchingMetrics | None = None) -> None:
        # Read even if every model has its own file, so that a mistake in this one is reported.
        parameters = read_parameters(parameters_file) if parameters_file else Parameters()
        self._shared = None if per_model else Scheduler(parameters)
        self._metrics = metrics

    def wrap(self, servable: Loaded, path: Path) -> Loaded:
        """The servable with batching; unchanged if it gets none. Raises ServingError for invalid parameters."""
        if self._shared is not None:
            return BatchingServable(servable, self._shared, metrics=self._metrics)
        own = path / PER_MODEL_FILE
        if not own.is_file():
            return servable
        parameters = read_parameters(str(own), of_server=False)
        parameters.check_allowed_sizes()
        return BatchingServable(servable, Scheduler(parameters), owns_scheduler=True, metrics=self._metrics)

    def stop(self) -> None:
        """Ends the shared threads. No request is running."""
        if self._shared is not None:
            self._shared.stop()


class BatchingServable:
    """A servable that combines the requests of several callers into one run."""

    def __init__(self, servable: Loaded, scheduler: Scheduler, owns_scheduler: bool = False,
                 metrics: BatchingMetrics | None = None) -> None:
        scheduler.parameters.check_allowed_sizes()
        self._servable = servable
        self._scheduler = scheduler
        self._owns_scheduler = owns_scheduler
        self._metrics = metrics or BatchingMetrics()
        self._lock = threading.Lock()
        self._queues: dict[tuple[tuple[str, ...], tuple[str, ...]], Queue] = {}
        self._dtypes = {spec.name: numpy_dtype(spec.dtype) for signature in servable.signatures.values()
                        for spec in signature.inputs.values()}

    @property
    def name(self) -> str:
        return self._servable.name

    @property
    def version(self) -> int:
        return self._servable.version

    @property
    def engine(self) -> str:
        return self._servable.engine

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._servable.signatures

    @property
    def metadata(self) -> Any:
        return self._servable.metadata

    @property
    def answers(self) -> bool:
        return self._servable.answers

    def close(self) -> None:
        """Frees the servable. No request is running."""
        self._scheduler.remove_queues(list(self._queues.values()))
        if self._owns_scheduler:
            self._scheduler.stop()
        self._servable.close()

    def run(self, feeds: Sequence[str], values: Sequence[Array], fetches: Sequence[str],
            timeout_s: float | None = None, started: Callable[[], None] | None = None) -> list[Array]:
        """See Servable.run: waits until the batch with these values has been run."""
        if timeout_s == 0:
            raise ServingError(Code.DEADLINE_EXCEEDED, "no time to wait for a batch")
        size = _batch_size(values)
        # A request of a wrong type fails alone, not with all others in its batch. A request without rows cannot be
        # batched: with one, the original waits forever.
        # decision 34
        if size == 0 or any(value.dtype != self._dtypes.get(feed) for feed, value in zip(feeds, values, strict=True)):
            return self._servable.run(feeds, values, fetches, timeout_s, started)
        self._metrics.asked(size, len(feeds))
        now = monotonic()
        task = Task(values, size, None if timeout_s is None else now + timeout_s, now, started)
        parts = self._scheduler.submit(self._queue(tuple(feeds), tuple(fetches)), task)
        for part in parts:
            part.done.wait()
            if part.error is not None:
                raise part.error
        if len(parts) == 1:
            return parts[0].results
        return [np.concatenate([part.results[k] for part in parts]) for k in range(len(fetches))]

    def _queue(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Queue:
        with self._lock:
            queue = self._queues.get((feeds, fetches))
            if queue is None:
                queue = self._queues[feeds, fetches] = self._scheduler.add_queue(
                    lambda tasks: self._process(feeds, fetches, tasks))
            return queue

    def _process(self, feeds: tuple[str, ...], fetches: tuple[str, ...], tasks: list[Task]) -> None:
        try:
            self._run_batch(feeds, fetches, tasks)
        except ServingError as error:
            _fail(tasks, error)
        except Exception as error:
            # Whatever the error is: the waiting requests must get an answer, and the next batch needs this thread.
            log.exception("a batch of model %s failed", self.name)
            _fail(tasks, ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}"))
        finally:
            for task in tasks:
                task.done.set()

    def _run_batch(self, feeds: tuple[str, ...], fetches: tuple[str, ...], tasks: list[Task]) -> None:
        now = monotonic()
        self._metrics.waited([now - task.enqueued for task in tasks])
        deadline = None if any(t.deadline is None for t in tasks) else max(t.deadline or 0.0 for t in tasks)
        if deadline is not None and deadline <= now:
            raise ServingError(Code.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue")
        size = sum(task.size for task in tasks)
        padding = next((s for s in self._scheduler.parameters.allowed_batch_sizes if s >= size), size) - size
        self._metrics.formed(size + padding, padding)
        merged: dict[str, Array] = {}
        for feed in dict.fromkeys(feeds):
            columns = [task.values[k] for task in tasks for k, name in enumerate(feeds) if name == feed]
            merged[feed] = self._merge(feed, columns, padding)
        for task in tasks:
            if task.started is not None:
                task.started()
        try:
            results = self._servable.run(list(merged), list(merged.values()), fetches,
                                         None if deadline is None else deadline - now)
        finally:
            self._metrics.ran()
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
                    f"Tensors with name '{feed}' from different tasks have different shapes and padding is turned off. "
                    "Set pad_variable_length_inputs to true, or ensure that all tensors with the same name "
                    "have equal dimensions starting with the first dim."))
            columns = _same_shape(columns)
        # Padded with the first row of the last request, which is a valid row.
        rows = columns + [columns[-1][:1]] * padding
        return rows[0] if len(rows) == 1 else np.concatenate(rows)


def _batch_size(values: Sequence[Array]) -> int:
    if not values:
        raise invalid("Batching Run() must have at least one input tensor")
    if any(value.ndim == 0 for value in values):
        raise invalid("Batching Run() input tensors must have at least one dimension")
    if len({len(value) for value in values}) > 1:
        raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
    return len(values[0])


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


def _fail(tasks: Sequence[Task], error: ServingError) -> None:
    for task in tasks:
        task.error = error
