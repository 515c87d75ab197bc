"""Measures targets side by side: starts them, proves their answers equal, then rounds of A B B A until done."""
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.issuing.progress import counted
from benchmark.targets.child import PortTakenError
from benchmark.targets.connections import Measured, Workload
from benchmark.targets.inputs import inputs_for
from benchmark.targets.operations import operations
from benchmark.targets.target import Instance, Target, first_request, start
from benchmark.verdicts.comparison import Block, aa_control, block_plan, compare, round_order
from benchmark.verdicts.scenario import protocol_name
from commandline import step
from serving.client import answers
from serving.client.protocol import AnswerError, UnreachableError
from user_error import FailedError

DISTINCT = 4
PRECISE = 0.02
PORT_ATTEMPTS = 4


@dataclass(frozen=True)
class Plan:
    """What one comparison measures. `repeat` requests per target, then more until `most` or it is precise."""

    targets: tuple[Target, ...]
    protocols: tuple[str, ...] = ("rest", "grpc")
    batches: tuple[int, ...] = (100,)
    repeat: int = 200
    most: int = 0
    warmup: int = 10
    signature: str = ""
    samples: Path | None = None
    seed: int = 0
    processes: int = 2
    budget: answers.Budget | None = None


@dataclass
class Outcome:
    """What was measured so far; complete rounds only."""

    plan: Plan
    inputs: str = ""
    measured_by: dict[str, str] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    first_wrong: str | None = None
    answers: dict[str, str] = field(default_factory=dict)

    def about(self) -> dict[str, Any]:
        """What a report says of the measurement beside its figures."""
        return {"inputs": self.inputs, "measured_by": self.measured_by, "targets": self.facts,
                "first_wrong": self.first_wrong, "answers": self.answers}


@contextmanager
def start_all(targets: Sequence[Target], each: int) -> Iterator[dict[str, list[Instance]]]:
    """`each` instances of every target, loaded and answering; stopped at the end however it ends."""
    with ExitStack() as stack:
        instances: dict[str, list[Instance]] = {}
        for target in targets:
            for _ in range(each):
                instance = start(target)
                stack.callback(instance.stop)
                instances.setdefault(target.name, []).append(instance)
        for own in instances.values():
            for index, instance in enumerate(own):
                own[index] = _ready(instance, stack)
        yield instances


def _ready(instance: Instance, stack: ExitStack) -> Instance:
    """The instance once it answers, or one on other ports where another process was quicker to bind these."""
    for _ in range(PORT_ATTEMPTS - 1):
        try:
            instance.wait()
            return instance
        except PortTakenError:
            instance = start(instance.target)
            stack.callback(instance.stop)
    instance.wait()
    return instance


def measure(plan: Plan, round_done: Callable[[Outcome], None] = lambda outcome: None) -> Outcome:
    """Runs the whole plan, showing its progress; calls round_done(outcome so far) after every round."""
    outcome = Outcome(plan)
    names = " and ".join(target.name for target in plan.targets)
    with ExitStack() as stack:
        with step(f"Start {names} ({plan.processes} processes each)"):
            started = stack.enter_context(start_all(plan.targets, plan.processes))
            # With one process each, its blocks take turns as replicas: drift is still seen, luck of a process is not.
            instances = {name: (own * 2)[:2] for name, own in started.items()}
        for protocol in plan.protocols:
            for batch in plan.batches:
                with ExitStack() as connections:
                    measured = _prepare(plan, protocol, batch, instances, outcome, connections)
                    done = connections.enter_context(counted(f"{title(protocol, batch)}: measure {names} in turns",
                                                       plan.repeat * len(plan.targets)))
                    _rounds(plan, protocol, batch, instances, measured, outcome, round_done, done)
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
                    connection = instance.connect(protocol, plan.signature)
                    stack.callback(connection.close)
                    if workload is None:
                        inputs, outcome.inputs = inputs_for(connection.signature(), batch, DISTINCT, plan.samples,
                                                                    target.version_directory, plan.seed)
                        workload = Workload(batch, inputs, budget=plan.budget)
                        workload.expected = [connection.decode(first_request(instance, connection, each))
                                             for each in inputs]
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


def _checked(connection: Any, workload: Workload, target: Target, first: Target) -> Measured:
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
            outcome: Outcome, round_done: Callable[[Outcome], None], done: Callable[[int], None]) -> None:
    names = [target.name for target in plan.targets]
    counts = block_plan(plan.repeat)
    for round_ in itertools.count():
        if round_ == len(counts):
            own = [block for block in outcome.blocks if (block.protocol, block.batch) == (protocol, batch)]
            if sum(map(sum, counts)) >= plan.most or precise(own, names):
                break
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


def precise(blocks: Sequence[Block], names: Sequence[str]) -> bool:
    """Whether the ratios of means and those of equals (the floor is made of them) are all known within 2 %.

    It is width that ends a run, never a verdict.
    """
    ratios = [(c.ratio, *c.ci95) for c in (compare(blocks, names[0], other, "mean") for other in names[1:])]
    controls = [aa_control([block for block in blocks if block.target == name], "mean") for name in names]
    ratios += [(control.value, control.low, control.high) for control in controls if control]
    return all(high - low <= 2 * PRECISE * value for value, low, high in ratios)


@contextmanager
def alive(instance: Instance, doing: str) -> Iterator[None]:
    """Turns a broken connection into what broke it: the death of the server, when it died."""
    try:
        yield
    except (AnswerError, UnreachableError) as error:
        instance.await_death(doing)
        raise FailedError(f"{instance.target.name} failed {doing}: {error}") from error


def _facts(target: Target, instances: Sequence[Instance]) -> dict[str, Any]:
    first = instances[0]
    return {"backend": target.backend, "path": str(target.version_directory) if target.base_path else None,
            **(operations(target.version_directory) if target.version_directory else {}),
            "load_s": first.load_s, "first_request_s": first.first_request_s,
            "resident_bytes": first.child.resident_bytes() if first.child else None}
