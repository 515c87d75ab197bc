"""Measures targets side by side: starts them, checks that their answers are equal, then measures rounds of A B B A."""
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import fmean
from time import monotonic, perf_counter

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmark.targets.child import Child
from benchmark.targets.connections import Checker, Connection, PreparedConnection, Workload
from benchmark.targets.first_answers import first_answers
from benchmark.targets.inputs import Inputs
from benchmark.targets.operations import operations
from benchmark.targets.precision import budget_between
from benchmark.targets.starting import Instance, alive, first_request, start_all
from benchmark.targets.target import Target
from benchmark.targets.witness import Witness, per_request, why_not_counted
from benchmark.verdicts.accuracy import accuracy
from benchmark.verdicts.comparison import PRECISE, Block, block_plan, clear, precise, round_order
from benchmark.verdicts.records import AccuracyRecord, ConductRecord, OperationsRecord, TargetRecord, UsedRecord
from benchmark.verdicts.scenario import protocol_name
from commandline import progress_console, step
from serving.client import answers
from serving.client.payloads import Array
from serving.client.protocol import AnswerError, Signature
from user_error import FailedError

# With `until_clear`, a clear verdict ends a measurement after this time; before, it goes on to its number of requests.
LONG_S = 60.0
LEAST_CLEAR = 50
# The first requests of a turn find the caches and the idle threads of the process before.
LEAD_S = 0.01  # decision 220
# Slow requests need fewer to be warm.
LEAST_WARM, WARM_S = 3, 4.0
# Requests that all take longer than this hide it.
_LONG_REQUEST_S = 0.05


