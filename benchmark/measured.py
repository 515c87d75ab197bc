"""Plans and measures a comparison, and checks it against demands (--fail-if, --budget) and a stored result."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import click

import cpu_class
from benchmark.issuing.group import LONG_S
from benchmark.issuing.plan import Plan
from benchmark.issuing.progress import duration
from benchmark.issuing.rounds import measure
from benchmark.issuing.trial import UNPINNED
from benchmark.options import announce
from benchmark.reports import card, environment, stored
from benchmark.reports import compare as report
from benchmark.reports.compare import CompareResult, Settings, compared
from benchmark.reports.head import head, stolen_time
from benchmark.reports.terminal import plain
from benchmark.targets import room
from benchmark.targets.inputs import Inputs
from benchmark.targets.source import protocols_for
from benchmark.targets.target import PROTOCOLS, Target
from benchmark.verdicts.against import against as against_stored
from benchmark.verdicts.block import Block
from benchmark.verdicts.comparison import RULES, Rules, decisive
from benchmark.verdicts.demands import Demands, groups, over_budget
from benchmark.verdicts.records import AgainstRecord, ComparisonRecord, Verdict
from benchmark.verdicts.scenario import protocol_name
from serving.client.answers import Budget
from user_error import UserError
from whole_file import write_json, write_text

LEAST = 200
MAX_TIME_S = 600.0


@dataclass(frozen=True)
class Measured:
    """A measured comparison. `result` is what --json writes; `failures` are the demands that are not met."""

    result: CompareResult
    failures: tuple[str, ...]

    @property
    def comparisons(self) -> list[ComparisonRecord]:
        """The comparison that decides of each candidate, protocol and batch size; times in ms."""
        return decisive(self.result["comparisons"])

    @property
    def verdict(self) -> Verdict:
        """"slower" if any deciding comparison is slower; "faster" or "equal" if all are; else "cannot tell"."""
        found = {each["verdict"] for each in self.comparisons}
        return "slower" if "slower" in found else found.pop() if len(found) == 1 else "cannot tell"

    def __str__(self) -> str:
        return "\n".join(map(plain, report.lines(self.result)))

    def save(self, path: str | Path) -> None:
        """Writes the result as JSON, which `report` and `--against` read."""
        write_json(str(path), self.result)

    def html(self, path: str | Path) -> None:
        """Writes the report as one HTML file that works offline."""
        write_text(path, report.html(self.result))

    def card(self, path: str | Path) -> None:
        """Writes the verdicts as a picture, .svg or .png."""
        card.write(path, self.result)


def planned(targets: Sequence[Target], inputs: Inputs, protocols: tuple[str, ...] | None, batches: tuple[int, ...],
            repeat: int | None, warmup: int, processes: int, budget: Budget | None, max_s: float | None,
            demands: Demands, rules: Rules = RULES, design: str = UNPINNED) -> Plan:
    """The plan of a comparison. Raises UserError if it cannot be measured, or if its demands could not be judged."""
    if len(targets) < 2:
        raise UserError("compare needs a baseline and a candidate: python -m benchmark compare original optimized")
    if not batches or min(batches) < 1 or warmup < 0 or processes < 1 or (repeat is not None and repeat < 1):
        raise UserError("batch sizes and repeat are at least 1, warmup at least 0, and processes at least 1")
    if unknown := set(protocols or ()) - set(PROTOCOLS):
        raise UserError(f"no protocol '{sorted(unknown)[0]}': choose from {', '.join(PROTOCOLS)}")
    needed = demands.requests()
    if repeat and repeat < needed:
        raise UserError(f"--budget {', '.join(map(str, demands.budgets))} needs at least {needed:,} requests, "
                        f"and --repeat is {repeat:,}: raise it or leave it out")
    started = room.processes(targets, processes)
    if started < processes:
        announce(f"{started} of each, not {processes}: the others would take more memory than is free, "
                 f"{room.needed_bytes(targets) / 1e9:.1f} GB for each more")
    return Plan(tuple(targets), protocols_for(targets, protocols), batches, repeat or LEAST, warmup, inputs, started,
                budget, max_s, until_certain=repeat is None, demanded=needed, design=design,
                rules=replace(rules, anytime=repeat is None))


def measured(plan: Plan, demands: Demands, against: Path | None = None, json_path: Path | None = None) -> Measured:
    """Measures the plan and checks the demands. Raises UserError if the stored result cannot be compared with it."""
    before = require_comparable(stored.load(against), str(against), plan) if against else None
    announce(description(plan))
    result = run(plan, json_path)
    if before:
        result["against"] = against_each(result, before)
    return Measured(result, tuple(failures(result, demands)))


def description(plan: Plan) -> str:
    """The plan in words: how many requests, and when measuring ends."""
    requests = f"{max(plan.repeat, plan.demanded):,}{' or more' * plan.until_certain}"
    ends = f", until the verdict is certain, about {duration(LONG_S)} at most" * plan.until_certain
    limit = f"; measuring ends after {duration(plan.max_s)} at the latest (--max-time)" if plan.max_s else ""
    return f"{requests} requests per target, protocol and batch size{ends}{limit}"


def run(plan: Plan, json_path: Path | None = None) -> CompareResult:
    """Measures the plan with a progress bar; every finished round is saved in json_path's folder until the end."""
    names, seed = [target.name for target in plan.targets], plan.inputs.seed
    began = head("compare", plan.targets, seed)
    settings: Settings = {"signature": plan.inputs.signature or "serving_default", "repeat": plan.repeat,
                          "warmup": plan.warmup, "processes": plan.processes}
    journal = stored.Journal(json_path and json_path.with_name(f".{json_path.name}.rounds"), {
        "kind": "compare", "targets": names, "about": {**began, **settings}, "rules": asdict(plan.rules), "seed": seed})
    complete = False
    try:
        with stolen_time(began["environment"]):
            outcome = measure(plan, lambda outcome: journal.save(outcome.blocks, outcome.about()))
        complete = True
    finally:
        if kept := journal.close(complete):
            click.echo(kept, err=True)
    found = compared(names, outcome.blocks, plan.rules, seed)
    return cast(CompareResult, {**began, **settings, **outcome.about(), **found})


