"""When requests are meant to start: pure schedules in seconds from the start of a run, computed before it starts."""
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@runtime_checkable
class OpenLoop(Protocol):
    """Arrivals that do not wait for earlier answers, like independent users: a slow server gets a growing queue."""

    @property
    def rate_per_s(self) -> float: ...

    def schedule(self, duration_s: float) -> Array:
        """The intended starts [n], ascending, all below duration_s."""


@dataclass(frozen=True)
class Poisson:
    """Independent users: exponential gaps, the same for the same seed (MLPerf's Server scenario)."""

    rate_per_s: float
    seed: int = 0

    def schedule(self, duration_s: float) -> Array:
        random = np.random.default_rng(self.seed)
        count = random.poisson(self.rate_per_s * duration_s)
        # For a given number of arrivals, those of a Poisson process are uniform, so none is later than duration_s.
        return np.sort(random.uniform(0, duration_s, count))


@dataclass(frozen=True)
class Constant:
    """One request every 1/rate seconds."""

    rate_per_s: float

    def schedule(self, duration_s: float) -> Array:
        return np.arange(int(self.rate_per_s * duration_s), dtype=np.float64) / self.rate_per_s


@dataclass(frozen=True)
class Closed:
    """N clients that each wait for an answer before the next request; N = 1 is MLPerf's SingleStream."""

    clients: int = 1


@dataclass(frozen=True)
class Offline:
    """All samples are available from the start and only the total time counts; `clients` requests are in flight."""

    clients: int = 2


Arrivals = Poisson | Constant | Closed | Offline
