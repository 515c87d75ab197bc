"""Ratios of times that no benchmark measured, where `optimize` would measure its candidates.

    times = MadeUpTimes({"int8": 3.0}, others=0.99)
    with replaced(times):
        export.optimize(...)
    times.asked     # what would have been measured
"""
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from export.precision.timing import Timing
from serving.client import payloads

FLOOR = 0.01
_WIDTH = 0.02  # of the interval, to each side, as a share of the ratio


class MadeUpTimes:
    """`ratios`: by candidate, at all batch sizes or by batch size; or the exception that measuring ends with.

    A candidate of another engine is called NAME@ENGINE.
    """

    def __init__(self, ratios: Mapping[str, float | Mapping[int, float]] | BaseException | None = None,
                 others: float = 1.0) -> None:
        self.ratios, self.others = ratios or {}, others
        self.asked: list[tuple[str, tuple[str, ...], tuple[int, ...]]] = []  # baseline, candidates, batch sizes

    def compare(self, timing: Timing, baseline: str, names: Sequence[str], to: Path) -> dict[str, Any]:
        """In place of `Timing.compare`: everything that it would need is there."""
        for name in (baseline, *names):
            assert (timing.folder / name.partition("@")[0] / "1/saved_model.pb").exists(), name
        assert timing.samples is not None
        assert payloads.load_samples(timing.samples)
        assert to.parent.is_dir()
        self.asked.append((baseline, tuple(names), timing.batches))
        if isinstance(self.ratios, BaseException):
            raise self.ratios
        return {"comparisons": [self._comparison(name, batch) for name in names for batch in timing.batches]}

    def _comparison(self, name: str, batch: int) -> dict[str, Any]:
        assert not isinstance(self.ratios, BaseException)
        found = self.ratios.get(name, self.others)
        ratio = found if isinstance(found, float) else found[batch]
        low, high = ratio * (1 - _WIDTH), ratio * (1 + _WIDTH)
        verdict = "faster" if low > 1 + FLOOR else "slower" if high < 1 - FLOOR else "cannot tell"
        return {"metric": "typical", "candidate": f"session:{name}", "batch": batch, "ratio": ratio,
                "ci95": [low, high], "floor": FLOOR, "verdict": verdict, "reasons": []}


@contextmanager
def replaced(times: MadeUpTimes) -> Iterator[None]:
    """Within the context, nothing is measured."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Timing, "compare", lambda timing, *given: times.compare(timing, *given))
        yield
