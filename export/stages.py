"""How long each stage of a command takes: shown live on a terminal, and as text at the end."""
from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from time import perf_counter

from commandline import step


class Stages:
    """`with stages("load"): ...`; `seconds` by stage, in order.

    If stderr is not a terminal, nothing is written to it, so that it has only the line of an error.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, title: str) -> Iterator[None]:
        began = perf_counter()
        with step(title) if sys.stderr.isatty() else nullcontext():
            yield
        self.seconds[title] = round(self.seconds.get(title, 0.0) + perf_counter() - began, 3)

    def __str__(self) -> str:
        return ", ".join(f"{title} {seconds:.1f} s" for title, seconds in self.seconds.items())
