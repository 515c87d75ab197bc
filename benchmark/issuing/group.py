"""The targets of a plan under one protocol and batch size: connected, checked, warm, and measured in rounds."""
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from statistics import fmean
from time import monotonic

import numpy as np

import cores
from benchmark.issuing.designs import Design, Duet, Interleaved
from benchmark.issuing.plan import Plan
from benchmark.issuing.progress import duration
from benchmark.issuing.trial import LONGEST_TRIED_S, ONE_CORE, UNPINNED, choose, try_out
from benchmark.targets.child import Child
from benchmark.targets.client_process import ClientProcess
from benchmark.targets.connections import Checker, Connection, PreparedConnection, Workload
from benchmark.targets.first_answers import first_answers
from benchmark.targets.precision import budget_between
from benchmark.targets.starting import Instance, alive, first_request
from benchmark.targets.witness import Witness, per_request
from benchmark.verdicts.accuracy import accuracy
from benchmark.verdicts.block import Block
from benchmark.verdicts.comparison import block_plan, certain, precise
from benchmark.verdicts.records import AccuracyRecord, UsedRecord
from benchmark.verdicts.scenario import protocol_name
from commandline import step
from serving.client.payloads import Array
from serving.client.protocol import AnswerError, Signature
from user_error import FailedError

