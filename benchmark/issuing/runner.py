"""Sends the requests of a scenario, on a schedule or in a closed loop: one thread for each connection."""
import threading
from collections.abc import Callable, Sequence
from time import perf_counter, process_time, sleep

from benchmark.issuing.real_time import on_time, quick_switching
from benchmark.targets.connections import PreparedConnection
from benchmark.verdicts.arrivals import Array, Closed, Offline
from benchmark.verdicts.measurement import Measurement, Recorder
from benchmark.verdicts.scenario import Scenario
from user_error import UserError

MAX_WORKERS = 64
GRACE_S = 5.0


def workers_for(scenario: Scenario) -> int:
    """The number of connections: a closed loop's clients; for an open loop one for each request of a second (8 to 64),
    so that requests are still sent on time if the server needs up to a second for each."""
    if isinstance(scenario.arrivals, Closed | Offline):
        return scenario.arrivals.clients
    return int(min(MAX_WORKERS, max(8, scenario.rate_per_s or 0)))


def run(scenario: Scenario, connections: Sequence[PreparedConnection], measure_s: float | None = None) -> Measurement:
    """One measured run over open connections (one thread each). Checking an answer is not part of its latency.

    Raises UserError if the schedule of an open loop has no request in the measured time.
    """
    seconds = scenario.measure_s if measure_s is None else measure_s
    if isinstance(scenario.arrivals, Closed | Offline):
        recorders, wall, cpu = _threads(
            connections, lambda connection, recorder, began: _closed(connection, recorder, began, seconds))
        scheduled, real_time = None, False
    else:
        starts = scenario.arrivals.schedule(seconds)
        if not len(starts):
            raise UserError(f"no request falls into {seconds:g} s at {scenario.rate_per_s:g}/s: measure longer")
        queue = _Schedule(starts)
        with on_time() as real_time:
            recorders, wall, cpu = _threads(
                connections, lambda connection, recorder, began: _open(connection, recorder, began, queue))
        recorders[0].dropped += queue.left()
        # An open loop takes the scheduled time; only a server that falls behind makes it longer.
        wall, scheduled = max(wall, seconds), len(starts)
    total = Recorder()
    for recorder in recorders:
        total.merge(recorder)
    wrong = next((connection.checker.first_wrong for connection in connections if connection.checker.first_wrong), None)
    return Measurement(scenario, total, scheduled, wall, cpu, first_wrong=wrong, real_time=real_time)


class _Schedule:
    """The intended starts of an open loop, which free workers take one by one."""

    def __init__(self, starts: Array) -> None:
        self._starts = starts.tolist()
        self._next = 0
        self._lock = threading.Lock()
        self.give_up = self._starts[-1] + GRACE_S

    def take(self) -> tuple[int, float] | None:
        with self._lock:
            if self._next == len(self._starts):
                return None
            index = self._next
            self._next += 1
        return index, self._starts[index]

    def left(self) -> int:
        return len(self._starts) - self._next


def _open(connection: PreparedConnection, recorder: Recorder, began: float, queue: _Schedule) -> None:
    while perf_counter() - began < queue.give_up and (taken := queue.take()):
        index, start = taken
        intended = began + start
        while (wait := intended - perf_counter()) > 0:
            sleep(wait)
        _send(connection, recorder, index, intended)


def _closed(connection: PreparedConnection, recorder: Recorder, began: float, seconds: float) -> None:
    index, until = 0, began + seconds
    while (now := perf_counter()) < until:
        _send(connection, recorder, index, now)
        index += 1


def _send(connection: PreparedConnection, recorder: Recorder, index: int, intended: float) -> None:
    started = perf_counter()
    try:
        seconds, raw = connection.send(index)
    except UserError as error:
        recorder.errors[str(error)] += 1
        return
    recorder.record(intended, started, seconds)
    if not connection.right(index, raw):
        recorder.wrong += 1


def _threads(connections: Sequence[PreparedConnection], work: Callable[[PreparedConnection, Recorder, float], None]
             ) -> tuple[list[Recorder], float, float]:
    """Runs work(connection, recorder, start) in a thread for each connection; all have the same start.

    Returns (recorders, wall seconds, CPU seconds).
    """
    recorders, failures = [Recorder() for _ in connections], list[BaseException]()
    began = 0.0

    def guarded(connection: PreparedConnection, recorder: Recorder) -> None:
        try:
            sleep(max(0.0, began - perf_counter()))
            work(connection, recorder, began)
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            failures.append(error)
    threads = [threading.Thread(target=guarded, args=pair, daemon=True)
               for pair in zip(connections, recorders, strict=True)]
    with quick_switching():
        # The common start is 50 ms ahead, so that the time to create the threads is part of no latency.
        began, cpu = perf_counter() + 0.05, process_time()
        for thread in threads:
            thread.start()
        for thread in threads:
            # With a timeout, so that Ctrl-C and SIGTERM are handled while waiting.
            while thread.is_alive():
                thread.join(0.5)
        wall, cpu = perf_counter() - began, process_time() - cpu
    if failures:
        raise failures[0]
    return recorders, wall, cpu
