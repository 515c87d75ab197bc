"""Models built once, and a server for each configuration that a case names, started when a test first needs it."""
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from contract_servers import START, ContractServer, cases, configurations, running
from proof import Proof


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


@pytest.fixture(scope="session")
def grade(request: pytest.FixtureRequest) -> Iterator[Callable[[str, str], None]]:
    """grade(id, "exact" | "equal" | "deviation") grades a case that has passed; `make proof` stores the counts.

    "equal": a server start that differs from the recorded one only in its exit status, or in printing a line to
    stdout instead of stderr or the reverse.
    """
    grades: dict[str, str] = {}
    yield grades.__setitem__
    if START or "proof" not in request.config.option.markexpr.replace("not proof", ""):
        return
    proof = Proof("contract", seed=0, about=["serving", "tests/contract", "tests/support"])
    for kind in ("rest", "grpc", "lifecycle", "startup"):
        ids = [case["id"] for case in cases(f"{kind}.jsonl")]
        if all(name in grades for name in ids):
            proof.row(kind, lambda ids=ids: {  # type: ignore[misc]
                "cases": len(ids), **Counter(grades[name] for name in ids),
                "deviating": [name for name in ids if grades[name] == "deviation"]})
