"""The first run of a version, with zeros: it shows whether the version can answer at all."""
import logging
from collections.abc import Callable, Sequence
from typing import Any

from serving.errors import Code, ServingError
from serving.pace import Pace
from serving.servable import Array

log = logging.getLogger("serving")

Zeros = tuple[Sequence[str], Sequence[Array], Sequence[str]]


def run_zeros(model: Any, zeros: Callable[[], Zeros | None]) -> None:  # decision 81
    """Sets `model.answers` by one run of it. `zeros`: feeds, values and fetches; None: it must not be tried.

    A version that refuses the zeros as invalid counts as able to answer, since they are made up.
    """
    try:
        made = zeros()
        if made is not None:
            model.answers = False
            model.run(*made)
    except ServingError as error:
        model.answers = error.code is Code.INVALID_ARGUMENT
        if not model.answers:
            log.warning("version %s of model %s is loaded, but cannot answer, and is not ready: %s: %s%s",
                        model.version, model.name, error.code.name, error, error.advice and f" {error.advice}")


def pace_of_runs() -> Pace:
    """Which runs of a graph are quick enough to be done in the calling thread."""
    return Pace(0.0005, 0.002)
