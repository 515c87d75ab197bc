"""The project's servers with a numpy model, and each kind of client."""
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from echo_servers import Servers

from serving.client.grpc import GrpcClient
from serving.client.one_off import OneOffRestClient
from serving.client.rest import RestClient


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    started = Servers()
    yield started
    started.stop()


@pytest.fixture(params=["rest", "rest one-off", "grpc"])
def client(request: Any, servers: Servers) -> Iterator[Callable[..., Any]]:
    """client(model) makes a client, by default of the model `echo`; the test is repeated for each kind of client."""
    kind, address = {"rest": (RestClient, servers.rest), "rest one-off": (OneOffRestClient, servers.rest),
                     "grpc": (GrpcClient, servers.grpc)}[request.param]
    made: list[Any] = []

    def make(model: str = "echo", **options: Any) -> Any:
        made.append(kind(address, model, **options))
        return made[-1]
    yield make
    for each in made:
        each.close()
