"""Locust runs in a child process, since importing it patches the whole interpreter for gevent."""
import sys
from collections.abc import Callable, Iterator

import pytest
from locust_runs import LOADTEST, Run, run_locust
from null_server import NullServer, running_null_server

sys.path.append(str(LOADTEST))


@pytest.fixture
def locust() -> Callable[..., Run]:
    return run_locust


@pytest.fixture(scope="session")
def null_server() -> Iterator[NullServer]:
    """A server that returns its input without delay."""
    with running_null_server() as server:
        yield server
