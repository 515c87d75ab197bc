"""Freeze, transform, reconvert, verify, publish: a trained model -> the next version of a variant."""
from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import click

from commandline import json_option, progress, user_errors
from export import diagnosis, edited, equivalence, loaded, manifest, pipeline, publish, saved_model
from export import warmup as warm
from export.asking import Plan
from export.edited import fix_option
from export.equivalence import Report
from export.freeze import Frozen, freeze
from export.graph import Graph
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
    to_option,
    version_option,
)
from export.reach import effects_of
from export.samples import refuse_strangers
from export.saved_model import Content, SavedModel
from export.served import node_count
from export.sources import Source, checkpoint_option, inputs_option, outputs_option, source_argument
from export.stages import Stages
from export.verification import show
from serving.client import payloads
from user_error import FailedError, UserError
from version_directory import SAMPLES, model_bytes
from whole_file import write_json

_SERVE = ("serve",)
_BATCHES = (1, 3, 100)
_EXPORT = Path(__file__).parent
_CLIENT = _EXPORT.parent / "serving" / "client"


@dataclass(frozen=True)
class Made:
    """A version just made: the pipeline's steps as text, the comparison, and (before, after) in bytes and nodes."""

    steps: tuple[str, ...]
    equality: Report
    bytes: tuple[int, int]
    nodes: tuple[int, int]
    stages: str


@dataclass(frozen=True)
class Optimized:
    """A published version. `manifest` describes how it was made; `made` is None if an existing version was reused."""

    path: Path
    manifest: Mapping[str, Any]
    made: Made | None

    def to_json(self) -> dict[str, Any]:
        """The content of --json."""
        return {"path": str(self.path), **self.manifest}

    def __str__(self) -> str:
        if self.made is None:
            return f"{self.path} is up to date"
        (before, after), (nodes_before, nodes_after) = self.made.bytes, self.made.nodes
        return (f"{self.path}: {before / 1e6:.2f} MB -> {after / 1e6:.2f} MB, {nodes_before} -> {nodes_after} nodes "
                f"({self.made.stages})")


class NotEqualError(FailedError):
    """Nothing was published: the result's answers differ from the source's. `report` is the content of --json."""

    def __init__(self, steps: Sequence[str], equality: Report, report: dict[str, Any]) -> None:
        super().__init__(f"nothing published, the result is not equal: {equality.why_not()}")
        self.steps = tuple(steps)
        self.equality = equality
        self.report = report


@click.command()
@source_argument
@to_option
@version_option
@click.option("--transforms", default="default", show_default=True, metavar="PIPELINE",
              help="The steps: names with arguments, 'default', 'article', or @FILE.")
@checkpoint_option
@inputs_option
@outputs_option
@signatures_option
@tags_option
@samples_option
@batches_option("1,3,100")
@allow_constant_option
@atol_option
@rtol_option
@seed_option
@fix_option
@allow_option
@allow_random_option
@click.option("--graph-limit", type=int, default=saved_model.GRAPH_LIMIT, show_default=True, metavar="BYTES",
              help="Keep the weights in a variables file when constants take more than this.")
