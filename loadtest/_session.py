"""The state of one Locust process, and its actions at the start, at each report to the master and at the end."""
import logging
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import gevent
import psutil
from gevent.lock import Semaphore
from locust import events
from locust.runners import MasterRunner, WorkerRunner

import _options
import _shapes
from _options import Settings
from _recorder import Recorder, table, verdicts
from _work import Work
from user_error import UserError
from whole_file import write_json

EXIT_MISSED = 1
EXIT_COULD_NOT_RUN = 2
POLL_S = 0.1
LAST_REPORT_S = 15.0

log = logging.getLogger("loadtest")


class Session:
    """What the users of one process share. The first call of `work(kind)` makes it, later calls return the same."""

    def __init__(self, environment: Any) -> None:
        self.environment = environment
        self.recorder = Recorder()
        self.recorders = [self.recorder]  # a ramp adds one for its last seconds
        self.reports: Counter[str] = Counter()  # of each worker
        self._work: dict[str, Work] = {}
        self._lock = Semaphore()
        self._users = 0

    @property
    def settings(self) -> Settings:
        # Read each time, because a worker gets its master's options only when a test starts.
        return _options.settings(self.environment.parsed_options)

    def work(self, kind: str, make: Callable[[Settings], Work]) -> Work:
        with self._lock:
            if kind not in self._work:
                self._work[kind] = make(self.settings)
            return self._work[kind]

    def is_current(self, work: Work) -> bool:
        return any(current is work for current in self._work.values())

    def next_user(self) -> int:
        """A number that no other user of this test has, also on other workers."""
        self._users += 1
        runner = self.environment.runner
        return self._users + 100_000 * (runner.worker_index if isinstance(runner, WorkerRunner) else 0)

    def merge(self, worker: str, taken: list[Any]) -> None:
        self.reports[worker] += 1
        for recorder in self.recorders:
            recorder.merge(taken)

    def start(self) -> None:
        for recorder in self.recorders:
            recorder.clear()
        self._work.clear()
        self._users = 0

    def finish(self) -> None:
        """Shows and writes the histograms, and sets the exit status by the objectives."""
        if isinstance(self.environment.runner, MasterRunner):
            self.environment.runner.quit()  # after Ctrl-C too, the workers' last reports come with it
        settings, entries = self.settings, self.recorder.to_json()
        found = verdicts(self.recorder, settings.objectives, settings.max_error_ratio)
        if entries:
            print(f"\n{table(entries)}", file=sys.stderr)
        for verdict in found:
            print(verdict, file=sys.stderr)
        if settings.hdr:
            write_json(settings.hdr, {"requests": entries, "verdicts": [vars(verdict) for verdict in found]})
        if found and self.environment.process_exit_code is None:
            self.environment.process_exit_code = 0 if all(verdict.kept for verdict in found) else EXIT_MISSED


def of(environment: Any) -> Session:
    session: Session = environment.tfserving_session
    return session


@events.init_command_line_parser.add_listener
def _declare(parser: Any, **_: Any) -> None:
    _options.add_arguments(parser)


@events.init.add_listener
def _begin(environment: Any, runner: Any, **_: Any) -> None:
    session = environment.tfserving_session = Session(environment)
    environment.events.test_start.add_listener(lambda **_: session.start())
    if isinstance(runner, MasterRunner):
        environment.events.worker_report.add_listener(
            lambda client_id, data: session.merge(client_id, data.pop("hdr", [])))
    else:
        environment.events.request.add_listener(_recording(session))
    if isinstance(runner, WorkerRunner):
        environment.events.report_to_master.add_listener(
            lambda client_id, data: data.update(hdr=session.recorder.take()))
        return
    environment.events.quitting.add_listener(lambda **_: _or_exit(session.finish))
    _or_exit(lambda: _prepare(session))


def _prepare(session: Session) -> None:
    environment, settings = session.environment, session.settings
    if settings.shape:
        environment.shape_class = _shapes.Planned(environment.parsed_options, settings)
        environment.shape_class.runner = environment.runner
        session.recorders.append(environment.shape_class.window)
    if settings.requests:
        environment.events.spawning_complete.add_listener(
            lambda **_: environment.runner.greenlet.spawn(_quit_when_users_are_done, session))
    if environment.parsed_options.headless:
        # If the server cannot be reached, this gives one error line now instead of a traceback per user later.
        for user_class in environment.user_classes:
            user_class.prepare_work(session)


def _quit_when_users_are_done(session: Session) -> None:
    """With --requests-per-user the run is over when the last user has stopped itself and its worker has reported."""
    runner = session.environment.runner
    while runner.user_count:
        gevent.sleep(POLL_S)
    if isinstance(runner, MasterRunner):
        # A quitting master waits only half a second for the last reports, which is too short on a busy machine.
        before = session.reports.copy()
        with gevent.Timeout(LAST_REPORT_S, False):  # a worker that died sends none
            while any(session.reports[worker] == before[worker] for worker in runner.clients):
                gevent.sleep(POLL_S)
    runner.quit()


def _recording(session: Session) -> Callable[..., None]:
    def record(request_type: str, name: str, response_time: float, exception: Any, context: Any, **_: Any) -> None:
        for recorder in session.recorders:
            recorder.record((request_type, name), response_time, exception is not None,
                            (context or {}).get("service_ms"))
    return record


def _or_exit(action: Callable[[], None]) -> None:
    try:
        action()
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        for worker in psutil.Process().children():
            # Forked by --processes; they would wait for their master forever.
            worker.terminate()
        sys.exit(EXIT_COULD_NOT_RUN)
