"""How long each stage of a request took in the server, reported to clients that ask for it.

A request with the header (gRPC: metadata) `x-server-timing: 1` gets the durations of its stages with its answer, in
the header (gRPC: trailing metadata) `server-timing`, in the format of W3C Server Timing:

    parse;dur=0.412, queue;dur=0.005, run;dur=3.310, render;dur=0.251, engine;desc=tensorflow        (milliseconds)

`engine` is what runs the version that answered; an answer of no version has none. A request that does not ask is not
timed.
"""
import re
from collections.abc import Callable, Container, Mapping, Sequence
from time import perf_counter
from typing import Any

from serving.servable import Array, Servable, Signature

REQUEST_HEADER, ANSWER_HEADER = "x-server-timing", "server-timing"
REQUESTED = (REQUEST_HEADER, "1")
PARSE, QUEUE, RUN, RENDER = STAGES = "parse", "queue", "run", "render"
_STAGE = re.compile(r"(\w+);dur=([\d.]+)")


def asked(headers: Container[tuple[str, str]]) -> bool:
    """Whether a request with these headers, or this metadata, asks for its timing."""
    return REQUESTED in headers


class Stopwatch:  # decision 75
    """The stages of one request. Each begins when the previous one ends, so their sum is the whole time."""

    def __init__(self, stage: str, began: float) -> None:
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._stage, self._since = stage, began
        self.engine = ""

    def enter(self, stage: str) -> None:
        """Ends the current stage and begins `stage`."""
        now = perf_counter()
        self._seconds[self._stage] += now - self._since
        self._stage, self._since = stage, now

    def text(self) -> str:
        """All stages so far, and the engine, as the value of `server-timing`."""
        self.enter(self._stage)
        stages = [f"{stage};dur={seconds * 1e3:.4f}" for stage, seconds in self._seconds.items()]
        return ", ".join([*stages, f"engine;desc={self.engine}"] if self.engine else stages)


class Watched:
    """A servable that times its runs: the wait until the graph starts (for a batch), and the run of the graph."""

    def __init__(self, servable: Servable, watch: Stopwatch) -> None:
        self._servable = servable
        self._watch = watch
        watch.engine = servable.engine

    @property
    def name(self) -> str:
        return self._servable.name

    @property
    def version(self) -> int:
        return self._servable.version

    @property
    def engine(self) -> str:
        return self._servable.engine

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._servable.signatures

    @property
    def metadata(self) -> Any:
        return self._servable.metadata

    def run(self, feeds: Sequence[str], values: Sequence[Array], fetches: Sequence[str],
            timeout_s: float | None = None, started: Callable[[], None] | None = None) -> list[Array]:
        """See Servable.run."""
        self._watch.enter(QUEUE)
        results = self._servable.run(feeds, values, fetches, timeout_s, lambda: self._watch.enter(RUN))
        self._watch.enter(RENDER)
        return results


def read(text: str) -> dict[str, float]:
    """A `server-timing` value as {stage: milliseconds}."""
    return {stage: float(milliseconds) for stage, milliseconds in _STAGE.findall(text)}
