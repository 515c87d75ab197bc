"""Null servers to measure: they start quickly and, if a test asks for it, work for a known time on each request."""
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest
from null_server import NullServer, running_null_server


@pytest.fixture(scope="session")
def null_server() -> Iterator[Callable[..., NullServer]]:
    """null_server(work_ms=...) starts a null server once; another `number` starts another server of the same work."""
    with ExitStack() as stack:
        @cache
        def start(work_ms: float = 0.0, number: int = 0) -> NullServer:
            return stack.enter_context(running_null_server(work_ms=work_ms))
        yield start
