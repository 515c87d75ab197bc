"""python -m export verify: compares the answers of two models to the same inputs."""
from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from commandline import json_option, progress, user_errors
from export import loaded, manifest, saved_model
from export.asking import Plan
from export.equivalence import Report, check
from export.options import (
    allow_constant_option,
    allow_option,
    allow_random_option,
    atol_option,
    batches_option,
    budget,
    rtol_option,
    samples_option,
    seed_option,
    signatures_option,
    tags_option,
)
from export.precision.reduction import ENGINES
from export.samples import refuse_strangers, specs
from export.sources import Source, inputs_option, outputs_option
from export.stages import Stages
from other_engines import OTHER_ENGINES
from serving.client import payloads
from serving.client.answers import Budget
from user_error import FailedError, UserError
from version_directory import SAMPLES
from whole_file import write_json


@click.command()
@click.argument("before")
@click.argument("after")
@samples_option
@batches_option("1,3,17")
@allow_constant_option
@atol_option
@rtol_option
@seed_option
@click.option("--random", "made_up", type=click.IntRange(min=0), metavar="N",
              help="Also send N random examples (default: none with --samples, else a request of each batch size).")
@allow_option
@allow_random_option
@signatures_option
@tags_option
@inputs_option
@outputs_option
@click.option("--engine", type=click.Choice(tuple(ENGINES)),
              help="Run AFTER with this engine, from the files that it has for it.")
@json_option
def command(before: str, after: str, sample_file: Path | None, batches: tuple[int, ...],
            allow_constant: tuple[str, ...] | None, atol: float | None, rtol: float | None, seed: int,
            made_up: int | None, allow: frozenset[str], allow_random: frozenset[str],
            signatures: tuple[str, ...] | None, tags: tuple[str, ...], inputs: str | None, outputs: str | None,
            engine: str | None, json_path: str | None) -> int:
    """Compare the answers of the models BEFORE and AFTER: exit 0 equal, 1 not equal, 2 could not be run.

    Each is a SavedModel, a Keras file, a checkpoint or a frozen graph, as `optimize` takes them.

    With --samples only those examples are sent, unless --random N adds random ones. A version in reduced precision is
    held to the budget in its manifest, unless --atol or --rtol is given.

    \b
    Examples:
      python -m export verify models/mnist/original models/mnist/optimized
      python -m export verify a b --samples images.npz --batch 1,8 --json report.json
      python -m export verify models/mnist/original models/mnist/lite --engine litert
    """
    report = _verified(before, after, sample_file, batches, allow_constant, atol, rtol, seed, made_up, allow,
                       allow_random, signatures, tags, inputs, outputs, engine or "")
    if json_path != "-":
        show(report)
    if json_path:
        write_json(json_path, report.to_json())
    if not report.equal:
        raise FailedError(f"not equal: {report.why_not()}")
    return 0


def verify(before: str | Path, after: str | Path, *, samples: str | Path | None = None,
           batches: Sequence[int] = (1, 3, 17), allow_constant: Sequence[str] = (), atol: float | None = None,
           rtol: float | None = None, seed: int = 0, random: int | None = None, allow: Collection[str] = (),
           allow_random: Collection[str] = (), signatures: Sequence[str] | None = None,
           tags: Sequence[str] = ("serve",), inputs: str | None = None, outputs: str | None = None,
           engine: str = "", show_progress: bool = False) -> Report:
    """Compares the answers of two models, and prints nothing. The report has `equal`, `why_not()` and `to_json()`.

    Each parameter is an option of `python -m export verify`. Raises UserError if the models cannot be compared.
    """
    with user_errors(), progress(show_progress):
        if not batches or min(batches) < 1:
            raise UserError("batch sizes are positive integers such as (1, 3, 17)")
        return _verified(str(before), str(after), Path(samples) if samples else None, tuple(batches),
                         tuple(allow_constant), atol, rtol, seed, random, frozenset(allow), frozenset(allow_random),
                         None if signatures is None else tuple(signatures), tuple(tags), inputs, outputs, engine)


