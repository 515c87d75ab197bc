"""Measures the parts of a study, each once: what an earlier run finished is not measured again."""
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmark import measured
from benchmark.issuing.plan import Plan
from benchmark.issuing.rounds import measure
from benchmark.options import announce
from benchmark.reports.compare import CompareResult
from benchmark.reports.environment import digest, git_revision
from benchmark.studies.making import Made
from benchmark.studies.rows import rows
from benchmark.studies.stages import Stages, cpu
from benchmark.studies.study import Part, Step
from benchmark.targets.addresses import Access
from benchmark.targets.inputs import Inputs
from benchmark.targets.target import Target, find_target
from benchmark.verdicts.demands import Demands
from commandline import progress, step
from user_error import FailedError, UserError
from whole_file import write_json


@dataclass(frozen=True)
class Conduct:
    """How the parts are measured: the versions made for them, and the form.

    only: the models whose parts `stages.again` concerns, if not all.
    _wanted: by part, what it depends on, since the digests of large versions take seconds.
    """

    made: Made
    stages: Stages
    quick: bool = False
    seed: int = 0
    only: Collection[str] = ()
    _wanted: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def left(self, parts: Sequence[Part]) -> list[Part]:
        """The parts that are not measured yet."""
        return [part for part in parts if self._stages(part).done(part.key, self._depends_on(part)) is None]

    def measured(self, part: Part) -> dict[str, Any]:
        """The part's figures, measured now or before: {"rows", "missing", "inputs", "commit", "measured", "took_s"}.

        `missing` is why targets were left out, by model and label. Raises FailedError if a server dies or answers are
        wrong while it is measured.
        """
        return self._stages(part).run(part.key, self._depends_on(part), lambda raw: self._measure(part, raw))

    def _stages(self, part: Part) -> Stages:
        return self.stages if not self.only or part.model in self.only else replace(self.stages, again=False)

    def _compared(self, part: Part, targets: Sequence[Target], inputs: Inputs, raw: Path, missing: dict[str, str]
                  ) -> CompareResult | None:
        """The comparison; None, with its reason in `missing`, if a foreign tool fails at a batch size that it was not
        tried with."""
        requests = (part.quick if self.quick else part.requests) or None
        plan = measured.planned(targets, inputs, _protocols(part), part.batches, requests, part.warmup, part.processes,
                                None, part.quick_s if self.quick else part.most_s, Demands())
        announce(f"{part.title}: {measured.description(plan)}")
        try:
            return measured.run(plan, raw)
        except UserError as error:
            foreign = {each.label for each in part.steps if each.foreign}
            failed = {target.name for target in targets if target.name in foreign and target.name in str(error)}
            if not failed or len(targets) - len(failed) < 2:
                raise
            missing |= {f"{part.model}: {label}": str(error) for label in failed}
            return None

    def _depends_on(self, part: Part) -> dict[str, Any]:
        """What the part's figures depend on; its title and note do not count."""
        if part.key not in self._wanted:
            definition = {key: value for key, value in asdict(part).items() if key not in ("title", "note")}
            versions = {name: digest(version) for name in sorted({each.variant for each in part.steps})
                        if (version := self.made.version(part.model, name))}
            # A tool that could not be run then and can be now makes it another measurement.
            tools = {each.tool: (part.model, each.tool) in self.made.runs for each in part.steps if each.tool}
            self._wanted[part.key] = {"part": definition, "versions": versions, "tools": tools, "quick": self.quick,
                                      "seed": self.seed, "cpu": cpu()}
        return dict(self._wanted[part.key])

    def _measure(self, part: Part, raw: Path) -> dict[str, Any]:
        """Measures a part; the whole comparison is written to `raw`."""
        inputs = Inputs(part.signature, None, self.seed)
        targets, missing = _targets(part, self.made)
        targets, untried = _tried(part, targets, inputs)
        missing |= untried
        if len(targets) < 2:  # nothing is left to compare the first one with
            return {"rows": [], "missing": missing, "inputs": "", **_now()}
        while (result := self._compared(part, targets, inputs, raw, missing)) is None:
            targets = [target for target in targets if f"{part.model}: {target.name}" not in missing]
        write_json(raw, result)
        if result["first_wrong"]:
            raise FailedError(f"{part.title}: wrong answers while it was measured: {result['first_wrong']}")
        return {"rows": rows(result, {each.label: each.target for each in part.steps}, part.baselines,
                             self.seed), "missing": missing, "inputs": result["inputs"], **_now()}


def _now() -> dict[str, Any]:
    return {"commit": git_revision() or "", "measured": datetime.now(UTC).strftime("%Y-%m-%d")}


def _protocols(part: Part) -> tuple[str, ...] | None:
    return None if part.protocols == ("in-process",) else part.protocols


def _targets(part: Part, made: Made) -> tuple[list[Target], dict[str, str]]:
    """The part's targets in order, and why steps are left out. Raises UserError if the first one is missing."""
    found, missing = [], {}
    for each in part.steps:
        refused = made.refused.get((part.model, each.tool or each.variant))
        try:
            if refused:
                raise UserError(refused)
            found.append(_target(part, each, made))
        except UserError as error:
            if not found:
                raise
            missing[f"{part.model}: {each.label}"] = str(error)
    return found, missing


def _target(part: Part, each: Step, made: Made) -> Target:
    if each.tool:
        runs = made.runs.get((part.model, each.tool))
        if runs is None:
            raise UserError("the quick form leaves it out")
        return runs.target(each.label, part.model, signature=part.signature, threads=each.threads)
    target = find_target(each.target, made.models, part.model, each.flags, part.signature, each.grappler)
    if each.address:
        # An endpoint does not report its signatures: clients read them from the version's files.
        return replace(target, name=each.label, backend="address", rest=each.address, base_path=None,
                       access=Access(saved_model=str(target.version_directory)))
    return replace(target, name=each.label, kind=each.kind, threads=each.threads, env=each.env, prefix=each.prefix)


def _tried(part: Part, targets: Sequence[Target], inputs: Inputs) -> tuple[list[Target], dict[str, str]]:
    """The targets without those foreign ones that do not start or give other answers, and why.

    They are tried with the part's two smallest batch sizes: a tool that holds one shape fails at the second, and large
    batches of large models take minutes to try.
    """
    foreign = {each.label for each in part.steps if each.foreign}
    kept, missing = [], {}
    for target in targets:
        if target.name in foreign:
            try:
                with step(f"Try {target.name} on {part.model}"), progress(False):
                    measure(Plan((targets[0], target), _protocols(part) or ("in-process",),
                                 tuple(sorted(part.batches)[:2]), 1, 0, inputs, 1))
            except UserError as error:
                missing[f"{part.model}: {target.name}"] = str(error)
                continue
        kept.append(target)
    return kept, missing
