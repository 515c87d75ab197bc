"""Models built once, and a server for each configuration that a case names, started when it is first asked for."""
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from contract_servers import ContractServer, configurations, running


@pytest.fixture(scope="session")
def contract_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the models that the cases use."""
    import contract_models
    root = tmp_path_factory.mktemp("models")
    contract_models.build(root)
    return root


@pytest.fixture(scope="session")
def contract_server(contract_models: Path,
                    tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], ContractServer]]:
    """contract_server(name): the running server of that configuration; all stop at the end of the session."""
    configs, started = configurations(), dict[str, ContractServer]()
    with ExitStack() as stack:

        def start(name: str) -> ContractServer:
            if name not in started:
                work = tmp_path_factory.mktemp(name)
                started[name] = stack.enter_context(running(configs[name], contract_models, work))
            return started[name]

        yield start
