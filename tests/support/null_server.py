"""`python -m benchmark null-server` as a child process, on free ports."""
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmark.targets.child import Child, free_ports, python_module
from benchmark.targets.starting import Instance
from benchmark.targets.target import Target


@dataclass(frozen=True)
class NullServer:
    """The server's addresses (rest: http://host:port, grpc: host:port) and its process."""

    rest: str
    grpc: str
    child: Child


@contextmanager
def running_null_server(rest: int = 0, grpc: int = 0, work_ms: float = 0.0) -> Iterator[NullServer]:
    """Starts a null server on these ports (0: any free port), and yields it when it answers."""
    free = free_ports(2)
    rest, grpc = rest or free[0], grpc or free[1]
    argv = python_module("benchmark", "null-server", "--rest-port", str(rest), "--grpc-port", str(grpc), "--work-ms",
                         str(work_ms))
    with Child("null server", argv) as child:
        server = NullServer(f"http://127.0.0.1:{rest}", f"127.0.0.1:{grpc}", child)
        Instance(Target("null", "null", "address"), child, server.rest, server.grpc).wait()
        yield server
