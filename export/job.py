"""One run of `optimize`: the source, the destination, and everything that determines the result."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

import click

from export import manifest, saved_model
from export.edited import fix_option
from export.options import (
    allow_constant_option,
    allow_option,
    allow_random_option,
    atol_option,
    batches_option,
    rtol_option,
    samples_option,
    seed_option,
    signatures_option,
    tags_option,
    to_option,
    version_option,
)
from export.precision.reduction import Reduction, reduction_options
from export.sources import Source, checkpoint_option, inputs_option, outputs_option, source_argument

BATCHES = (1, 3, 100)
_EXPORT = Path(__file__).parent
_ROOT = _EXPORT.parent
_OTHERS = ("serving/client/answers.py", "serving/client/payloads.py")


@dataclass(frozen=True)
class Job:
    """What was asked; each field is an option of `python -m export optimize`."""

    given: Source
    base: Path
    version: int | None = None
    transforms: str = "default"
    signatures: tuple[str, ...] | None = None
    tags: tuple[str, ...] = saved_model.SERVE
    sample_file: Path | None = None
    batches: tuple[int, ...] = BATCHES
    allow_constant: tuple[str, ...] | None = None
    atol: float | None = None
    rtol: float | None = None
    seed: int = 0
    fixed: Mapping[str, str] = field(default_factory=dict)
    allow: frozenset[str] = frozenset()
    allow_random: frozenset[str] = frozenset()
    graph_limit: int = saved_model.GRAPH_LIMIT
    warmup: bool = False
    reuse: bool = False
    reduction: Reduction = field(default_factory=Reduction)

    def recipe(self) -> dict[str, Any]:
        """Everything that determines the version; see `manifest.recipe`."""
        return manifest.recipe(
            {"transforms": self.transforms, "inputs": self.given.inputs, "outputs": self.given.outputs,
             "signatures": self.signatures, "tags": self.tags, "batches": self.batches, "atol": self.atol,
             "rtol": self.rtol, "allow_constant": self.allow_constant, "seed": self.seed,
             "graph_limit": self.graph_limit, "warmup": self.warmup, "fix": self.fixed, "allow": sorted(self.allow),
             "allow_random": sorted(self.allow_random),
             "samples": manifest.digest(self.sample_file) if self.sample_file else None,
             **self.reduction.to_json()},
            code(), source=self.given.digest())


def code() -> list[Path]:
    """The source files that determine a version's content and whether it is published."""
    return [*(file for file in _EXPORT.rglob("*.py") if file.parent.name != "zoo"),
            *(_ROOT / "serving/engines").glob("*.py"), *(_ROOT / name for name in _OTHERS)]


def job_options(command: Callable[..., Any]) -> Any:
    """The options of `optimize`, as one parameter `job`."""
    @wraps(command)
    def with_job(source: str | None, checkpoint: str | None, inputs: str | None, outputs: str | None,
                 json_path: str | None, **others: Any) -> Any:
        return command(job=Job(Source.of(source, checkpoint, inputs, outputs), **others), json_path=json_path)
    decorated: Any = with_job
    for option in reversed((
            source_argument, to_option, version_option,
            click.option("--transforms", default="default", show_default=True, metavar="PIPELINE",
                         help="The steps: names with arguments, 'default', 'article', or @FILE."),
            checkpoint_option, inputs_option, outputs_option, signatures_option, tags_option, samples_option,
            batches_option("1,3,100"), allow_constant_option, atol_option, rtol_option, seed_option, fix_option,
            allow_option, allow_random_option,
            click.option("--graph-limit", type=int, default=saved_model.GRAPH_LIMIT, show_default=True,
                         metavar="BYTES",
                         help="Keep the weights in a variables file when constants take more than this."),
            click.option("--warmup", is_flag=True,
                         help="Write warm-up records: one request per signature and batch size."),
            reduction_options,
            click.option("--reuse", is_flag=True,
                         help="Keep the newest version if this source, code and configuration made it."))):
        decorated = option(decorated)
    return decorated
