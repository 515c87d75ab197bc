"""Real-time scheduling of the generator: only while it keeps a schedule, and everything is restored afterwards."""
import gc
import os
import sys
import threading

import pytest

from benchmark.issuing.real_time import on_time, quick_switching


def test_all_threads_are_real_time_inside_and_none_after() -> None:
    seen, native_ids, go, end = list[int](), list[int](), threading.Event(), threading.Event()

    def work(policy: int) -> None:
        os.sched_setscheduler(0, policy, os.sched_getparam(0))
        native_ids.append(threading.get_native_id())
        go.wait(60)
        seen.append(os.sched_getscheduler(0))
        end.wait(60)
    early = threading.Thread(target=work, args=[os.SCHED_BATCH])
    early.start()
    while not native_ids:
        pass
    with on_time() as real_time:
        late = threading.Thread(target=lambda: work(os.sched_getscheduler(0)))
        late.start()
        go.set()
        while len(seen) < 2:
            pass
        assert seen == [os.sched_getscheduler(0)] * 2
        assert (seen[0] == os.SCHED_RR) is real_time
    tasks = {int(task): os.sched_getscheduler(int(task)) for task in os.listdir("/proc/self/task")}
    end.set()
    early.join()
    late.join()
    assert tasks.pop(native_ids[0]) == os.SCHED_BATCH
    assert set(tasks.values()) == {os.SCHED_OTHER}


def test_without_permission_the_scheduling_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError
    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with on_time() as real_time:
        assert not real_time
        assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_existing_objects_are_left_out_of_garbage_collections() -> None:
    before = sys.getswitchinterval()
    with quick_switching():
        assert gc.get_freeze_count() > 1000
        assert sys.getswitchinterval() < before
    assert gc.get_freeze_count() == 0
    assert sys.getswitchinterval() == before
