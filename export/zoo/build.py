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
from export.zoo import g2p_weights
from user_error import UserError
from whole_file import write_json


@dataclass(frozen=True)
class Model:
    """A reference model: its module's `build`, a line about it, the further modules that decide what it is, and the
    option that chooses one of its kinds (`takes`)."""

    module: str
    about: str
    parts: tuple[str, ...] = ("pictures", "random_weights")
    keras: bool = True
    takes: str = "size"


MODELS = {
    "mnist": Model("mnist", "the article's convolutional digit classifier, trained (22 MB)", (), takes="data"),
    "text_classifier": Model("text_classifier", "TextVectorization, Embedding, LSTM: strings in, trained (1 MB)",
                             ("sentences",)),
    "g2p": Model("g2p", "letters to phonemes: the encoder and decoder of g2p-en 2.1.0, with its weights (3 MB)",
                 ("g2p_article", "g2p_serving", "g2p_weights", "g2p_words"), keras=False, takes="form"),
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
# What each kind is without the option that chooses it, and the variant that each form of g2p is.  # decision 223
USUAL = {"data": "digits", "size": "full", "form": "article"}
VARIANTS = {"article": "original", "loop": "loop", "serving": "serving", "serving_xla": "serving_xla"}


@click.command(epilog="\b\nThe models:\n" + "\n".join(f"  {name:15}  {about}" for name, about in LINES)
               + "\n\nThose that are not trained have random weights: they show speed and size, and their answers mean "
               "nothing.")
@click.argument("name", type=click.Choice(list(MODELS)))
@click.option("--data", type=click.Choice(["digits", "mnist"]), show_default="digits",
              help="Of mnist. digits: scikit-learn's 1,797 real images, no network. mnist: Keras downloads it once.")
@click.option("--size", type=click.Choice(["full", "small"]), show_default="full",
              help="Of models with random weights. small: fewer blocks, narrower or smaller images, for quick tests.")
@click.option("--form", type=click.Choice(list(VARIANTS)), show_default="article",
              help="Of g2p. article: one call a phoneme, in TensorFlow 1; loop: the loop in the graph, nothing else; "
                   "serving: made for serving; serving_xla: that for servers that allow XLA.")
@click.option("--weights", type=click.Path(path_type=Path), metavar="FILE",
              help="Of g2p. g2p-en's checkpoint20.npz (default: that of the installed package g2p-en).")
@click.option("--to", "models", callback=path_given, default="models", show_default=True, metavar="DIR",
              help="The directory that holds all models.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0),
              help="Seed of the weights, of the samples, and of the choice of held-out images.")
@click.option("--keras", "keeps", is_flag=True,
              help="Of Keras models. Write the model as assets.extra/model.keras, too.")
@click.option("--reuse", is_flag=True, help="Keep the newest version if this code and configuration made it.")
@json_option
def command(name: str, models: Path, seed: int, weights: Path | None, keeps: bool, reuse: bool,
            json_path: str | None, **kinds: str | None) -> None:
    """Make the reference model NAME and export it to MODELS/NAME/original/VERSION, with samples.

    Each form of g2p other than the article's is a variant of its own, named like the form.

    \b
    Examples:
      python -m export build mnist
      python -m export build mnist --data mnist --to /srv/models
      python -m export build resnet50 --keras
      python -m export build g2p --form serving
    """
    model = MODELS[name]
    for option, value, takes in (("--keras", keeps, model.keras), ("--weights", weights, model.takes == "form"),
                                 *((f"--{kind}", kinds[kind], model.takes == kind) for kind in USUAL)):
        if value and not takes:
            raise UserError(f"{name} takes no {option}: leave it out")
    chosen = kinds[model.takes] or USUAL[model.takes]
    base = models / name / VARIANTS.get(chosen, "original")
    further: dict[str, Any] = {"keeps": keeps} if model.keras else {}
    source = None
    if model.takes == "form":
        further["weights"] = g2p_weights.find(weights)
        # A file that is not there is told by `build`.
        source = manifest.digest(further["weights"]) if further["weights"].is_file() else None
    code = [Path(__file__).with_name(f"{file}.py") for file in (
        "build", model.module, *model.parts, *(("keras_export",) if model.keras else ()))]
    wanted = manifest.recipe({"model": name, model.takes: chosen, "seed": seed,
                              **({"keras": True} if keeps else {})}, code, source)
    found = manifest.reusable(base, wanted) if reuse else None
    if found:
        facts: dict[str, Any] = (manifest.read(found) or {}).get("facts", {})
        news = f"{found} is up to date: {_summary(facts)}"
    else:
        with new_version(base) as made:
            importlib.import_module("export.runtime")  # TensorFlow, without its chatter
            build = importlib.import_module(f"export.zoo.{model.module}").build
            facts = build(made.path, name, chosen, seed, **further)
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
    if "form" in facts:
        return f"{facts['parameters']:,} weights of {facts['weights']}, {facts['samples']} as samples"
    return (f"trained on {facts['trained_on']} {facts['of']} of {facts['data']}; "
            f"accuracy {facts['accuracy']:.2%} on {facts['held_out']} held-out {facts['of']}")
