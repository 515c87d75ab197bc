"""Freeze, transform, reconvert, verify, publish: a trained model -> the next version of a variant."""
from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import click

from commandline import json_option, progress, user_errors
from export import full_precision, manifest, pipeline, saved_model
from export.equivalence import Report
from export.job import BATCHES, Job, job_options
from export.outcome import NotEqualError, Optimized, RefusedError
from export.precision.reduction import AUTO, Reduction
from export.sources import Source
from export.verification import show
from user_error import UserError
from whole_file import write_json


@click.command()
@job_options
@json_option
def command(job: Job, json_path: str | None) -> None:
    """Optimize the model SRC and publish it as DST/VERSION: exit 0 published, 1 refused, 2 could not be run.

    SRC is a SavedModel (a version, or a base path: its newest), a .keras or .h5 file, a frozen .pb or .pbtxt graph, or
    a checkpoint; also on a file system that TensorFlow reads (gs://...).

    \b
    Examples:
      python -m export optimize models/mnist/original --to models/mnist/optimized
      python -m export optimize models/own/7 --to models/own-fast --signatures serving_default --samples x.npz
      python -m export optimize models/own/7 --to models/own-fastest --precision auto --samples x.npz
      python -m export optimize models/own/7 --to models/own-lite --engine litert --precision int8 --samples x.npz
      python -m export optimize model.keras --to models/own
      python -m export optimize frozen.pb --inputs x=input:0 --outputs y=softmax:0 --to models/own
      python -m export optimize train/model.ckpt-900 --from-checkpoint --inputs x=in:0 --outputs y=out:0 --to models/own
    """
    try:
        found = _optimized(job)
    except RefusedError as refused:
        if isinstance(refused, NotEqualError) and json_path != "-":
            _show(refused.steps, refused.equality)
        if json_path:
            write_json(json_path, refused.report)
        raise
    if json_path != "-":
        if found.made:
            _show(found.made.steps, found.made.equality)
            for line in found.made.lines:
                click.echo(line)
        click.echo(str(found))
    if json_path:
        write_json(json_path, found.to_json())


def optimize(source: str | Path, *, to: str | Path, version: int | None = None, transforms: str = "default",
             from_checkpoint: bool = False, inputs: Mapping[str, str] | None = None,
             outputs: Mapping[str, str] | None = None, signatures: Sequence[str] | None = None,
             tags: Sequence[str] = saved_model.SERVE, samples: str | Path | None = None,
             batches: Sequence[int] = BATCHES,
             allow_constant: Sequence[str] = (), atol: float | None = None, rtol: float | None = None, seed: int = 0,
             fix: Mapping[str, str] | None = None, allow: Collection[str] = (), allow_random: Collection[str] = (),
             graph_limit: int = saved_model.GRAPH_LIMIT, warmup: bool = False, precision: str = "float32",
             max_accuracy_drop: float | None = None, max_error: float | None = None,
             batch_of_interest: Sequence[int] | None = None, ranges: str | None = None,
             keep_float32: Sequence[str] | None = None, storage: str | None = None, unmeasured: bool = False,
             max_time: float | None = None, engine: str | None = None, engines: str | None = None,
             max_convert_time: float | None = None, reuse: bool = False, show_progress: bool = False) -> Optimized:
    """Publishes the model `source`, optimized, as the next version below `to`, and prints nothing.

    Each parameter is an option of `python -m export optimize`; inputs and outputs are {key: tensor name}, fix is
    {placeholder: value}.

    Raises RefusedError if what was made is not good enough (nothing is published then; NotEqualError if its answers
    differ), UserError if it could not be done.
    """
    def listed(pairs: Mapping[str, str] | None) -> str | None:
        return ",".join(f"{key}={tensor}" for key, tensor in pairs.items()) if pairs else None

    def some(values: Sequence[str] | None) -> tuple[str, ...] | None:
        return None if values is None else tuple(values)
    with user_errors(), progress(show_progress):
        if not str(to) or not batches or min(batches) < 1:
            raise UserError("`to` names a folder, and batch sizes are positive integers such as (1, 3, 17)")
        given = Source(str(source), from_checkpoint, listed(inputs), listed(outputs))
        reduction = Reduction(precision, max_accuracy_drop, max_error,
                              None if batch_of_interest is None else tuple(batch_of_interest), ranges,
                              some(keep_float32), storage, unmeasured, max_time, engine, engines,
                              max_convert_time)
        return _optimized(Job(
            given, Path(to), version, transforms, some(signatures), tuple(tags), Path(samples) if samples else None,
            tuple(batches), tuple(allow_constant) or None, atol, rtol, seed, dict(fix or {}), frozenset(allow),
            frozenset(allow_random), graph_limit, warmup, reuse, reduction))


def _optimized(job: Job) -> Optimized:
    """The work of the command and the function: returns the newest version if it can be reused, else a new one."""
    pipeline.parse(job.transforms)
    wanted = job.recipe()
    found = manifest.reusable(job.base, wanted) if job.reuse else None
    if found:
        return Optimized(found, manifest.read(found) or {}, None)
    if not job.reduction.asked:
        return full_precision.published(job, wanted)
    # Imported late: scipy and the quantizer take as long as all else that the command imports.
    from export.precision import auto, single
    return (auto if job.reduction.precision == AUTO else single).published(job, wanted)


def _show(steps: Sequence[str], equality: Report) -> None:
    for line in steps:
        click.echo(f"  {line}")
    show(equality)
