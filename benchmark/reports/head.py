"""What every result begins with: its kind and format, the model, a description of the inputs, and the conditions."""
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NotRequired, Protocol, TypedDict

from benchmark.reports.environment import Environment, environment, steal_s

FORMAT = 1


class Head(TypedDict):
    """The keys that results of all kinds have."""

    kind: str
    format: int
    model: str
    inputs: str
    environment: Environment
    interrupted: NotRequired[bool]  # the run was stopped early: only its finished rounds are in the result


class Named(Protocol):
    """The properties of a target that a head is made from; without a version directory it has no digest."""

    @property
    def name(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def version_directory(self) -> Path | None: ...
    @property
    def files(self) -> Sequence[Path] | None: ...


def head(kind: str, targets: Sequence[Named], seed: int, inputs: str = "") -> Head:
    """The head of a result about `targets`, with the present conditions."""
    versions = {target.name: (path, target.files) for target in targets if (path := target.version_directory)}
    return {"kind": kind, "format": FORMAT, "model": targets[0].model, "inputs": inputs,
            "environment": environment(versions, seed)}


@contextmanager
def stolen_time(conditions: Environment) -> Iterator[None]:
    """Adds to the conditions how many CPU seconds other machines on the host took while the with block ran."""
    began = steal_s()
    try:
        yield
    finally:
        conditions["steal_s"] = round(steal_s() - began, 2)
