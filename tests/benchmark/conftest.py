"""Servers to measure that cost nothing to start: null servers, with work of a known length where asked."""
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache

import pytest

from benchmark.targets.child import Child, free_ports, python_module
from benchmark.targets.starting import Instance
from benchmark.targets.target import Target


@dataclass(frozen=True)
class NullServer:
    rest: str
    grpc: str
    child: Child


@pytest.fixture(scope="session")
def null_server() -> Iterator[Callable[..., NullServer]]:
    """null_server(work_ms=...) starts one and returns it once it answers; `number` tells those of equal work apart."""
    with ExitStack() as stack:
        @cache
        def start(work_ms: float = 0.0, number: int = 0) -> NullServer:
            rest, grpc = free_ports(2)
            argv = python_module("benchmark", "null-server", "--rest-port", str(rest), "--grpc-port", str(grpc),
                                 "--work-ms", str(work_ms))
            child = stack.enter_context(Child("null server", argv))
            server = NullServer(f"http://127.0.0.1:{rest}", f"127.0.0.1:{grpc}", child)
            Instance(Target("null", "null", "address"), child, server.rest, server.grpc).wait()
            return server
        yield start
