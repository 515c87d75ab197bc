"""Tasks -> batches: the parameters decide when a batch is full or due; a few threads run the batches.

The rules are TensorFlow Serving's shared batch scheduler: a task goes into the open batch of its queue or begins the
next one; a batch is due when another follows it, when it is full, or when its first task has waited for the timeout.
"""
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from time import monotonic

from serving import text_proto
from serving.errors import Code, ServingError, invalid
from serving.servable import Array

_UNSIGNED = 1 << 64


@dataclass(frozen=True, slots=True)
class Parameters:
    """BatchingParameters as values; the defaults are TensorFlow Serving's.

    `given_size` is max_batch_size as the file has it, if that is negative (no limit); else 0.
    """

    max_batch_size: int = 1000
    batch_timeout_s: float = 0.0
    max_enqueued_batches: int = 10
    num_batch_threads: int = os.cpu_count() or 1
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    split: bool = False
    max_execution_batch_size: int = 1000
    given_size: int = 0

    def check_allowed_sizes(self) -> None:
        """Raises INVALID_ARGUMENT, as the load of each model does. Like the original, it checks only the last entry."""
        sizes, size = self.allowed_batch_sizes, self.given_size or self.max_batch_size
        if sizes and sizes[-1] != size:
            raise invalid("Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
                          f"{sizes[-1]}; expected {size}")


def read_parameters(path: str, of_server: bool = True) -> Parameters:
    """Parameters from a file in text form. Raises ServingError; values that crash the original are refused.

    Sizes are unsigned in the original: a negative one is no limit.

    Args:
        of_server: the file is the server's, and must ask for at least one thread; in a model's own file the number of
            threads is ignored.
    """
    message = text_proto.read(path, text_proto.message("BatchingParameters"))

    def value(name: str, default: int) -> int:
        given: int = getattr(message, name).value if message.HasField(name) else default
        return given

    def refuse(name: str, wanted: str) -> None:
        raise invalid(f"{name} must be {wanted}; was {value(name, 0)}")

    given, split = value("max_batch_size", 1000), message.enable_large_batch_splitting.value
    size, enqueued = given % _UNSIGNED, value("max_enqueued_batches", 10) % _UNSIGNED
    execution = value("max_execution_batch_size", given) % _UNSIGNED if split else size
    threads = value("num_batch_threads", os.cpu_count() or 1)
    if threads < 1:
        if of_server:
            refuse("num_batch_threads", "positive")
        threads = os.cpu_count() or 1
    if size == 0:
        refuse("max_batch_size", "positive")
    if value("batch_timeout_micros", 0) < 0:
        refuse("batch_timeout_micros", "non-negative")
    if enqueued == 0 and split:
        refuse("max_enqueued_batches", "positive")
    if execution > size:
        raise invalid("max_execution_batch_size must not be more than max_batch_size; was "
                      f"{value('max_execution_batch_size', 0)}, not {given}")
    return Parameters(size, value("batch_timeout_micros", 0) / 1e6, enqueued or 1, threads,
                      tuple(message.allowed_batch_sizes), message.pad_variable_length_inputs, split, execution,
                      min(given, 0))


@dataclass(slots=True)
class Task:
    """One request, or one part of a request that was split."""

    values: Sequence[Array]
    size: int
    deadline: float | None
    enqueued: float
    started: Callable[[], None] | None = None
    done: threading.Event = field(default_factory=threading.Event)
    results: list[Array] = field(default_factory=list)
    error: ServingError | None = None


@dataclass(slots=True)
class _Batch:
    began: float
    tasks: list[Task] = field(default_factory=list)
    size: int = 0


class Queue:
    """The batches that wait for one combination of tensors. Guarded by the scheduler's lock."""

    __slots__ = ("batches", "process")

    def __init__(self, process: Callable[[list[Task]], None]) -> None:
        self.process = process
        self.batches: deque[_Batch] = deque()


