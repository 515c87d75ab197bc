"""Publishes the version that was chosen: a copy of what was proven and measured, with a manifest that says how."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cpu_class
import durable
from export import manifest, publish
from export.engines.candidate import HOW_TO_SERVE
from export.equivalence import Report
from export.full_precision import write_warmup
from export.outcome import Made, Optimized
from export.precision.choice import ORIGINAL
from export.precision.layer import FULL
from export.precision.storage import Stored
from export.precision.trial import Trials, Tried
from version_directory import MANIFEST

_MOST_CHECKS = 4


def published(trials: Trials, name: str, wanted: Mapping[str, Any], lines: Sequence[str] = (),
              **facts: Any) -> Optimized:
    """The job's next version: a copy of the candidate `name`, or of the source. `facts` are for the manifest."""
    ready, job = trials.ready, trials.ready.job
    one = trials.tried.get(name) or Tried(name, FULL)
    report = Report(ready.path, ready.path) if name == ORIGINAL else trials.report(name)
    source = ready.path if name == ORIGINAL else trials.work.version(name)
    random = manifest.weights_are_random(ready.path)
    with publish.new_version(job.base, job.version) as made:
        durable.copy_tree(source, made.path)
        (made.path / MANIFEST).unlink(missing_ok=True)
        sizes, nodes = ready.sizes(made.path)
        if job.warmup:
            write_warmup(ready, made, report)
        manifest.write(
            made.path, wanted, **ready.facts(), **one.described(), chosen=name,
            **({} if job.reduction.storage else {"cpu_class": str(cpu_class.current())}), **one.facts,
            layers=one.layers,
            **({"weights": manifest.RANDOM} if random else {}), **facts, equality=report.by_signature(),
            seconds=ready.stages.seconds, nodes={"before": nodes[0], "after": nodes[1]})
    said = [*lines, *stays(one), *how_to_serve(one)]
    if random:
        said.append("The source's weights are random, so this proves speed and nothing about accuracy.")
    return Optimized(made.published, manifest.read(made.published) or {},
                     Made(ready.steps, report, sizes, nodes, str(ready.stages), tuple(said)))


def how_to_serve(one: Tried) -> list[str]:
    """What runs the files of another engine, the signatures that they do not have, and the checks."""
    if one.written is None:
        return []
    return [f"{one.name}: {one.bytes / 1e6:.2f} MB; {HOW_TO_SERVE[one.engine]}"] + [
        f"  signature '{key}' is not converted: {reason}" for key, reason in one.written["left"].items()] + [
        f"  {one.engine} leaves out {_checks(found)} of signature '{key}' and answers what TensorFlow refuses for: "
        f"{_named(found)}" for key, found in one.written["checks_left_out"].items()]


def _checks(found: Sequence[object]) -> str:
    return f"{len(found)} check{'s' * (len(found) > 1)}"


def _named(found: Sequence[Mapping[str, str]]) -> str:
    named = [f"'{one['node']}' ({one['op']})" for one in found[:_MOST_CHECKS]]
    return ", ".join(named + [f"{len(found) - _MOST_CHECKS} more (--json has all)"] * (len(found) > _MOST_CHECKS))


def stays(one: Tried) -> list[str]:
    """What was stored, or a line for the layers of each precision; and one for each that stays, with its reason."""
    if not one.layers:
        return Stored(**one.facts["storage"]).lines() if "storage" in one.facts else []
    counts: dict[str, int] = {}
    for layer in one.layers:
        counts[layer["precision"]] = counts.get(layer["precision"], 0) + 1
    return [f"{one.name}: {', '.join(f'{count} layers {precision}' for precision, count in counts.items())}"] + [
        f"  '{layer['node']}' ({layer['op']}) is {layer['precision']}: {layer['reason']}"
        for layer in one.layers if layer.get("reason")]
