"""python -m export samples: writes inputs that a model accepts, made as `optimize` makes them, to a file of samples.

Tools that do not read the graph (`python -m benchmark`, a load test) get from it words that are in the model's tables,
ids within the range that they index, and examples with the features that are parsed.
"""
from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from commandline import json_option
from export import diagnosis, loaded, saved_model
from export.loaded import DiedError, LoadedModel, RunError
from export.options import path_given, seed_option, tags_option
from export.samples import Maker, fixed_batch, specs
from export.sources import Source, checkpoint_option, inputs_option, outputs_option, source_argument
from export.tensors import Array
from serving.client import payloads
from user_error import UserError
from whole_file import refuse_unwritable, whole_file, write_json


@click.command()
@source_argument
@click.option("--out", required=True, callback=path_given, metavar="X.npz", help="The file to write.")
@click.option("--signature", "key", metavar="KEY", help="The signature (default: serving_default, or the only one).")
@click.option("--examples", "count", type=click.IntRange(min=1), default=64, show_default=True,
              help="How many examples; at least a whole batch if the signature has a fixed batch size.")
@seed_option
@checkpoint_option
@inputs_option
@outputs_option
@tags_option
@json_option
def command(source: str | None, out: Path, key: str | None, count: int, seed: int, checkpoint: str | None,
            inputs: str | None, outputs: str | None, tags: tuple[str, ...], json_path: str | None) -> None:
    """Make inputs for the model SRC and write them as the .npz that --samples takes everywhere.

    The inputs are random (seeded), fit the signature and the graph, and are tried on the model: if it refuses them,
    they are made in another way.

    \b
    Examples:
      python -m export samples models/mine/original --out x.npz
      python -m benchmark compare original optimized --model mine --samples x.npz
    """
    refuse_unwritable(out)
    loaded.prepare()
    with Source.of(source, checkpoint, inputs, outputs).saved_model(tags) as path:
        model = saved_model.read(path, tags)
        key = _chosen(model, key)
        diagnosis.refuse(model, {key: model.signatures[key]})
        arrays = made(model, tags, key, count, seed)
    with whole_file(out) as file:
        payloads.save_samples(file, arrays)
    facts = {"path": str(out), "signature": key, "seed": seed, "inputs": {
        name: {"dtype": "string" if array.dtype == object else array.dtype.name, "shape": list(array.shape)}
        for name, array in arrays.items()}}
    if json_path:
        write_json(json_path, facts)
    if json_path != "-":
        shapes = ", ".join(f"{name} {payloads.TensorSpec(array.dtype, array.shape)}" for name, array in arrays.items())
        click.echo(f"{out}: {key}: {shapes}")


def made(model: saved_model.SavedModel, tags: tuple[str, ...], key: str, count: int, seed: int) -> dict[str, Array]:
    """`count` examples that the signature answers. Raises UserError if it refuses all that can be made."""
    maker, known = Maker(model), specs(model.signatures[key])
    fixed = fixed_batch(known)
    refused = ""
    with LoadedModel(model.path, tags) as running:
        running.loaded()
        diagnosis.refuse_without_value(model, [key], running.without_value)
        for manner in maker.manners(key):
            requests = [maker.make(key, fixed or count, seed + index, manner)
                        for index in range(-(-count // fixed) if fixed else 1)]
            try:
                running.run(key, requests[0])
            except RunError as error:
                refused = refused or str(error)
            except DiedError as error:
                refused = refused or str(error)
                running.restart()
            else:
                return requests[0] if len(requests) == 1 else {
                    name: np.concatenate([one[name] for one in requests]) if (known[name].shape or ())[:1] == (fixed,)
                    else array for name, array in requests[0].items()}
    raise UserError(f"signature '{key}': {model.path} refuses the inputs made for it ({refused}); give real ones with "
                    "--samples")


def _chosen(model: saved_model.SavedModel, key: str | None) -> str:
    there = saved_model.chosen(model, [key] if key else None)
    if key is None and "serving_default" not in there and len(there) > 1:
        raise UserError(f"{model.path} has the signatures {', '.join(there)}: choose one with --signature")
    return key or ("serving_default" if "serving_default" in there else next(iter(there)))
