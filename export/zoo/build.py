"""python -m export build NAME: makes a reference model and exports it as the next version of its `original`."""
import importlib
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

# The module of each model, and a line about it.
MODELS = {
    "mnist": ("mnist", "the article's convolutional digit classifier, trained (22 MB)"),
    "encoder": ("encoder", "an encoder of text like BERT-base: 12 blocks, 768 wide, 128 tokens (875 MB)"),
    "detector": ("detector", "a detector of the kind of ssd_inception_v2, in TensorFlow 1 form (59 MB)"),
    "mobilenet_v2": ("applications", "keras.applications.MobileNetV2 (31 MB)"),
    "resnet50": ("applications", "keras.applications.ResNet50 (207 MB)"),
    "efficientnet_b0": ("applications", "keras.applications.EfficientNetB0 (48 MB)"),
    "g2p": ("g2p", "letters to phonemes: the encoder and decoder of g2p-en 2.1.0, with its weights (3 MB)"),
}
# The variant that each form of g2p is.
VARIANTS = {"article": "original", "loop": "loop", "serving": "serving", "serving_xla": "serving_xla"}
TRAINED, OF_A_PACKAGE = ("mnist",), ("g2p",)


@click.command(epilog="\b\nThe models:\n" + "\n".join(f"  {name:15}  {about}" for name, (_, about) in MODELS.items())
               + "\n\nAll but mnist and g2p have random weights: they show speed and size, and their answers mean nothing.")
@click.argument("name", type=click.Choice(list(MODELS)))
@click.option("--data", type=click.Choice(["digits", "mnist"]), show_default="digits",
              help="Of mnist. digits: scikit-learn's 1,797 real images, no network. mnist: Keras downloads it once.")
@click.option("--size", type=click.Choice(["full", "small"]), show_default="full",
              help="Of models with random weights. small: fewer blocks, narrower or smaller images, for quick tests.")
@click.option("--form", type=click.Choice(list(VARIANTS)), show_default="article",
              help="Of g2p. article: one call a phoneme, in TensorFlow 1; loop: the loop in the graph, nothing else; "
                   "serving: made for serving; serving_xla: that for servers that allow XLA.")
@click.option("--weights", type=click.Path(path_type=Path), metavar="FILE", show_default="those of the installed package g2p-en",
              help="Of g2p. g2p-en's checkpoint20.npz.")
@click.option("--to", "models", callback=path_given, default="models", show_default=True, metavar="DIR",
              help="The directory that holds all models.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0),
              help="Seed of the weights, of the samples, and of the choice of held-out images.")
@click.option("--reuse", is_flag=True, help="Keep the newest version if this code and configuration made it.")
@json_option
def command(name: str, data: str | None, size: str | None, form: str | None, weights: Path | None, models: Path,
            seed: int, reuse: bool, json_path: str | None) -> None:
    """Make the reference model NAME and export it to MODELS/NAME/original/VERSION, with samples.

    Each form of g2p other than the article's is a variant of its own, named like the form.

    \b
    Examples:
      python -m export build mnist
      python -m export build mnist --data mnist --to /srv/models
      python -m export build resnet50
      python -m export build g2p --form serving
    """
    takes_form = name in OF_A_PACKAGE
    for option, value, takes in (("--data", data, name in TRAINED), ("--form", form, takes_form),
                                 ("--weights", weights, takes_form),
                                 ("--size", size, name not in TRAINED and not takes_form)):
        if value and not takes:
            raise UserError(f"{name} takes no {option}: leave it out")
    module = MODELS[name][0]
    source = None
    if takes_form:
        kind, chosen, own = "form", form or "article", tuple(
            sorted(file.stem for file in Path(__file__).parent.glob("g2p*.py")))
        weights = g2p_weights.find(weights)
        source = manifest.digest(weights) if weights.is_file() else None
    elif name in TRAINED:
        kind, chosen, own = "data", data or "digits", (module,)
    else:
        kind, chosen, own = "size", size or "full", (module, "pictures", "random_weights")
    base = models / name / VARIANTS.get(chosen, "original")
    code = [Path(__file__).with_name(f"{file}.py") for file in ("build", *own)]
    wanted = manifest.recipe({"model": name, kind: chosen, "seed": seed}, code, source)
    found = manifest.reusable(base, wanted) if reuse else None
    if found:
        facts: dict[str, Any] = (manifest.read(found) or {}).get("facts", {})
        news = f"{found} is up to date: {_summary(facts)}"
    else:
        with new_version(base) as made:
            importlib.import_module("export.runtime")  # TensorFlow, without its chatter
            build = importlib.import_module(f"export.zoo.{module}").build
            facts = build(made.path, name, chosen, seed, *([weights] if takes_form else []))
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
    return (f"trained on {facts['trained_on']} images of {facts['data']}; "
            f"accuracy {facts['accuracy']:.2%} on {facts['held_out']} held-out images")
