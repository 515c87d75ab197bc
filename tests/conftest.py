"""What holds for every test, however the run was started."""
import signal

import pytest

# A shell starts its background jobs with SIGINT ignored, and nohup its command with SIGHUP: every process of the tests
# would inherit that. A signal with a handler is back at its default in a new program.
signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda number, frame: None)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of `-n` prints nothing after the run's closing line: TensorFlow's greeting was for no test."""
    if hasattr(session.config, "workerinput"):
        session.config.pluginmanager.getplugin("capturemanager").read_global_capture()