def failures(result: CompareResult, demands: Demands) -> list[str]:  # decision 150
    """The demands that are not met: a sentence each, which begins with the option. Wrong answers come first."""
    found = [f"wrong answers while measuring: {result['first_wrong']}"] if result.get("first_wrong") else []
    if (beside_stored := result.get("against")) is not None:
        found += [f"{option}: {report.against_sentence(each)}" for each in beside_stored
                  if (option := demands.failed(each))]
    else:
        found += [f"{option}: {report.sentence(each)}" for each in decisive(result["comparisons"])
                  if (option := demands.failed(each))]
    blocks = [Block.from_json(block) for block in result["blocks"]]
    return found + [
        f"--budget {budget}: {protocol_name(protocol)} batch {batch}: {name} has {why}"
        for budget in demands.budgets for (name, protocol, batch), own in groups(blocks).items()
        if name != result["baseline"] and (why := over_budget(budget, own))]


def require_comparable(before: object, path: str, plan: Plan) -> CompareResult:  # decision 151
    """Returns the stored result. Raises UserError if it cannot be compared with what the plan measures."""
    result = cast(CompareResult, before)
    if result["kind"] != "compare":
        raise UserError(f"{path} is a result of '{result['kind']}': --against needs a result of 'compare'")
    baseline = plan.targets[0]
    if result["baseline"] != baseline.name:
        raise UserError(f"{path} has the baseline '{result['baseline']}', not '{baseline.name}': runs at different "
                        "times are compared by their ratios over the same baseline, measured in both")
    known = result["environment"].get("models", {}).get(baseline.name)
    digest = known and known["digest"]
    if digest is None or baseline.version_directory is None:
        without = path if digest is None else "this run"
        raise UserError(f"{without} has no digest of the baseline '{baseline.name}', so it cannot be shown that both "
                        "measured the same model: name a variant, whose files are known, not an address")
    if digest != environment.digest(baseline.version_directory, baseline.files):
        raise UserError(f"{path} measured another model as '{baseline.name}' than {baseline.version_directory} is: "
                        "measure its version again, or store a new result")
    then, now = environment.class_of(result["environment"]), str(cpu_class.current())
    if then != now:
        raise UserError(f"{path} was measured on another class of CPU ({then or 'not known'}) than this one ({now}), "
                        "and a ratio holds for one class: store a result from a machine like this one")
    for target in plan.targets[1:]:
        for protocol in plan.protocols:
            for batch in plan.batches:
                _stored(result, path, target.name, protocol, batch)
    return result


def against_each(result: CompareResult, before: CompareResult) -> list[AgainstRecord]:
    """Compares each comparison that decided in the stored result with the same one of now."""
    metric = decisive(before["comparisons"])[0]["metric"]
    return [against_stored(each, _stored(before, "", each["candidate"], each["protocol"], each["batch"]))
            for each in result["comparisons"] if each["metric"] == metric]


def _stored(result: CompareResult, path: str, candidate: str, protocol: str, batch: int) -> ComparisonRecord:
    """The stored comparison of the candidate of this name, or of the only candidate. Raises UserError without it."""
    names = list(dict.fromkeys(each["candidate"] for each in result["comparisons"]))
    name = candidate if candidate in names else names[0] if len(names) == 1 else None
    for each in decisive(result["comparisons"]):
        if (each["candidate"], each["protocol"], each["batch"]) == (name, protocol, batch):
            return each
    where = f"{protocol_name(protocol)} batch {batch}"
    raise UserError(f"{path} has no comparison of '{candidate}' over {where}: it has "
                    f"{', '.join(names)}, {_measured_as(result)}")


def _measured_as(result: CompareResult) -> str:
    return ", ".join(dict.fromkeys(f"{protocol_name(each['protocol'])} batch {each['batch']}"
                                   for each in result["comparisons"]))
