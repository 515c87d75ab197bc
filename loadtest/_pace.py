"""When a user sends: after each answer (closed loop), or on a schedule that answers cannot delay (open loop)."""
from collections.abc import Callable
from time import perf_counter
from typing import Any

import gevent
import numpy as np

MOST_IN_FLIGHT = 1000


class Pace:
    """Calls `send(intended start)` for one user.

    In an open loop every request has its own greenlet, so a slow answer delays nobody. When MOST_IN_FLIGHT of a
    user's requests are unanswered, the next one is not sent but given to `drop`: it counts as failed.
    """

    def __init__(self, send: Callable[[float], None], drop: Callable[[], None], *, rate: float, constant: bool,
                 seed: int, requests: int) -> None:
        self._send, self._drop = send, drop
        self._rate, self._constant = rate, constant
        self._random = np.random.default_rng(seed)
        self._left = requests or -1
        self._due = 0.0
        self._flying: set[Any] = set()

    @property
    def open_loop(self) -> bool:
        return self._rate > 0

    def step(self) -> bool:
        """Sends one request; returns False when all requests have been sent and answered."""
        if self._left == 0:
            gevent.joinall(list(self._flying))
            return False
        self._left -= 1
        if not self._rate:
            self._send(perf_counter())
            return True
        self._due = (self._due or perf_counter()) + self._gap()
        gevent.sleep(max(0.0, self._due - perf_counter()))
        if len(self._flying) >= MOST_IN_FLIGHT:
            self._drop()
            return True
        flying = gevent.spawn(self._send, self._due)
        self._flying.add(flying)
        flying.rawlink(self._flying.discard)
        return True

    def stop(self) -> None:
        """Ends the requests that are still running when the user stops."""
        gevent.killall(list(self._flying))

    def _gap(self) -> float:
        return 1 / self._rate if self._constant else float(self._random.exponential(1 / self._rate))