# A measurement without a number of requests ends with its verdict, or after so long, and `repeat` requests, without.
LONG_S = 60.0
# The first requests of a turn find the caches and the idle threads of the process before.
LEAD_S = 0.01  # decision 220
# Slow requests need fewer to be warm.
LEAST_WARM, WARM_S = 3, 4.0
# Requests that all take longer than this hide it.
_LONG_REQUEST_S = 0.05
# How long a block is, where its number of requests is not given.
BLOCK_S = 0.1


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
        self.designed = ""  # the design in words, and why it
        self.accuracy: dict[str, AccuracyRecord] = {}
        self.used: dict[str, UsedRecord] = {}
        self._labels: list[Array] | None = None
        self._plan = plan
        self._instances = {(name, replica): instance for name, own in instances.items()
                           for replica, instance in enumerate(own)}
        self._names = list(instances)
        self._measured: dict[tuple[str, int], PreparedConnection] = {}
        self._lead_s = LEAD_S
        self._cores, self._pinned = cores.usable(), False
        started = all(instance.child is not None for instance in self._instances.values())
        self._may_be_duet = plan.design in ("auto", "duet") and started and len(self._cores) > 1
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
                        if self._may_be_duet:
                            connection = stack.enter_context(closing(
                                instance.apart(connection, self.protocol, self._plan.inputs.signature)))
                        measured = PreparedConnection(connection, replace(workload, budget=self._budgets[name]))
                        took = self._refuse_different_answers(name, measured)
                        if connection.measured_by not in self.measured_by:
                            self.measured_by += f"{'; ' if self.measured_by else ''}{connection.measured_by}"
                        means.append(warm_up(measured, warmup, took))
                        self._measured[name, replica] = measured
            # All have a lead or none: otherwise the quicker ones would have an advantage.
            self._lead_s = LEAD_S if min(means) < _LONG_REQUEST_S else 0.0
            self._request_s = max(fmean(means), 1e-9)
            self._block = max(1, round(BLOCK_S / self._request_s))
            try:
                self._design = self._choose()
                yield
            finally:
                if self._pinned:  # the next group may need all cores
                    self._pin_all(cores.allowed())

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

    def _choose(self) -> Design:
        """The design that measures; `designed` says why it."""
        asked, replicas = self._plan.design, self._plan.processes
        interleaved = Interleaved(self._names, replicas, self._measure)
        if asked == UNPINNED:
            return self._chosen(interleaved, "where the system puts each process")
        if why := cores.why_not_two():
            return self._chosen(interleaved, why)
        if any(target.prefix for target in self._plan.targets):
            return self._chosen(interleaved, "a target has cores of its own")
        busiest = max(map(self._busy, self._instances))
        if busiest > ONE_CORE:
            return self._chosen(interleaved, f"a request takes {busiest:.1f} cores, and so both at a time would wait"
                                if np.isfinite(busiest) else "processes that were not started here are not pinned")
        # Neighbours may be two threads of one core.
        one, other = self._cores[len(self._cores) // 2 - 1], self._cores[-1]
        if not self._pin_all([other]):
            self._pin_all(cores.allowed())
            return self._chosen(interleaved, "pinning processes is forbidden here")
        duet = Duet(self._names, replicas, self._measure, self._pin, ([one], [other]))
        why = "a request takes one core"
        if asked == "auto" and self._request_s > LONGEST_TRIED_S:
            asked, why = interleaved.name, f"{why}, and a trial of a duet would take long"
        if asked == "auto":
            count = max(1, self._block // 3)
            asked, why = choose(*(try_out(design, self._names, count) for design in (interleaved, duet)))
        if asked == duet.name:
            return self._chosen(duet, f"each on core {one} and on core {other} in turn: {why}")
        self._pin_all([other])
        return self._chosen(interleaved, f"all on core {other}: {why}")

    def _chosen(self, design: Design, why: str) -> Design:
        asked = self._plan.design
        left = f"; --design {asked} cannot be" if asked not in ("auto", UNPINNED, design.name) else ""
        self.designed = f"{design.name}: {why}{left}"
        return design

    def _busy(self, process: tuple[str, int]) -> float:
        """How many cores a process and its client take while they answer; infinite if that is not known."""
        child = self._instances[process].child
        before = child.cpu_ns() if child else None
        if child is None or before is None:
            return float("inf")
        block = self._measured[process].block(self._block, target="", replica=0, protocol="", round=-1)
        after = child.cpu_ns()
        return float("inf") if after is None else (
            (after - before) * 1e-9 + block.cpu_s) / max(block.wall_s, 1e-9)

    def _pin_all(self, chosen: Sequence[int]) -> bool:
        self._pinned = True
        pinned = [self._pin(process, chosen) for process in self._instances]
        return all(pinned)

    def _pin(self, process: tuple[str, int], chosen: Sequence[int]) -> bool:
        """Pins a process, and its client's if that has one. False if it could not be done."""
        child, connection = self._instances[process].child, self._measured[process].connection
        pids = [connection.pid] if isinstance(connection, ClientProcess) else []
        pinned = [cores.pin(pid, chosen) for pid in (*pids, *([child.server()] if child else []))]
        return all(pinned)

    def _measure(self, process: tuple[str, int], count: int, round_: int) -> Block:
        name, replica = process
        instance = self._instances[process]
        with alive(instance, "while it was measured"):
            block = self._measured[process].block(count, self._lead_s, target=name, replica=replica,
                                                  protocol=self.protocol, round=round_)
        if instance.child is not None:
            instance.child.settle()
        return block

    def _rounds(self, until: float | None) -> Iterator[list[Block]]:
        counts, began = [] if self._plan.until_certain else block_plan(self._plan.repeat), monotonic()
        found: list[Block] = []
        for round_ in itertools.count():
            there, back = counts[round_] if counts else (self._block, self._block)
            blocks = self._design.round(round_, there, back)
            found += blocks
            yield blocks
            if self._enough(found, round_ + 1 == len(counts), began, until):
                return

    def _enough(self, blocks: Sequence[Block], planned: bool, began: float, until: float | None) -> bool:
        """Whether the measurement may end after these rounds; `planned`: all rounds planned so far are done."""
        plan, names, now = self._plan, self._names, monotonic()
        requests = sum(len(block.latencies) for block in blocks if block.target == names[0])
        after = f"after {requests:,} requests per target"
        long = now - began >= LONG_S
        if not plan.until_certain and planned:
            self.ended = f"all {requests:,} requests per target"
        elif plan.until_certain and requests >= plan.demanded and self._certain(blocks, long, requests):
            self.ended = f"the verdict was certain {after}"
        elif plan.until_certain and requests >= plan.demanded and long and requests >= plan.repeat:
            self.ended = f"no verdict in {duration(now - began)}, {after}"
        elif until is not None and now >= until and blocks[-1].round + 1 >= self._design.least:
            self.ended = f"the time limit (--max-time), {after}"
        return bool(self.ended)

    def _certain(self, blocks: Sequence[Block], long: bool, requests: int) -> bool:
        return ((long or (requests >= self._plan.repeat and precise(blocks, self._names)))
                and certain(blocks, self._names, self._plan.rules))

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
