"""Where a course of ratios moves to another level: pure."""
from collections.abc import Sequence

import numpy as np

# A level lasts at least so many runs: one run that lies elsewhere is an outlier.
LEAST_RUNS = 3
# In units of the spread. With it 0 to 1 of 100 courses of equal runs show a change, also if their errors have heavy
# tails, and 9 of 10 courses of 20 runs show one by three times the spread, within a run of its place.
_PENALTY = 6.0
_LEAST_SPREAD = 1e-4


def changes(values: Sequence[float], errors: Sequence[float]) -> list[int]:
    """The indices at which another level begins, in a course of values with their standard errors.

    A change must stand out from how much a value differs from the one before, and from the errors. Levels are medians,
    so an outlier moves none (Killick, Fearnhead, Eckley 2012, "Optimal Detection of Changepoints With a Linear
    Computational Cost", with the sum of absolute distances as the cost).
    """
    import ruptures  # takes half a second, and every command of the package imports this module

    found = np.asarray(values, dtype=np.float64)
    if found.size < 2 * LEAST_RUNS:
        return []
    # The median absolute step between neighbours, as the standard deviation of a value: few steps are changes.
    from_steps = float(np.median(np.abs(np.diff(found)))) / 0.6745 / 2 ** 0.5
    spread = max(from_steps, float(np.median(errors)), _LEAST_SPREAD)
    search = ruptures.Pelt(model="l1", min_size=LEAST_RUNS, jump=1).fit((found / spread)[:, None])
    return [int(index) for index in search.predict(pen=_PENALTY)[:-1]]