def _verified(before: str, after: str, sample_file: Path | None, batches: tuple[int, ...],
              allow_constant: tuple[str, ...] | None, atol: float | None, rtol: float | None, seed: int,
              made_up: int | None, allow: frozenset[str], allow_random: frozenset[str],
              signatures: tuple[str, ...] | None, tags: tuple[str, ...], inputs: str | None,
              outputs: str | None, engine: str) -> Report:
    loaded.prepare()
    with Source.found(before, inputs, outputs).saved_model(tags) as source, \
            Source.found(after, inputs, outputs).saved_model(tags) as other:
        real = sample_file or (source / SAMPLES if (source / SAMPLES).exists() else None)
        arrays = payloads.load_samples(real) if real else {}
        if sample_file is not None:
            refuse_strangers(arrays, saved_model.chosen(saved_model.read(source, tags), signatures))
        stated = budget(atol, rtol)
        facts = _of_engine(other, engine, after) if engine else manifest.read(other) or {}
        budgets = {} if stated else _stated_by(facts)
        signatures = facts.get("signatures") if engine and signatures is None else signatures
        # A version in reduced precision was proven on real examples: made-up ones may be further off.
        proven = bool(budgets) and all(
            specs(one).keys() <= arrays.keys()
            for one in saved_model.chosen(saved_model.read(source, tags), signatures).values())
        only_real = 0 if made_up is None and (sample_file is not None or proven) else made_up
        plan = Plan(batches, arrays, stated, seed, frozenset(allow_constant or ()), only_real, allow, allow_random,
                    budgets)
        with Stages()(f"compare {before} with {after}"):
            return check(source, other, tags, plan, signatures, engine)


def _of_engine(version: Path, engine: str, name: str) -> dict[str, Any]:
    """What the manifest says of the version's files for an engine. Raises UserError if it has none or cannot run."""
    if why := OTHER_ENGINES[engine].why_missing():
        raise UserError(f"--engine {engine}: {why}")
    found = (manifest.read(version) or {}).get("engines", {})
    if engine not in found:
        raise UserError(f"{name} has nothing for {engine} (its manifest names {', '.join(found) or 'no engine'}): make "
                        f"it with 'python -m export optimize ... --engine {engine}'")
    return dict(found[engine])


def _stated_by(facts: Mapping[str, Any]) -> dict[str, Budget]:
    """The budgets that a version in reduced precision states in its manifest, by signature; none in full precision."""
    keys = (facts.get("budget") or {}).get("signatures", {})
    return {key: one for key in keys if (one := Budget.of_manifest(facts, key))}


def show(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table
    table = Table("signature", "output", "row", "max abs", "max rel", "ULP", "worst", "equal")
    for key, one in report.signatures.items():
        for name, output in one.comparison.outputs.items():
            table.add_row(key, name, output.row, f"{output.max_abs:.3g}", f"{output.max_rel:.3g}",
                          "-" if output.ulps is None else str(output.ulps),
                          "-" if output.worst is None else str(list(output.worst)), "yes" if output.equal else "NO")
    console = Console(width=None if Console().is_terminal else 140)
    console.print(table)
    for key, one in report.signatures.items():
        console.print(f"{key}: {one.real} real and {one.random} random examples at batch "
                      f"{', '.join(map(str, one.batches))}" + "".join(
            f"; top class of '{name}' the same for {share:.2%}" for name, share in one.agreement.items()) + (
            f"; accuracy of {one.accuracy['examples']:.0f} examples {one.accuracy['before']:.2%} before, "
            f"{one.accuracy['after']:.2%} after"
            if one.accuracy else "") + (
            f"; may be constant: {one.constant}" if one.constant else ""), highlight=False, soft_wrap=True)
