"""What keeps a load generator's threads on time on a machine that is busy."""
import ctypes
import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

PR_SET_TIMERSLACK = 29
LEAST_PRIORITY = 1


@contextmanager
def quick_switching() -> Iterator[None]:
    """A thread whose request is due gets the interpreter within 0.2 ms instead of 5; collections are short.

    A full collection looks at every object there is; what was there before the run is left out of it.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0002)
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        sys.setswitchinterval(before)


@contextmanager
def on_time() -> Iterator[bool]:
    """Threads wake when their sleep ends, not when others have used up their time: for threads that mostly sleep.

    Where that is allowed (root, CAP_SYS_NICE or `ulimit -r`) the whole process is real-time meanwhile, new threads
    included: one that is not would keep the interpreter from all others while it waits for a CPU. Yields whether it is.
    """
    if sys.platform != "linux":
        yield False
        return
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_TIMERSLACK, 1)  # else the kernel may wake a thread 50 us late, to save power
    before = _policies()
    for thread in before:
        _schedule(thread, os.SCHED_RR, os.sched_param(LEAST_PRIORITY))
    try:
        yield os.sched_getscheduler(0) == os.SCHED_RR
    finally:
        new = before[threading.get_native_id()]
        for thread in _policies():
            _schedule(thread, *before.get(thread, new))
        libc.prctl(PR_SET_TIMERSLACK, 0)


def _policies() -> dict[int, tuple[int, Any]]:
    """{thread: (policy, parameters)} of this process."""
    found = {}
    for thread in map(int, os.listdir("/proc/self/task")):
        with suppress(OSError):  # it has just ended
            found[thread] = os.sched_getscheduler(thread), os.sched_getparam(thread)
    return found


def _schedule(thread: int, policy: int, parameters: Any) -> None:
    with suppress(OSError):  # not allowed, or it has just ended
        os.sched_setscheduler(thread, policy, parameters)
