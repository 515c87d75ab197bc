"""Measures targets side by side: starts them, proves their answers equal, then rounds of A B B A until done."""
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from time import monotonic, perf_counter

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmark.targets.connections import Connection, Measured, Workload
from benchmark.targets.inputs import Inputs
from benchmark.targets.operations import operations
from benchmark.targets.starting import Instance, alive, first_request, start_all
from benchmark.targets.target import Target
from benchmark.verdicts.comparison import Block, aa_control, block_plan, clear, compare, round_order
from benchmark.verdicts.records import ConductRecord, OperationsRecord, TargetRecord
from benchmark.verdicts.scenario import protocol_name
from commandline import step
from serving.client import answers
from user_error import FailedError

PRECISE = 0.02
# A verdict that is clear ends a run that has measured so long; a shorter one goes on to its full number of requests.
LONG_S = 60.0
LEAST_CLEAR = 50


@dataclass(frozen=True)
class Plan:
    """What one comparison measures. `repeat` requests per target, then more until `most` or it is precise.

    `max_s` is the time limit in seconds of measuring, all protocols and batch sizes together; None: no limit. With
    `until_clear` one that takes long ends as soon as its verdict is clear.
    """

    targets: tuple[Target, ...]
    protocols: tuple[str, ...] = ("rest", "grpc")
    batches: tuple[int, ...] = (100,)
    repeat: int = 200
    most: int = 0
    warmup: int = 10
    inputs: Inputs = field(default_factory=Inputs)
    processes: int = 2
    budget: answers.Budget | None = None
    max_s: float | None = None
    until_clear: bool = False


@dataclass
class Outcome:
    """What was measured so far; complete rounds only."""

    plan: Plan
    inputs: str = ""
    measured_by: dict[str, str] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)
    facts: dict[str, TargetRecord] = field(default_factory=dict)
    first_wrong: str | None = None
    answers: dict[str, str] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)

    def about(self) -> ConductRecord:
        """What a report says of the measurement beside its figures."""
        return {"inputs": self.inputs, "measured_by": self.measured_by, "targets": self.facts,
                "first_wrong": self.first_wrong, "answers": self.answers, "ended": self.ended}


def measure(plan: Plan, round_done: Callable[[Outcome], None] = lambda outcome: None) -> Outcome:
    """Runs the whole plan, showing its progress; calls round_done(outcome so far) after every round."""
    outcome = Outcome(plan)
    names = " and ".join(target.name for target in plan.targets)
    with ExitStack() as stack:
        with step(f"Start {names} ({plan.processes} processes each)"):
            started = stack.enter_context(start_all(plan.targets, plan.processes))
            # With one process each, its blocks take turns as replicas: drift is still seen, luck of a process is not.
            instances = {name: (own * 2)[:2] for name, own in started.items()}
        groups = [(protocol, batch) for protocol in plan.protocols for batch in plan.batches]
        end = None if plan.max_s is None else monotonic() + plan.max_s
        for index, (protocol, batch) in enumerate(groups):
            with ExitStack() as connections:
                measured = _prepare(plan, protocol, batch, instances, outcome, connections)
                # Each group has its share of the time that is left: what one does not need, the others get.
                began = monotonic()
                until = None if end is None else began + max(0.0, end - began) / (len(groups) - index)
                shown = "" if until is None else f", at most {duration(until - began)}"
                words = f"{title(protocol, batch)}: measure {names} in turns{shown}"
                done = connections.enter_context(counted(words, plan.repeat * len(plan.targets), until))
                outcome.ended[title(protocol, batch)] = _rounds(plan, protocol, batch, instances, measured, outcome,
                                                                round_done, done, until)
        outcome.facts = {target.name: _facts(target, instances[target.name]) for target in plan.targets}
    return outcome


def title(protocol: str, batch: int) -> str:
    return f"{protocol_name(protocol)} batch {batch}"


Connections = dict[tuple[str, int], Measured]


def _prepare(plan: Plan, protocol: str, batch: int, instances: dict[str, list[Instance]], outcome: Outcome,
             stack: ExitStack) -> Connections:
    """Opens the connections, checks that every process answers as the first one does, and warms all of them up."""
    measured: Connections = {}
    workload: Workload | None = None
    with step(f"{title(protocol, batch)}: check that the answers are equal, warm up ({plan.warmup} requests each)"):
        for target in plan.targets:
            for replica, instance in enumerate(instances[target.name]):
                with alive(instance, "while it was warmed up"):
                    connection = instance.connect(protocol, plan.inputs.signature)
                    stack.callback(connection.close)
                    if workload is None:
                        batches, outcome.inputs = plan.inputs.batches(connection.signature(), batch,
                                                                      target.version_directory)
                        workload = Workload(batch, batches, budget=plan.budget)
                        workload.expected = [connection.decode(first_request(instance, connection, each))
                                             for each in batches]
                        _refuse_constant(workload, target)
                    else:
                        first_request(instance, connection, workload.inputs[0])
                    measured[target.name, replica] = _checked(connection, workload, target, plan.targets[0])
                    known = outcome.measured_by.get(protocol, connection.measured_by)
                    by = known if connection.measured_by in known else f"{known}; {connection.measured_by}"
                    outcome.measured_by[protocol] = by
                    measured[target.name, replica].block(plan.warmup, target=target.name, replica=replica,
                                                         protocol=protocol, round=-1)
    return measured


