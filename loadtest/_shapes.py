"""Load shapes. In a module that Locust does not search: a shape class found there would always override -u."""
import sys
from typing import Any

from locust import LoadTestShape

from _options import Settings
from _plan import planned_users
from _recorder import Recorder, verdicts

DEFAULT_USERS = 10
DEFAULT_RUN_S = 60.0
JUDGED_EVERY_S = 2.0


class Planned(LoadTestShape):
    """--shape, over -t seconds and up to -u users. A ramp ends at the first failure or missed objective."""
    use_common_options = True

    def __init__(self, options: Any, settings: Settings) -> None:
        super().__init__()
        self._settings = settings
        self._shape = settings.shape or "steps"
        self._users = options.num_users or DEFAULT_USERS
        self._run_s = float(options.run_time or DEFAULT_RUN_S)
        self._rate = float(options.spawn_rate or 100)
        self._judged_at = 0.0
        self.window = Recorder()  # what was recorded since the ramp was last judged

    def tick(self) -> tuple[int, float] | None:
        elapsed = self.get_run_time()
        users = planned_users(self._shape, elapsed, self._run_s, self._users)
        if users is None or (self._shape == "ramp" and self._failed(elapsed)):
            return None
        return users, self._rate

    def _failed(self, elapsed: float) -> bool:
        if elapsed - self._judged_at < JUDGED_EVERY_S:
            return False
        self._judged_at = elapsed
        judged = verdicts(self.window, self._settings.objectives, self._settings.max_error_ratio or 0.0)
        missed = [verdict for verdict in judged if not verdict.kept]
        if missed and self.window.keys:
            print(f"ramp ended with {self.get_current_user_count()} users: {missed[0]}", file=sys.stderr)
            return True
        self.window.clear()
        return False
