"""Lends what runs one request at a time (interpreters, infer requests) to the requests that come."""
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from serving.errors import timed_out

T = TypeVar("T")


class Pool(Generic[T]):
    """Workers; each is lent to one request at a time."""

    def __init__(self, workers: list[T]) -> None:
        self._idle = workers
        self._changed = threading.Condition()

    @contextmanager
    def worker(self, timeout_s: float | None, prefer: Callable[[T], bool] = lambda worker: True) -> Iterator[T]:
        """One that is idle, if possible one that `prefer` is true for. Raises DEADLINE_EXCEEDED if none is in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._idle, timeout_s):
                raise timed_out()
            chosen = next((one for one in reversed(self._idle) if prefer(one)), self._idle[-1])
            self._idle.remove(chosen)
        try:
            yield chosen
        finally:
            with self._changed:
                self._idle.append(chosen)
                self._changed.notify()

    def close(self) -> None:
        """Forgets the workers. None is lent."""
        self._idle.clear()
