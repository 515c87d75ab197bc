"""Waits for a condition that another thread or process makes true, with a deadline instead of a fixed pause."""
import time
from collections.abc import Callable


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Returns when `condition()` is true; raises AssertionError if it is not after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"the condition is not true after {seconds:g} s"
        time.sleep(0.002)
