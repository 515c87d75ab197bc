"""One precision, as asked: published if it is good enough and faster than float32 here, refused otherwise."""
from __future__ import annotations

from typing import Any

from export.engines.candidate import ForEngine
from export.job import Job
from export.outcome import NotEqualError, Optimized, RefusedError
from export.precision import publication, storage, variant
from export.precision.auto import refuse_unequal
from export.precision.candidates import Candidate, Float32, Lower, Storage
from export.precision.choice import FLOAT32, Ratios, in_words, not_faster
from export.precision.layer import FULL
from export.precision.reference import Reference
from export.precision.trial import Trials, Tried
from export.precision.variant import Variants
from export.precision.workspace import workspace
from export.prepared import Prepared, prepared
from other_engines import OTHER_ENGINES
from user_error import UserError


def published(job: Job, wanted: dict[str, Any]) -> Optimized:
    """The job's next version in its precision or storage.

    Raises UserError if it cannot be made, NotEqualError if its answers are too far off, RefusedError if it is not
    faster than float32.
    """
    _refuse_without_effect(job)
    engine = job.reduction.engine
    if engine and (why := OTHER_ENGINES[engine].why_missing(job.reduction.precision == "int8")):
        raise UserError(f"--engine {engine}: {why}")
    with workspace(job.base) as work, prepared(job) as ready:
        if not job.reduction.engine:
            variant.refuse(ready)
        reference = Reference(ready)
        trials = Trials(ready, reference, work, wanted)
        candidate = _candidate(ready, reference)
        if why := candidate.why_not():
            raise UserError(f"{job.reduction}: {why}")
        # Of an engine's version every other server runs saved_model.pb, which is as good as `optimize` alone makes it.
        if job.reduction.engine:
            refuse_unequal(trials, Float32(ready), alive=False)
        one = trials.attempt(candidate)
        if not one.possible:
            what = "cannot be converted" if job.reduction.engine else "has nothing to reduce"
            raise UserError(f"{job.reduction}: {ready.name} {what}: {one.lost}")
        if one.lost:
            raise NotEqualError(ready.steps, trials.report(one.name), _refused(trials, one), f"{one.name}: {one.lost}")
        lines = []
        if not job.reduction.storage and not job.reduction.unmeasured:
            trials.attempt(Float32(ready), alive=False)
            ratios = trials.timed(FLOAT32, [one.name])[one.name]
            one.time(ratios)
            one.lost = pointless(one.name, ratios)
            if one.lost:
                raise RefusedError(one.lost, _refused(trials, one))
            lines = [f"{one.name} is faster than float32: {in_words(ratios)}"]
        return publication.published(trials, one.name, wanted, lines, candidates=[
            tried.to_json() for tried in trials.tried.values()])


def _candidate(ready: Prepared, reference: Reference) -> Candidate:
    asked = ready.job.reduction
    if asked.engine:
        return ForEngine(ready, reference, asked.engine, asked.precision)
    if asked.storage:
        return Storage(ready, storage.kind_of(asked.storage))
    return Lower(ready, reference, Variants(ready, reference), variant.kind(asked.precision))


def pointless(name: str, ratios: Ratios) -> str:
    """Why a variant is not worth publishing, with the figures and the way on; "" if it is faster everywhere."""
    slow = not_faster(ratios)
    if not slow:
        return ""
    batches = [str(batch) for batch, ratio in ratios.items() if not not_faster({batch: ratio})]
    way = f"--batch-of-interest {','.join(batches)} publishes it for that" if batches else (
        "--precision auto publishes the fastest")
    return f"{name} is pointless here, since it is not faster than float32: ratio {slow}; {way}"


def _refuse_without_effect(job: Job) -> None:
    """Raises UserError for an option without effect on what was asked."""
    lossy = job.reduction.precision != FULL or job.reduction.storage is not None
    for option, given, way in (
            ("--atol", lossy and job.atol is not None, "state how far answers may be off with --max-error"),
            ("--rtol", lossy and job.rtol is not None, "state how far answers may be off with --max-error"),
            ("--allow-random", bool(job.allow_random), "leave that signature out with --signatures")):
        if given:
            raise UserError(f"{option} has no effect with {job.reduction}: {way}")


def _refused(trials: Trials, one: Tried) -> dict[str, Any]:
    return {"path": None, "reasons": [one.lost] if one.lost else [], **trials.ready.report.to_json(),
            "candidates": [tried.to_json() for tried in trials.tried.values()]}
