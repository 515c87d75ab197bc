"""python -m export build NAME: makes a reference model and exports it as the next version of its `original`."""
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from commandline import json_option, step
from export import manifest
from export.options import path_given
from export.publish import new_version
from user_error import UserError
from whole_file import write_json


@dataclass(frozen=True)
class Model:
    """A reference model: its module's `build`, a line about it, and the further modules that decide what it is."""

    module: str
    about: str
    parts: tuple[str, ...] = ("pictures", "random_weights")
    keras: bool = True


MODELS = {
    "mnist": Model("mnist", "the article's convolutional digit classifier, trained (22 MB)", ()),
    "text_classifier": Model("text_classifier", "TextVectorization, Embedding, LSTM: strings in, trained (1 MB)",
                             ("sentences",)),
    "encoder": Model("encoder", "an encoder of text like BERT-base: 12 blocks, 768 wide, 128 tokens (875 MB)",
                     ("random_weights",)),
    "detector": Model("detector", "a detector of the kind of ssd_inception_v2, in TensorFlow 1 form (59 MB)",
                      ("boxes", "class_heads", "pictures", "random_weights"), keras=False),
    "mobilenet_v2": Model("applications", "keras.applications.MobileNetV2 (31 MB)"),
    "resnet50": Model("applications", "keras.applications.ResNet50 (207 MB)"),
    "efficientnet_b0": Model("applications", "keras.applications.EfficientNetB0 (48 MB)"),
    "inception_v3": Model("applications", "keras.applications.InceptionV3 (195 MB)"),
}
LINES = [(name, model.about) for name, model in MODELS.items()]
DATA = ("mnist",)  # these take --data instead of --size


@click.command(epilog="\b\nThe models:\n" + "\n".join(f"  {name:15}  {about}" for name, about in LINES)
               + "\n\nThose that are not trained have random weights: they show speed and size, and their answers mean "
               "nothing.")
@click.argument("name", type=click.Choice(list(MODELS)))
@click.option("--data", type=click.Choice(["digits", "mnist"]), show_default="digits",
              help="Of mnist. digits: scikit-learn's 1,797 real images, no network. mnist: Keras downloads it once.")
@click.option("--size", type=click.Choice(["full", "small"]), show_default="full",
              help="Of the others. small: fewer blocks, narrower or smaller images, for quick tests.")
@click.option("--to", "models", callback=path_given, default="models", show_default=True, metavar="DIR",
              help="The directory that holds all models.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0),
              help="Seed of the weights, of the samples, and of the choice of held-out images.")
@click.option("--keras", "keeps", is_flag=True,
              help="Of Keras models. Write the model as assets.extra/model.keras, too.")
@click.option("--reuse", is_flag=True, help="Keep the newest version if this code and configuration made it.")
@json_option
def command(name: str, data: str | None, size: str | None, models: Path, seed: int, keeps: bool, reuse: bool,
            json_path: str | None) -> None:
    """Make the reference model NAME and export it to MODELS/NAME/original/VERSION, with samples.

    \b
    Examples:
      python -m export build mnist
      python -m export build mnist --data mnist --to /srv/models
      python -m export build resnet50 --keras
    """
    model = MODELS[name]
    for option, value, takes in (("--data", data, name in DATA), ("--size", size, name not in DATA),
                                 ("--keras", keeps, model.keras)):
        if value and not takes:
            raise UserError(f"{name} takes no {option}: leave it out")
    chosen = (data or "digits") if name in DATA else (size or "full")
    base = models / name / "original"
    code = [Path(__file__).with_name(f"{file}.py") for file in (
        "build", model.module, *model.parts, *(("keras_export",) if model.keras else ()))]
    wanted = manifest.recipe({"model": name, "data" if name in DATA else "size": chosen, "seed": seed,
                              **({"keras": True} if keeps else {})}, code)
    found = manifest.reusable(base, wanted) if reuse else None
    if found:
        facts: dict[str, Any] = (manifest.read(found) or {}).get("facts", {})
        news = f"{found} is up to date: {_summary(facts)}"
    else:
        with new_version(base) as made:
            importlib.import_module("export.runtime")  # TensorFlow, without its chatter
            build = importlib.import_module(f"export.zoo.{model.module}").build
            facts = build(made.path, name, chosen, seed, **({"keeps": keeps} if model.keras else {}))
            with step("write the manifest"):
                manifest.write(made.path, wanted, facts=facts)
        found = made.published
        news = f"{found}: {_summary(facts)}"
    if json_path != "-":
        click.echo(news)
    if json_path:
        write_json(json_path, {"path": str(found), **facts})


def _summary(facts: dict[str, Any]) -> str:
    if facts.get("weights") == "random":
        return (f"{facts['parameters']:,} random weights (seed {facts['seed']}), {facts['samples']} as samples; it "
                "shows speed, and its answers mean nothing")
    return (f"trained on {facts['trained_on']} {facts['of']} of {facts['data']}; "
            f"accuracy {facts['accuracy']:.2%} on {facts['held_out']} held-out {facts['of']}")