class Scheduler:
    """A few threads that run the batches that are due."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self._due = threading.Condition()
        self._queues: deque[Queue] = deque()
        self._stopped = False
        for number in range(parameters.num_batch_threads):
            threading.Thread(target=self._work, name=f"batch-{number}", daemon=True).start()

    def add_queue(self, process: Callable[[list[Task]], None]) -> Queue:
        """A new queue, whose batches `process` runs."""
        queue = Queue(process)
        with self._due:
            self._queues.append(queue)
        return queue

    def remove_queues(self, queues: Sequence[Queue]) -> None:
        """Removes queues that no request waits for."""
        with self._due:
            for queue in queues:
                self._queues.remove(queue)

    def stop(self) -> None:
        """Ends the threads."""
        with self._due:
            self._stopped = True
            self._due.notify_all()

    def submit(self, queue: Queue, task: Task) -> list[Task]:
        """Puts a task into a batch, or parts of it into several. Raises INVALID_ARGUMENT or UNAVAILABLE."""
        p = self.parameters
        if task.size > p.max_batch_size:
            raise invalid(f"Task size {task.size} is larger than maximum input batch size {p.max_batch_size}")
        with self._due:
            batches = queue.batches
            space_left = p.max_execution_batch_size - batches[-1].size if batches else p.max_execution_batch_size
            self._refuse_when_full(queue, task, space_left)
            parts = [task]
            if p.split and task.size > space_left:
                parts = _parts(task, space_left, p.max_execution_batch_size)
            for part in parts:
                if not batches or batches[-1].size + part.size > p.max_execution_batch_size:
                    batches.append(_Batch(task.enqueued))
                batches[-1].tasks.append(part)
                batches[-1].size += part.size
            self._due.notify()
        return parts

    def _refuse_when_full(self, queue: Queue, task: Task, space_left: int) -> None:
        p, waiting = self.parameters, max(len(queue.batches), 1)
        full = "The batch scheduling queue to which this task was submitted is full; "
        if p.split:
            capacity = (p.max_enqueued_batches - waiting) * p.max_execution_batch_size + space_left
            if task.size > capacity:
                raise ServingError(Code.UNAVAILABLE, (
                    f"{full}task size is {task.size} but scheduling capacity is only {capacity} "
                    f"(num_enqueued_batches={waiting}, max_enqueued_batches={p.max_enqueued_batches}, "
                    f"open_batch_size={p.max_execution_batch_size - space_left}, "
                    f"max_execution_batch_size={p.max_execution_batch_size})"))
        elif task.size > space_left and waiting >= p.max_enqueued_batches:
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
                    # This thread may have been woken by the notification for another batch: pass it on.
                    self._due.notify()
            queue.process(batch.tasks)

    def _next(self) -> tuple[Queue | None, _Batch | None]:
        """A batch that is due; the queues are served in rotation."""
        now = monotonic()
        for _ in range(len(self._queues)):
            queue = self._queues[0]
            self._queues.rotate(-1)
            if queue.batches and self._is_due(queue, now):
                return queue, queue.batches.popleft()
        return None, None

    def _is_due(self, queue: Queue, now: float) -> bool:
        first = queue.batches[0]
        return (len(queue.batches) > 1 or first.size >= self.parameters.max_execution_batch_size
                or now >= first.began + self.parameters.batch_timeout_s)

    def _until_next(self) -> float | None:
        due = [queue.batches[0].began for queue in self._queues if queue.batches]
        return max(0.0, min(due) + self.parameters.batch_timeout_s - monotonic()) if due else None


def _parts(task: Task, space_left: int, most: int) -> list[Task]:
    """The task in parts: first what still fits into the open batch, then parts that each fill a batch."""
    cuts = [0, *range(space_left or most, task.size, most), task.size]
    return [Task([value[a:b] for value in task.values], b - a, task.deadline, task.enqueued, task.started)
            for a, b in pairwise(cuts)]
