"""A turn of one connection: requests back to back, the first of them unmeasured."""
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import Any


@dataclass(frozen=True)
class Turn:
    """The raw answers of a turn in the order of its requests; those of the lead come first and have no time.

    seconds: of each measured request. wall_s, cpu_s: all of them together, and the CPU time of the sending process.
    """

    led: Sequence[Any]
    seconds: Sequence[float]
    answers: Sequence[Any]
    wall_s: float
    cpu_s: float


def turn(timed: Callable[[Any], tuple[float, Any]], requests: Sequence[Any], first: int, count: int,
         lead_s: float = 0.0) -> Turn:
    """Sends requests[first] and those after it, round and round: for `lead_s` seconds unmeasured, then `count` more.

    timed: sends one prepared request; returns (seconds, raw answer).
    """
    number = first

    def following() -> tuple[float, Any]:
        nonlocal number
        request = requests[number % len(requests)]
        number += 1
        return timed(request)

    led: list[Any] = []
    began = perf_counter()
    while perf_counter() - began < lead_s:
        led.append(following()[1])
    began, cpu = perf_counter(), process_time()
    taken = [following() for _ in range(count)]
    wall, cpu = perf_counter() - began, process_time() - cpu
    return Turn(led, [seconds for seconds, _ in taken], [raw for _, raw in taken], wall, cpu)
