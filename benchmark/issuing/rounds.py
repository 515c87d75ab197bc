"""Measures targets side by side: starts them, checks that their answers are equal, then measures rounds."""
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from time import monotonic

from benchmark.issuing.group import Group
from benchmark.issuing.plan import Plan
from benchmark.issuing.progress import duration, progress_bar
from benchmark.targets.operations import operations
from benchmark.targets.starting import Instance, start_all
from benchmark.targets.target import Target
from benchmark.targets.witness import why_not_counted
from benchmark.verdicts.block import Block
from benchmark.verdicts.records import AccuracyRecord, ConductRecord, OperationsRecord, TargetRecord, UsedRecord
from benchmark.verdicts.scenario import protocol_name
from commandline import step


@dataclass
class Outcome:
    """What was measured so far, in complete rounds."""

    plan: Plan
    inputs: str = ""
    measured_by: dict[str, str] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)
    facts: dict[str, TargetRecord] = field(default_factory=dict)
    first_wrong: str | None = None
    answers: dict[str, str] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    design: dict[str, str] = field(default_factory=dict)
    accuracy: dict[str, dict[str, AccuracyRecord]] = field(default_factory=dict)
    used: dict[str, dict[str, UsedRecord]] = field(default_factory=dict)

    def about(self) -> ConductRecord:
        """How it was measured, for the report."""
        return {"inputs": self.inputs, "measured_by": self.measured_by, "targets": self.facts,
                "first_wrong": self.first_wrong, "answers": self.answers, "ended": self.ended, "design": self.design,
                "accuracy": self.accuracy, "used": self.used, "not_counted": why_not_counted()}

    def add(self, group: Group, blocks: Sequence[Block]) -> None:
        """Adds the blocks of a round of a group, and updates what is known about the group."""
        self.blocks += blocks
        self.inputs = group.inputs
        if group.accuracy:
            self.accuracy[group.title] = group.accuracy
        by = self.measured_by.get(group.protocol, "")
        self.measured_by[group.protocol] = by if group.measured_by in by else (
            f"{by}; {group.measured_by}" if by else group.measured_by)
        for name, checker in group.checked().items():
            if checker.seen and name != self.plan.targets[0].name:
                self.answers[f"{protocol_name(group.protocol)} {group.batch} {name}"] = checker.seen.summary()
            self.first_wrong = self.first_wrong or checker.first_wrong


def measure(plan: Plan, round_done: Callable[[Outcome], None] = lambda outcome: None) -> Outcome:
    """Runs the whole plan and shows its progress; calls round_done(outcome so far) after every round.

    Raises FailedError if answers differ between targets or a server fails.
    """
    outcome = Outcome(plan)
    names = " and ".join(target.name for target in plan.targets)
    with ExitStack() as stack:
        with step(f"Start {names} ({plan.processes} processes each)"):
            instances = stack.enter_context(start_all(plan.targets, plan.processes))
        groups = [Group(plan, instances, protocol, batch) for protocol in plan.protocols for batch in plan.batches]
        left = plan.max_s
        for index, group in enumerate(groups):
            with group.connected():  # its warm-up is not measuring: large models would have no time left
                # Each group gets an equal share of the time that is left, so unused time goes to the groups after it.
                began = monotonic()
                until = None if left is None else began + left / (len(groups) - index)
                shown = "" if until is None else f", at most {duration(until - began)}"
                title = f"{group.title}: measure {names} alternately{shown}"
                with progress_bar(title, plan.repeat * len(plan.targets), until) as done:
                    for blocks in group.rounds(until):
                        outcome.add(group, blocks)
                        round_done(outcome)
                        done(sum(len(block.latencies) for block in blocks))
                left = None if left is None else max(0.0, left - (monotonic() - began))
            outcome.ended[group.title] = group.ended
            outcome.design[group.title] = group.designed
            if group.used:
                outcome.used[group.title] = group.used
        known = [target.name for target in plan.targets if target.version_directory and target.by_tensorflow]
        with step(f"Count the operations of {' and '.join(known)}") if known else nullcontext():
            outcome.facts = {target.name: _facts(target, instances[target.name]) for target in plan.targets}
    return outcome


def _facts(target: Target, instances: Sequence[Instance]) -> TargetRecord:
    first = instances[0]
    # The operations of another engine are not those of the SavedModel.
    counted = target.version_directory if target.by_tensorflow else None
    return {
        **(operations(counted) if counted else OperationsRecord()),
        "backend": target.backend, "engine": target.engine,
        "path": str(target.version_directory) if target.base_path else None,
        "load_s": first.load_s, "first_request_s": first.first_request_s,
        "resident_bytes": first.child.resident_bytes() if first.child else None}
