"""python -m export build NAME: trains a reference model, exports it as the next version of its `original`."""
import importlib
from pathlib import Path
from typing import Any

import click

from commandline import json_option, step
from export import manifest
from export.options import path_given
from export.publish import new_version
from whole_file import write_json

MODELS = {"mnist": "the article's convolutional digit classifier (22 MB)"}


@click.command()
@click.argument("name", type=click.Choice(list(MODELS)))
@click.option("--data", type=click.Choice(["digits", "mnist"]), default="digits", show_default=True,
              help="digits: scikit-learn's 1,797 real images, no network. mnist: Keras downloads it once.")
@click.option("--to", "models", callback=path_given, default="models", show_default=True, metavar="DIR",
              help="The directory that holds all models.")
@click.option("--seed", default=0, show_default=True, help="Seed of the weights and of the choice of held-out images.")
@click.option("--reuse", is_flag=True, help="Keep the newest version if this code and configuration made it.")
@json_option
def command(name: str, data: str, models: Path, seed: int, reuse: bool, json_path: str | None) -> None:
    """Train the reference model NAME and export it to MODELS/NAME/original/VERSION.

    \b
    Examples:
      python -m export build mnist
      python -m export build mnist --data mnist --to /srv/models
    """
    base = models / name / "original"
    code = [Path(__file__), Path(__file__).with_name(f"{name}.py")]
    wanted = manifest.recipe({"model": name, "data": data, "seed": seed}, code)
    found = manifest.reusable(base, wanted) if reuse else None
    if found:
        facts: dict[str, Any] = (manifest.read(found) or {}).get("facts", {})
        news = f"{found} is up to date: {_summary(facts)}"
    else:
        with new_version(base) as made:
            importlib.import_module("export.runtime")  # TensorFlow, without its chatter
            facts = importlib.import_module(f"export.zoo.{name}").build(made.path, data, seed)
            with step("write the manifest"):
                manifest.write(made.path, wanted, facts=facts)
        found = made.published
        news = f"{found}: {_summary(facts)}"
    if json_path != "-":
        click.echo(news)
    if json_path:
        write_json(json_path, {"path": str(found), **facts})


def _summary(facts: dict[str, Any]) -> str:
    return (f"trained on {facts['trained_on']} images of {facts['data']}; "
            f"accuracy {facts['accuracy']:.2%} on {facts['held_out']} held-out images")