@click.option("--warmup", is_flag=True, help="Write warm-up records: one request per signature and batch size.")
@click.option("--reuse", is_flag=True, help="Keep the newest version if this source, code and configuration made it.")
@json_option
def command(source: str | None, base: Path, version: int | None, transforms: str, checkpoint: str | None,
            inputs: str | None, outputs: str | None, signatures: tuple[str, ...] | None, tags: tuple[str, ...],
            sample_file: Path | None, batches: tuple[int, ...],
            allow_constant: tuple[str, ...] | None, atol: float | None, rtol: float | None, seed: int,
            fixed: dict[str, str], allow: frozenset[str], allow_random: frozenset[str], graph_limit: int, warmup: bool,
            reuse: bool, json_path: str | None) -> None:
    """Optimize the model SRC and publish it as DST/VERSION: exit 0 published, 1 refused, 2 could not be run.

    SRC is a SavedModel (a version, or a base path: its newest), a .keras or .h5 file, a frozen .pb or .pbtxt graph, or
    a checkpoint; also on a file system that TensorFlow reads (gs://...).

    \b
    Examples:
      python -m export optimize models/mnist/original --to models/mnist/optimized
      python -m export optimize models/own/7 --to models/own-fast --signatures serving_default --samples x.npz
      python -m export optimize model.keras --to models/own
      python -m export optimize frozen.pb --inputs x=input:0 --outputs y=softmax:0 --to models/own
      python -m export optimize train/model.ckpt-900 --from-checkpoint --inputs x=in:0 --outputs y=out:0 --to models/own
    """
    try:
        found = _optimized(
            Source.of(source, checkpoint, inputs, outputs), base, version, transforms, signatures, tags, sample_file,
            batches, allow_constant, atol, rtol, seed, fixed, allow, allow_random, graph_limit, warmup, reuse)
    except NotEqualError as refused:
        if json_path != "-":
            _show(refused.steps, refused.equality)
        if json_path:
            write_json(json_path, refused.report)
        raise
    if json_path != "-":
        if found.made:
            _show(found.made.steps, found.made.equality)
        click.echo(str(found))
    if json_path:
        write_json(json_path, found.to_json())


def optimize(source: str | Path, *, to: str | Path, version: int | None = None, transforms: str = "default",
             from_checkpoint: bool = False, inputs: Mapping[str, str] | None = None,
             outputs: Mapping[str, str] | None = None, signatures: Sequence[str] | None = None,
             tags: Sequence[str] = _SERVE, samples: str | Path | None = None, batches: Sequence[int] = _BATCHES,
             allow_constant: Sequence[str] = (), atol: float | None = None, rtol: float | None = None, seed: int = 0,
             fix: Mapping[str, str] | None = None, allow: Collection[str] = (), allow_random: Collection[str] = (),
             graph_limit: int = saved_model.GRAPH_LIMIT, warmup: bool = False, reuse: bool = False,
             show_progress: bool = False) -> Optimized:
    """Publishes the model `source`, optimized, as the next version below `to`, and prints nothing.

    Each parameter is an option of `python -m export optimize`; inputs and outputs are {key: tensor name}, fix is
    {placeholder: value}.

    Raises NotEqualError if the answers differ (nothing is published then), UserError if it could not be done.
    """
    def listed(pairs: Mapping[str, str] | None) -> str | None:
        return ",".join(f"{key}={tensor}" for key, tensor in pairs.items()) if pairs else None
    with user_errors(), progress(show_progress):
        if not str(to) or not batches or min(batches) < 1:
            raise UserError("`to` names a folder, and batch sizes are positive integers such as (1, 3, 17)")
        given = Source(str(source), from_checkpoint, listed(inputs), listed(outputs))
        return _optimized(
            given, Path(to), version, transforms, None if signatures is None else tuple(signatures), tuple(tags),
            Path(samples) if samples else None, tuple(batches), tuple(allow_constant) or None, atol, rtol, seed,
            dict(fix or {}), frozenset(allow), frozenset(allow_random), graph_limit, warmup, reuse)


def _optimized(given: Source, base: Path, version: int | None, transforms: str, signatures: tuple[str, ...] | None,
               tags: tuple[str, ...], sample_file: Path | None, batches: tuple[int, ...],
               allow_constant: tuple[str, ...] | None, atol: float | None, rtol: float | None, seed: int,
               fixed: dict[str, str], allow: frozenset[str], allow_random: frozenset[str], graph_limit: int,
               warmup: bool, reuse: bool) -> Optimized:
    """The work of the command and the function: returns the newest version if it can be reused, else a new one."""
    pipeline.parse(transforms)
    wanted = manifest.recipe(
        {"transforms": transforms, "inputs": given.inputs, "outputs": given.outputs, "signatures": signatures,
         "tags": tags, "batches": batches, "atol": atol, "rtol": rtol, "allow_constant": allow_constant, "seed": seed,
         "graph_limit": graph_limit, "warmup": warmup,
         "fix": fixed, "allow": sorted(allow), "allow_random": sorted(allow_random),
         "samples": manifest.digest(sample_file) if sample_file else None},
        code(), source=given.digest())
    found = manifest.reusable(base, wanted) if reuse else None
    if found:
        return Optimized(found, manifest.read(found) or {}, None)
    real = payloads.load_samples(sample_file) if sample_file else None
    loaded.prepare()
    plan = Plan(batches, real or {}, budget(atol, rtol), seed, frozenset(allow_constant or ()), None, allow,
                allow_random)
    return _publish(given, base, version, transforms, signatures, tags, plan, fixed, graph_limit, warmup, wanted)