@dataclass(frozen=True)
class Plan:
    """What one comparison measures: `repeat` requests per target, then more until it is precise, at most `most`.

    `max_s` is the time limit in seconds for all protocols and batch sizes together; None: no limit. With
    `until_clear`, a measurement that takes over a minute ends as soon as its verdict is clear.
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
    """What was measured so far, in complete rounds."""

    plan: Plan
    inputs: str = ""
    measured_by: dict[str, str] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)
    facts: dict[str, TargetRecord] = field(default_factory=dict)
    first_wrong: str | None = None
    answers: dict[str, str] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    accuracy: dict[str, dict[str, AccuracyRecord]] = field(default_factory=dict)
    used: dict[str, dict[str, UsedRecord]] = field(default_factory=dict)

    def about(self) -> ConductRecord:
        """How it was measured, for the report."""
        return {"inputs": self.inputs, "measured_by": self.measured_by, "targets": self.facts,
                "first_wrong": self.first_wrong, "answers": self.answers, "ended": self.ended,
                "accuracy": self.accuracy, "used": self.used, "not_counted": why_not_counted()}

    def add(self, group: "Group", blocks: Sequence[Block]) -> None:
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
            started = stack.enter_context(start_all(plan.targets, plan.processes))
            # With one process per target, it stands for both replicas: the A/A control then shows the machine's drift,
            # but not that one process may happen to be faster than another.
            instances = {name: (own * 2)[:2] for name, own in started.items()}
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
            if group.used:
                outcome.used[group.title] = group.used
        known = [target.name for target in plan.targets if target.version_directory and target.by_tensorflow]
        with step(f"Count the operations of {' and '.join(known)}") if known else nullcontext():
            outcome.facts = {target.name: _facts(target, instances[target.name]) for target in plan.targets}
    return outcome


def signature_in_words(signature: Signature) -> str:
    """The inputs by name, as text."""
    return ", ".join(f"'{name}' {spec}" for name, spec in sorted(signature.inputs.items())) or "no input"


class Group:
    """The targets of a plan under one protocol and batch size."""

    def __init__(self, plan: Plan, instances: Mapping[str, Sequence[Instance]], protocol: str, batch: int) -> None:
        self.protocol = protocol
        self.batch = batch
        self.title = f"{protocol_name(protocol)} batch {batch}"
        self.inputs = ""
        self.measured_by = ""
        self.ended = ""
        self.accuracy: dict[str, AccuracyRecord] = {}
        self.used: dict[str, UsedRecord] = {}
        self._labels: list[Array] | None = None
        self._plan = plan
        self._instances = {(name, replica): instance for name, own in instances.items()
                           for replica, instance in enumerate(own)}
        self._names = list(instances)
        self._measured: dict[tuple[str, int], PreparedConnection] = {}
        self._lead_s = LEAD_S
        # decision 181
        self._budgets = {target.name: plan.budget or budget_between(plan.targets[0], target, plan.inputs.signature)
                         for target in plan.targets}

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Connects to every process, checks that it answers like the first process, and warms it up."""
        warmup = self._plan.warmup
        means: list[float] = []
        with ExitStack() as stack:
            with step(f"{self.title}: check that the answers are equal, warm up (at most {warmup} requests each)"):
                workload: Workload | None = None
                for (name, replica), instance in self._instances.items():
                    with alive(instance, "while it was warmed up"):
                        if workload is None:
                            connection, workload = self._first_answers(instance)
                            stack.callback(connection.close)
                        else:
                            connection = instance.connect(self.protocol, self._plan.inputs.signature)
                            stack.callback(connection.close)
                            try:
                                first_request(instance, connection, workload.inputs[0])
                            except AnswerError:
                                self._refuse_other_inputs(name, connection, next(iter(self._measured.values())))
                                raise
                        measured = PreparedConnection(connection, replace(workload, budget=self._budgets[name]))
                        took = self._refuse_different_answers(name, measured)
                        if connection.measured_by not in self.measured_by:
                            self.measured_by += f"{'; ' if self.measured_by else ''}{connection.measured_by}"
                        means.append(warm_up(measured, warmup, took))
                        self._measured[name, replica] = measured
            # All have a lead or none: otherwise the quicker ones would have an advantage.
            self._lead_s = LEAD_S if min(means) < _LONG_REQUEST_S else 0.0
            yield

    def _first_answers(self, instance: Instance) -> tuple[Connection, Workload]:
        """The requests with the first process's answers, which all other processes must give too."""
        # A server that runs already may be compared with a variant of the same model, whose files are known.
        version = next((path for target in self._plan.targets if (path := target.version_directory)), None)
        connect = partial(instance.connect, self.protocol, self._plan.inputs.signature)
        found = first_answers(self._plan.inputs, instance, connect, self.batch, version, vary=True)
        self.inputs = found.inputs
        self._labels = self._plan.inputs.labels(found.connection.signature(), self.batch, version)
        return found.connection, Workload(self.batch, found.batches, found.expected)

    def _refuse_different_answers(self, name: str, measured: PreparedConnection) -> list[float]:
        """Raises FailedError if an answer differs; returns the seconds of the requests."""
        seen, took = [], []
        for index in range(len(measured.workload.inputs)):
            seconds, raw = measured.send(index)
            took.append(seconds)
            if not measured.right(index, raw):
                raise FailedError(f"{name} gives other answers than {self._names[0]}, so their speed is not "
                                  f"comparable: {measured.checker.first_wrong}")
            if self._labels is not None:
                seen.append(measured.connection.decode(raw))
        if self._labels is not None and (found := accuracy(measured.workload.expected, seen, self._labels)):
            self.accuracy[name] = found
        return took

    def _refuse_other_inputs(self, name: str, connection: Connection, first: PreparedConnection) -> None:
        """Raises FailedError if that is why the target refuses the first target's requests."""
        ours, theirs = (signature_in_words(one.signature()) for one in (connection, first.connection))
        if ours != theirs:
            raise FailedError(f"{name} takes {ours}, and {self._names[0]} takes {theirs}: variants of one model are "
                              "compared, which take the same requests (--signature chooses another signature)")

    def rounds(self, until: float | None) -> Iterator[list[Block]]:
        """Measures rounds and yields the blocks of each, until there are enough; `ended` then says why it ended, and
        `used` what the requests took of the processes."""
        witnesses: dict[Child, tuple[str, Witness]] = {}
        with ExitStack() as stack:
            for (name, _), instance in self._instances.items():
                if instance.child is not None and instance.child not in witnesses:
                    witnesses[instance.child] = name, stack.enter_context(Witness(instance.child))
            yield from self._rounds(until)
        for target in self._names:
            uses = [witness.used() for name, witness in witnesses.values() if name == target]
            if uses:
                sent = sum(measured.sent for (name, _), measured in self._measured.items() if name == target)
                self.used[target] = per_request(uses, sent)

    def _rounds(self, until: float | None) -> Iterator[list[Block]]:
        counts, began = block_plan(self._plan.repeat), monotonic()
        found: list[Block] = []
        for round_ in itertools.count():
            if round_ == len(counts):
                counts += block_plan(max(2, self._plan.repeat // 4))
            there, back = counts[round_]
            blocks = []
            for position, (name, replica) in enumerate(round_order(self._names, round_)):
                count = there if position < len(self._names) else back
                instance = self._instances[name, replica]
                with alive(instance, "while it was measured"):
                    blocks.append(self._measured[name, replica].block(
                        count, self._lead_s, target=name, replica=replica, protocol=self.protocol, round=round_))
                if instance.child is not None:
                    instance.child.settle()
            found += blocks
            yield blocks
            if self._enough(found, round_ + 1 == len(counts), began, until):
                return

    def _enough(self, blocks: Sequence[Block], planned: bool, began: float, until: float | None) -> bool:
        """Whether the measurement may end after these rounds; `planned`: all rounds planned so far are done."""
        plan, names, now = self._plan, self._names, monotonic()
        requests = sum(len(block.latencies) for block in blocks if block.target == names[0])
        if planned and requests >= plan.most:
            self.ended = f"all {requests:,} requests per target"
        elif planned and precise(blocks, names):
            self.ended = f"the interval was within {PRECISE:.0%} after {requests:,} requests per target"
        elif plan.until_clear and now - began >= LONG_S and requests >= LEAST_CLEAR and clear(blocks, names):
            self.ended = f"the verdict was clear after {requests:,} requests per target"
        elif until is not None and now >= until and blocks[-1].round:  # one round has no spread, and so no interval
            self.ended = f"the time limit (--max-time), after {requests:,} requests per target"
        return bool(self.ended)

    def checked(self) -> dict[str, Checker]:
        """{target: checker of its answers}: that of a replica with a wrong answer, if there was any."""
        found: dict[str, Checker] = {}
        for (name, _), measured in self._measured.items():
            if name not in found or measured.checker.first_wrong:
                found[name] = measured.checker
        return found


def warm_up(measured: PreparedConnection, most: int, took: Sequence[float] = ()) -> float:
    """Sends `most` requests, fewer if they take long; returns the mean seconds of all without the first two.

    took: the seconds of requests that were sent before; they have warmed it up, too.
    """
    every = list(took)
    while len(every) - len(took) < most and (len(every) < LEAST_WARM or sum(every) < WARM_S):
        seconds, raw = measured.send(len(every))
        measured.right(len(every), raw)
        every.append(seconds)
    return fmean(every[2:] or every or [0.0])


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


@contextmanager
def progress_bar(title: str, total: int, until: float | None = None) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal; elsewhere only one line at the end. Yields a function that adds finished steps.

    until: the latest end (monotonic clock); the bar shows the time left until then.
    """
    console, began = progress_console(), perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
               TextColumn("{task.fields[left]}"))
    with Progress(*columns, console=console, transient=True,
                  disable=console.quiet or not console.is_terminal) as progress:
        task = progress.add_task(title, total=total, left="")

        def done(steps: int) -> None:
            left = "" if until is None else f"at most {duration(max(0.0, until - monotonic()))} left"
            progress.update(task, advance=steps, left=left)
        yield done
    console.print(f"[green]✓[/green] {title} [dim]{perf_counter() - began:.1f} s[/dim]", soft_wrap=True)


def duration(seconds: float) -> str:
    """Seconds as text: 45 s, 10 min."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
