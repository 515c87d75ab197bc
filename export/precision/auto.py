"""--precision auto: makes candidates, proves and times them, publishes the fastest, and says why the others lost."""
from __future__ import annotations

from typing import Any

import cpu_class
from export.engines.candidate import every
from export.job import Job
from export.outcome import NotEqualError, Optimized
from export.precision import publication, variant
from export.precision.candidates import Float32, Lower, Rows, Towers, towers_of
from export.precision.choice import FLOAT32, ORIGINAL, Ratios, choose
from export.precision.reduction import ALL
from export.precision.reference import Reference
from export.precision.table import table
from export.precision.trial import Trials
from export.precision.variant import KINDS, Variants
from export.precision.workspace import workspace
from export.prepared import prepared
from user_error import UserError

_FEW = 4  # examples in a request; rows gain where a convolution has few pixels


def published(job: Job, wanted: dict[str, Any]) -> Optimized:
    """The job's next version: the fastest candidate, or float32, or the source if nothing is better (decision 180).

    Raises NotEqualError if not even the float32 graph has equal answers, UserError if the source cannot be asked.
    """
    if job.allow_random:  # the bounds that --atol and --rtol state hold for the float32 graph
        raise UserError("--allow-random has no effect with --precision auto: leave that signature out with "
                        "--signatures")
    with workspace(job.base) as work, prepared(job) as ready:
        variant.refuse_unknown_names(ready)
        reference = Reference(ready)
        trials = Trials(ready, reference, work, wanted)
        plain = Float32(ready)
        refuse_unequal(trials, plain)
        variants = Variants(ready, reference)
        lower = [Lower(ready, reference, variants, kind) for kind in KINDS]
        for candidate in lower:
            trials.attempt(candidate)
        for other in every(ready, reference) if job.reduction.engines == ALL else ():
            trials.attempt(other)
        measured = _timed(trials, [plain, *lower])
        choice = choose(measured)
        for name, ratios in measured.items():
            trials.tried[name].time(ratios)
        for name, why in choice.lost.items():
            trials.tried[name].lost = why
        said = f"Chosen on {cpu_class.current()}: {choice.why}"
        candidates = [one.to_json() for one in trials.tried.values()]
        return publication.published(
            trials, choice.name, wanted, [table(trials.tried, choice.name, trials.batches), said],
            why=choice.why, batch_of_interest=list(trials.batches), signature=trials.signature, candidates=candidates)


def refuse_unequal(trials: Trials, plain: Float32, alive: bool = True) -> None:
    """Raises NotEqualError if the float32 graph is wrong: everything else would be made from it."""
    one, ready = trials.attempt(plain, alive), trials.ready
    if one.lost:
        report = trials.report(FLOAT32)
        raise NotEqualError(ready.steps, report, {
            "path": None, "reasons": report.all_reasons() or [one.lost], **ready.report.to_json(),
            "equality": report.by_signature()}, f"float32: {one.lost}" if report.equal else "")


def _timed(trials: Trials, made: list[Float32 | Lower]) -> dict[str, Ratios]:
    """The ratios of all survivors, and of the two-tower form of the best.

    Starting the processes takes longer than measuring, so the forms of the candidate that is most often the best are
    measured with the others. Only if another is the best, its towers are measured beside it in a second comparison.
    """
    likely = [one for one in made if one.name in trials.survivors][-1]
    _attempt_towers(trials, likely)
    if isinstance(likely, Lower) and likely.precision != "bfloat16" and min(trials.batches) <= _FEW:
        trials.attempt(Rows(trials.ready, likely, frozenset(trials.tried[likely.name].kept)))
    measured = trials.timed(ORIGINAL, trials.survivors)
    chosen = choose(measured).name
    best = next((one for one in made if chosen in (one.name, towers_of(one.name))), None)
    if best is None or best is likely or not _attempt_towers(trials, best):
        return measured
    return measured | trials.timed(ORIGINAL, [best.name, towers_of(best.name)])


def _attempt_towers(trials: Trials, of: Float32 | Lower) -> bool:
    return trials.attempt(Towers(trials.ready, of, frozenset(trials.tried[of.name].kept))).survives
