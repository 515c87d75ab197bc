"""python -m export import: publishes a model of any form, unchanged, as a SavedModel version that can be served."""
from __future__ import annotations

from pathlib import Path

import click

import durable
from commandline import json_option
from export import manifest, publish
from export.options import tags_option, to_option, version_option
from export.sources import Source, checkpoint_option, inputs_option, outputs_option, source_argument
from export.stages import Stages
from version_directory import MANIFEST
from whole_file import write_json

_CODE = [Path(__file__), Path(__file__).with_name("sources.py")]


@click.command()
@source_argument
@to_option
@version_option
@checkpoint_option
@inputs_option
@outputs_option
@tags_option
@click.option("--reuse", is_flag=True, help="Keep the newest version if this source and code made it.")
@json_option
def command(source: str | None, base: Path, version: int | None, checkpoint: str | None, inputs: str | None,
            outputs: str | None, tags: tuple[str, ...], reuse: bool, json_path: str | None) -> None:
    """Publish the model SRC as DST/VERSION, unchanged: a SavedModel is copied, other forms are converted to one.

    SRC is what `optimize` takes.

    \b
    Examples:
      python -m export import path/to/saved_model --to models/mine/original
      python -m export import model.keras --to models/mine/original
    """
    given = Source.of(source, checkpoint, inputs, outputs)
    wanted = manifest.recipe({"inputs": inputs, "outputs": outputs, "tags": tags, "as": "import"}, _CODE,
                             source=given.digest())
    found = manifest.reusable(base, wanted) if reuse else None
    if found is None:
        with publish.new_version(base, version) as made, Stages()(f"import {given.name}"), \
                given.saved_model(tags) as path:
            durable.copy_tree(path, made.path)
            (made.path / MANIFEST).unlink(missing_ok=True)  # it describes the version that was copied
            manifest.write(made.path, wanted, source=given.name)
    if json_path != "-":
        click.echo(f"{found} is up to date" if found else str(made.published))
    if json_path:
        write_json(json_path, {"path": str(found or made.published)})
