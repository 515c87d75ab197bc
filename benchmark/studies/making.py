"""Makes the versions that a study measures, with this project's own commands; what is refused is no failure."""
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.reports.op_counts import Variant as VariantRecord
from benchmark.studies.conversions import TOOLS, Runs
from benchmark.studies.study import Study, Variant
from benchmark.targets.export_command import ExportError, export
from benchmark.targets.operations import operations
from commandline import step
from version_directory import model_bytes, newest


@dataclass
class Made:
    """What was made. By (model, variant or tool): how a target runs a conversion, and what could not be made and why.
    """

    models: Path
    runs: dict[tuple[str, str], Runs] = field(default_factory=dict)
    refused: dict[tuple[str, str], str] = field(default_factory=dict)

    def version(self, model: str, variant: str) -> Path | None:
        return newest(self.models / model / variant)


def make(study: Study, models: Path, quick: bool, only: Collection[str] = ()) -> Made:
    """Builds the study's models, and their variants. What is up to date is kept.

    only: the models to do this for, if not for all; of the others the newest versions are taken as they are, and what
    other tools make of them is looked at again, since it decides which targets a part has.
    Raises FailedError if a model cannot be built; a variant that is refused is in `refused`.
    """
    made = Made(models)
    for arguments in study.builds:
        if only and arguments[0] not in only:
            continue
        with step(f"Build {models / arguments[0]}{''.join(f' {each}' for each in arguments[1:])}"):
            export("build", *arguments, "--to", str(models), "--reuse")
    for variant in study.variants:
        if (quick and not variant.quick) or (only and variant.model not in only):
            continue
        with step(f"Make {models / variant.model / variant.name}"):
            if why := _made(variant, models):
                made.refused[variant.model, variant.name] = why
    for each in study.conversions:
        version = made.version(each.model, each.source)
        if version is not None and (each.quick or not quick):
            found = TOOLS[each.tool](version, models / each.model / each.tool)
            if isinstance(found, str):
                made.refused[each.model, each.tool] = found
            else:
                made.runs[each.model, each.tool] = found
    return made


def _made(variant: Variant, models: Path) -> str:
    """Makes one variant; returns why it is refused, "" if it is not."""
    source, to = models / variant.model / variant.source, models / variant.model / variant.name
    try:
        export("optimize", str(source), "--to", str(to), "--reuse", *variant.arguments)
    except ExportError as error:
        return str(error)
    return ""


def counted(made: Made, shown: Mapping[tuple[str, str], str]) -> list[VariantRecord]:
    """Size, nodes and operations of the variants to show; `shown`: (model, variant) -> its name on the page."""
    found: list[VariantRecord] = []
    for (model, variant), name in shown.items():
        version = made.version(model, variant)
        if version is None or (model, variant) in made.refused:
            continue
        with step(f"Count the operations of {version}"):
            facts = operations(version)
        found.append({"name": name, "bytes": model_bytes(version), "nodes": facts.get("nodes", 0),
                      "ops": facts.get("ops", {})})
    return found
