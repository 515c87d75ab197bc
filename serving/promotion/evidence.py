"""Evidence that may be looked at after every observation: e-processes.

An e-process starts at 1, and while its null hypothesis is true it reaches 1/a in at most a share `a` of all sequences,
however long they go on (Ville's inequality). So who decides at 1/a is wrong at most that often, whenever he looks. It
is the wealth of somebody who bets against the null hypothesis at fair odds.

Sources: Shafer, "Testing by betting", JRSS A 2021; Ramdas, Grünwald, Vovk, Shafer, "Game-theoretic statistics and safe
anytime-valid inference", Statistical Science 2023; for `Centre` those of confidence_sequence.py.
"""
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from confidence_sequence import CLIPPED, LEAST

# The number of values at which `Centre` sees the least.
_SHARPEST = 300


class Share:
    """Evidence that events are more frequent than a share `null`, or less frequent: whatever the alternatives are.

    The likelihood ratio to `null`, as the mean over the alternatives, which must all lie on one side of it.
    """

    def __init__(self, null: float, alternatives: Sequence[float]) -> None:
        assert all(other > null for other in alternatives) or all(other < null for other in alternatives)
        self._happened = [math.log(other / null) for other in alternatives]
        self._not = [math.log1p(-other) - math.log1p(-null) for other in alternatives]
        self._logs = [0.0] * len(alternatives)

    def add(self, happened: bool) -> None:
        """One more observation."""
        self._logs = [log + more for log, more in zip(self._logs, self._happened if happened else self._not,
                                                      strict=True)]

    @property
    def log(self) -> float:
        """The logarithm of the evidence."""
        return mean(self._logs)


def mean(logs: Sequence[float]) -> float:
    """The logarithm of the mean of evidence that is given by logarithms: it is evidence again."""
    most = max(logs)
    return most + math.log(sum(math.exp(one - most) for one in logs) / len(logs))


class Centre:
    """Evidence that values are symmetric about something above `place` (`above`), or below it.

    Values far off count as if they were nearer; the first ones only say how far values are apart.
    """

    def __init__(self, place: float) -> None:
        self._place, self._values, self._known = place, list[float](), LEAST
        self._spread, self._sum, self._squares = 1.0, 0.0, 0.0

    def add(self, value: float) -> None:
        """One more observation."""
        if len(self._values) == self._known:
            self._spread, self._known = _spread(self._values), 2 * self._known
        if len(self._values) >= LEAST:
            clipped = min(CLIPPED, max(-CLIPPED, (value - self._place) / self._spread))
            self._sum, self._squares = self._sum + clipped, self._squares + clipped ** 2
        self._values.append(value)

    @property
    def above(self) -> float:
        """The logarithm of the evidence."""
        return self._log(self._sum)

    @property
    def below(self) -> float:
        """The logarithm of the evidence."""
        return self._log(-self._sum)

    def _log(self, total: float) -> float:
        """Of exp(t total - t^2 squares / 2), the mean over the positive half of a normal distribution of t."""
        precision = self._squares + _SHARPEST / 8
        at = total / math.sqrt(precision)
        # The half of the normal distribution that is left, in a form that does not vanish for what speaks against it.
        half = math.log(math.erfc(-at / math.sqrt(2))) if at > -30 else -math.inf
        return at ** 2 / 2 + half + math.log(_SHARPEST / 8 / precision) / 2


def _spread(values: Sequence[float]) -> float:
    """As a standard deviation, which single values that are far off do not change."""
    found = np.asarray(values)
    return 1.4826 * float(np.median(np.abs(found - np.median(found)))) or float(np.abs(found).max()) * 1e-9 or 1.0