def _checked(connection: Connection, workload: Workload, target: Target, first: Target) -> Measured:
    measured = Measured(connection, workload)
    for index in range(len(workload.inputs)):
        if not measured.right(index, measured.ask(index)[1]):
            raise FailedError(f"{target.name} answers otherwise than {first.name}, so their speed is not comparable: "
                            f"{measured.checker.first_wrong}")
    return measured


def _refuse_constant(workload: Workload, target: Target) -> None:
    """Equality with a model that answers the same to everything proves nothing."""
    proof = answers.prove((expected, expected) for expected in workload.expected)
    if not proof.equal and workload.batch * len(workload.inputs) > 1:
        raise FailedError(f"{target.name}: {proof.reasons[0]}; real ones can be given with --samples FILE.npz")


def _rounds(plan: Plan, protocol: str, batch: int, instances: dict[str, list[Instance]], measured: Connections,
            outcome: Outcome, round_done: Callable[[Outcome], None], done: Callable[[int], None],
            until: float | None) -> str:
    """Rounds until it is enough; returns why it ended."""
    names = [target.name for target in plan.targets]
    counts, began = block_plan(plan.repeat), monotonic()
    for round_ in itertools.count():
        own = [block for block in outcome.blocks if (block.protocol, block.batch) == (protocol, batch)]
        if round_ and (why := _enough(plan, own, names, round_ == len(counts), began, until)):
            return why
        if round_ == len(counts):
            counts += block_plan(max(2, plan.repeat // 4))
        there, back = counts[round_]
        blocks = []
        for position, (name, replica) in enumerate(round_order(names, round_)):
            count = there if position < len(names) else back
            with alive(instances[name][replica], "while it was measured"):
                blocks.append(measured[name, replica].block(count, target=name, replica=replica, protocol=protocol,
                                                         round=round_))
        outcome.blocks += blocks
        for (name, _), each in measured.items():
            if each.checker.seen and name != names[0]:
                outcome.answers[f"{protocol_name(protocol)} {batch} {name}"] = each.checker.seen.summary()
        outcome.first_wrong = outcome.first_wrong or next(
            (each.checker.first_wrong for each in measured.values() if each.checker.first_wrong), None)
        round_done(outcome)
        done(sum(len(block.latencies) for block in blocks))
    raise AssertionError("rounds have no end")


def _enough(plan: Plan, blocks: Sequence[Block], names: Sequence[str], planned: bool, began: float,
            until: float | None) -> str:
    """Why it may end after these rounds, "" where it may not; `planned`: all rounds planned so far are done."""
    requests = sum(len(block.latencies) for block in blocks if block.target == names[0])
    if planned and requests >= plan.most:
        return f"all {requests:,} requests per target"
    if planned and precise(blocks, names):
        return f"the interval was within {PRECISE:.0%} after {requests:,} requests per target"
    if plan.until_clear and monotonic() - began >= LONG_S and requests >= LEAST_CLEAR and clear(blocks, names):
        return f"the verdict was clear after {requests:,} requests per target"
    # One round has no spread, and so no interval.
    if until is not None and monotonic() >= until and blocks[-1].round:
        return f"the time limit (--max-time), after {requests:,} requests per target"
    return ""


def precise(blocks: Sequence[Block], names: Sequence[str]) -> bool:  # decision 64
    """Whether the ratios of means and those of equals (the floor is made of them) are all known within 2 %.

    Width ends a run whatever its verdict; a verdict ends one only if it is far from any doubt (see `clear`).
    """
    ratios = [(c.ratio, *c.ci95) for c in (compare(blocks, names[0], other, "mean") for other in names[1:])]
    controls = [aa_control([block for block in blocks if block.target == name], "mean") for name in names]
    ratios += [(control.value, control.low, control.high) for control in controls if control]
    return all(high - low <= 2 * PRECISE * value for value, low, high in ratios)


def _facts(target: Target, instances: Sequence[Instance]) -> TargetRecord:
    first = instances[0]
    return {
        **(operations(target.version_directory) if target.version_directory else OperationsRecord()),
        "backend": target.backend, "path": str(target.version_directory) if target.base_path else None,
        "load_s": first.load_s, "first_request_s": first.first_request_s,
        "resident_bytes": first.child.resident_bytes() if first.child else None}


@contextmanager
def counted(title: str, total: int, until: float | None = None) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, one line when done everywhere else. Yields a function that takes the steps done since.

    until: when it ends at the latest (monotonic clock); the bar shows the seconds left.
    """
    console, began = Console(stderr=True, highlight=False), perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
               TextColumn("{task.fields[left]}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=total, left="")

        def done(steps: int) -> None:
            left = "" if until is None else f"at most {duration(max(0.0, until - monotonic()))} left"
            progress.update(task, advance=steps, left=left)
        yield done
    console.print(f"[green]✓[/green] {title} [dim]{perf_counter() - began:.1f} s[/dim]", soft_wrap=True)


def duration(seconds: float) -> str:
    """Seconds as a person says them: 45 s, 10 min."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
