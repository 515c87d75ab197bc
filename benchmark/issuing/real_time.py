"""Keeps a load generator's threads on time on a busy machine."""
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
    """A thread whose request is due gets the interpreter within 0.2 ms instead of 5 ms; garbage collections are short.

    They are short because objects from before the run are excluded from them.
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
    """Gives the process real-time priority: threads wake when their sleep ends, even if other processes use all CPUs.

    Only for threads that mostly sleep. All threads of the process get the priority, new ones too: a thread without it
    would keep the interpreter from all others while it waits for a CPU. Needs root, CAP_SYS_NICE or `ulimit -r`; yields
    whether it was allowed.
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
