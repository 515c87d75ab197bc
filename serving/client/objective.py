"""A service level on a command line: `p99=50ms`, `mean=300us`, `max=1s`. One grammar for every --slo."""
import re
from dataclasses import dataclass

from user_error import UserError

_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_GRAMMAR = re.compile(r"(mean|max|p?(\d+(?:\.\d+)?))[=:](\d+(?:\.\d+)?)(us|ms|s)?")


@dataclass(frozen=True)
class Objective:
    """A service level: the latency at `percentile` (0: the mean; 100: the maximum) is at most `seconds`."""
    percentile: float
    seconds: float

    def __str__(self) -> str:
        name = {0.0: "mean", 100.0: "max"}.get(self.percentile) or f"p{self.percentile:g}"
        return f"{name} <= {self.seconds * 1e3:g} ms"


def parse_objective(text: str) -> Objective:
    """Reads "p99=50ms" as Objective(99, 0.05). Without a unit the time is in milliseconds; "99:50" means the same.

    Raises UserError for any other text; a percentile must be above 0 and at most 100, a time above 0.
    """
    match = _GRAMMAR.fullmatch(text)
    percentile = float(match[2] or {"mean": 0, "max": 100}[match[1]]) if match else -1.0
    if not match or (match[2] and not 0 < percentile <= 100) or float(match[3]) == 0:
        raise UserError(f"'{text}' is no objective; write p99=50ms, mean=10ms or max=1s (us, ms or s)")
    return Objective(percentile, float(match[3]) * _UNITS_S[match[4] or "ms"])
