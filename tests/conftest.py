"""Setup for all tests, whichever way the run was started."""
import signal

import pytest

# A shell starts background jobs with SIGINT ignored, and nohup starts its command with SIGHUP ignored. Every child
# process of the tests would inherit that; a signal with a handler has its default action again in a new program.
signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda number, frame: None)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Discards what a worker of `-n` printed outside of tests, such as TensorFlow's start-up messages.

    Otherwise it would appear after the last line of the run.
    """
    if hasattr(session.config, "workerinput"):
        session.config.pluginmanager.getplugin("capturemanager").read_global_capture()
