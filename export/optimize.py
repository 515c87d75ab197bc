"""Freeze, transform, reconvert, verify, publish: a trained model -> the next version of a variant."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version as installed
from pathlib import Path
from time import perf_counter
from typing import Any

import click

from commandline import UserError, json_option, step, write_json
from export import equivalence, loaded, manifest, pipeline, publish, saved_model
from export.equivalence import NOT_EQUAL, Plan, Report
from export.freeze import Frozen, freeze
from export.options import (
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
from export.saved_model import Content, SavedModel
from serving.client import payloads

_CODE = Path(__file__).parent
_SAMPLES = Path("assets.extra", "samples.npz")


class Stages:
    """Seconds by stage, in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, title: str) -> Iterator[None]:
        began = perf_counter()
        with step(title):
            yield
        self.seconds[title] = round(perf_counter() - began, 3)


@click.command()
@click.argument("source", metavar="SRC")
@to_option
@version_option
@click.option("--transforms", default="default", show_default=True, metavar="PIPELINE",
              help="The steps: names with arguments, 'default', 'article', or @FILE.")
@signatures_option
@tags_option
@samples_option
@batches_option("1,3,100")
@atol_option
@rtol_option
@seed_option
@click.option("--reuse", is_flag=True, help="Keep the newest version if this source, code and configuration made it.")
@json_option
def command(source: str, base: Path, version: int | None, transforms: str, signatures: tuple[str, ...] | None,
            tags: tuple[str, ...], sample_file: Path | None, batches: tuple[int, ...], atol: float | None,
            rtol: float | None, seed: int, reuse: bool, json_path: str | None) -> None:
    """Optimize the model SRC and publish it as DST/VERSION: exit 0 published, 1 refused, 2 could not be run.

    \b
    Examples:
      python -m export optimize models/mnist/original --to models/mnist/optimized
      python -m export optimize models/own/7 --to models/own-fast --signatures serving_default --samples x.npz
    """
    pipeline.parse(transforms)
    path = publish.find(source)
    wanted = manifest.recipe(
        {"transforms": transforms, "signatures": signatures, "tags": tags, "batches": batches, "atol": atol,
         "rtol": rtol, "seed": seed, "samples": manifest.digest(sample_file) if sample_file else None},
        [*_CODE.glob("*.py"), *(_CODE / "transforms").glob("*.py")], source=manifest.digest(path))
    found = manifest.reusable(base, wanted) if reuse else None
    if found:
        click.echo(f"{found} is up to date")
        result = {"path": str(found), **(manifest.read(found) or {})}
    else:
        loaded.prepare()
        real = sample_file or (path / _SAMPLES if (path / _SAMPLES).exists() else None)
        plan = Plan(batches, payloads.load_samples(real) if real else {}, budget(atol, rtol), seed)
        result = _publish(path, base, version, transforms, signatures, tags, plan, wanted)
    if json_path:
        write_json(json_path, result)


def _publish(path: Path, base: Path, version: int | None, transforms: str, signatures: tuple[str, ...] | None,
             tags: tuple[str, ...], plan: Plan, wanted: dict[str, Any]) -> dict[str, Any]:
    stage = Stages()
    with publish.new_version(base, version) as staging:
        with stage("load and freeze"):
            model = saved_model.read(path, tags)
            frozen = freeze(model, signatures)
        with stage("transform"):
            graph, report = pipeline.run(frozen.graph, transforms)
        for line in report.steps:
            click.echo(f"  {line}")
        with stage("write"):
            saved_model.write(staging, content(model, frozen, graph))
        with stage(f"verify at batch {', '.join(map(str, plan.batches))}"):
            equality = equivalence.check(path, staging, tags, plan, signatures)
        if not equality.equal:
            raise UserError(f"nothing published, the result is not equal: {equality.why_not()}", exit_code=NOT_EQUAL)
        facts = _facts(path, frozen, transforms, report, equality)
        manifest.write(staging, wanted, **facts, seconds=stage.seconds)
        sizes = directory_bytes(path), directory_bytes(staging)
    published = base / staging.name
    equivalence.show(equality)
    click.echo(f"{published}: {sizes[0] / 1e6:.2f} MB -> {sizes[1] / 1e6:.2f} MB, "
               f"{len(frozen.graph.nodes)} -> {len(graph.nodes)} nodes")
    return {"path": str(published), **(manifest.read(published) or {})}


def content(model: SavedModel, frozen: Frozen, graph: Any) -> Content:
    """What is to be written: the frozen model with `graph` in place of its own."""
    return Content(graph, frozen.signatures, model.tags, frozen.init_op, frozen.assets, frozen.variables, model)


def directory_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _facts(path: Path, frozen: Frozen, transforms: str, report: pipeline.Report, equality: Report) -> dict[str, Any]:
    return {
        "source": str(path), "tensorflow": installed("tensorflow"), "pipeline": transforms, "precision": "float32",
        "variables_kept": dict(frozen.kept), **report.to_json(), "equality": {
            key: one.to_json() for key, one in equality.signatures.items()}}