def _show(steps: Sequence[str], equality: Report) -> None:
    for line in steps:
        click.echo(f"  {line}")
    show(equality)


def code() -> list[Path]:
    """The source files that determine a version's content and whether it is published."""
    return [*(file for file in _EXPORT.rglob("*.py") if file.parent.name != "zoo"),
            *(_CLIENT / name for name in ("answers.py", "payloads.py"))]


def _publish(given: Source, base: Path, version: int | None, transforms: str, signatures: tuple[str, ...] | None,
             tags: tuple[str, ...], plan: Plan, fixed: dict[str, str], graph_limit: int, warmup: bool,
             wanted: dict[str, Any]) -> Optimized:
    stage = Stages()
    with publish.new_version(base, version) as made:
        staging = made.path
        with stage("start TensorFlow"):
            from export.runtime import give_back_memory
        with given.saved_model(tags) as plain, edited.fixed(plain, tags, fixed) as path, _called(path, given.name):
            if plan.samples:
                refuse_strangers(plan.samples, saved_model.chosen(saved_model.read(path, tags), signatures))
            if not plan.samples and (path / SAMPLES).exists():
                plan = replace(plan, samples=payloads.load_samples(path / SAMPLES))
            with stage("load and freeze"):
                model = saved_model.read(path, tags)
                diagnosis.refuse(model, saved_model.chosen(model, signatures), plan.allow)
                frozen = freeze(model, signatures)
            with stage("transform"):
                graph, report = pipeline.run(frozen.graph, transforms)
            with stage("write"):
                saved_model.write(staging, content(model, frozen, graph, graph_limit))
            frozen = replace(frozen, graph=Graph({}))
            del graph  # as large as the model, and written to disk already
            give_back_memory()
            with stage("verify"):
                equality = equivalence.check(path, staging, tags, plan, signatures)
                if not path.is_relative_to(given.name):
                    equality.reasons = [one.replace(str(path), given.name) for one in equality.reasons]
            sizes = model_bytes(path), model_bytes(staging)
            before, after = node_count(model), node_count(saved_model.read(staging, tags))
        steps = tuple(map(str, report.steps))
        if not equality.equal:
            raise NotEqualError(steps, equality, {
                "path": None, "reasons": equality.all_reasons(), **report.to_json(),
                "equality": equality.by_signature()})
        if warmup:
            warm.write(staging, [(key, inputs) for key, one in equality.signatures.items()
                                 for inputs in one.requests.values() if not effects_of(model, key)])
        manifest.write(staging, wanted, **_facts(given, frozen, transforms, report, equality), seconds=stage.seconds,
                       nodes={"before": before, "after": after})
    published = made.published
    return Optimized(published, manifest.read(published) or {},
                     Made(steps, equality, sizes, (before, after), str(stage)))


@contextmanager
def _called(path: Path, name: str) -> Iterator[None]:
    """Within the context, errors name the source as the user named it, not its temporary copy."""
    if path.is_relative_to(name):
        yield
        return
    try:
        yield
    except UserError as error:
        raise type(error)(str(error).replace(str(path), name)) from error


def content(model: SavedModel, frozen: Frozen, graph: Graph, graph_limit: int) -> Content:
    """The content to write: the frozen model with `graph` instead of its own graph."""
    return Content(graph, frozen.signatures, model.tags, frozen.init_op, frozen.assets, frozen.variables, graph_limit,
                   model)


def _facts(given: Source, frozen: Frozen, transforms: str, report: pipeline.Report, equality: Report) -> dict[str, Any]:
    return {
        "source": given.name, "tensorflow": installed("tensorflow"), "pipeline": transforms, "precision": "float32",
        "variables_kept": dict(frozen.kept), **report.to_json(), "equality": equality.by_signature()}
