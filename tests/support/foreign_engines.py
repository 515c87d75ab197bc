"""Versions for engines that only studies compare with, and their answers in a process of their own."""
from pathlib import Path
from typing import Any

from benchmark.targets.in_process.connection import Engine, InProcessConnection

READY_S = 120.0


def answered(kind: str, version: Path, *requests: dict[str, Any], signature: str = "", **how: Any
             ) -> list[dict[str, Any]]:
    """The answers by output key. `how`: see Engine. Raises what the engine raises, FailedError if it does not load."""
    with Engine(kind, kind, version, signature, grappler=True, **how) as engine:
        engine.wait_until(engine.loaded, READY_S, "while loading the model")
        connection = InProcessConnection(engine)
        return [connection.timed(connection.prepare(each))[1] for each in requests]
