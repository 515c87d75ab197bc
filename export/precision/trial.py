"""Tries candidates: each is made, proven alive, proven good enough, and timed; what is finished is remembered."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import cpu_class
from export import equivalence, manifest, samples
from export.equivalence import Report
from export.precision import budget
from export.precision.alive import Expected, made_for, proven_alive
from export.precision.budget import Measured
from export.precision.candidates import Candidate, CannotBeMadeError
from export.precision.choice import Ratios
from export.precision.layer import FULL
from export.precision.reference import Proof, Reference
from export.precision.sensitivity import OutsideError, Verdict, search
from export.precision.timing import Timing, ratios
from export.precision.workspace import Workspace
from export.prepared import Prepared
from export.samples import Maker
from serving.client import payloads
from user_error import FailedError
from version_directory import model_bytes
from whole_file import whole_file


@dataclass
class Tried:
    """What is known of a candidate, as the manifest has it. `lost`: why it is not published; "" while it may be."""

    name: str
    precision: str
    bytes: int = 0
    load_s: float = 0.0
    layers: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)  # by the search, besides what the user keeps
    search: list[dict[str, Any]] = field(default_factory=list)
    alive: str = ""
    error: float = 0.0
    agreement: float | None = None
    accuracy: dict[str, Any] | None = None
    budget: dict[str, Any] | None = None
    lost: str = ""
    possible: bool = True  # whether the model has something for it
    written: dict[str, Any] | None = None  # for another engine, which then runs it
    ratios: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def survives(self) -> bool:
        return not self.lost

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def engine(self) -> str:
        """What runs it instead of TensorFlow; "" for TensorFlow."""
        return str(self.written["engine"]) if self.written else ""

    @property
    def signatures(self) -> list[str] | None:
        """Those that the engine has; None: all."""
        return list(self.written["signatures"]) if self.written else None

    @property
    def target(self) -> str:
        """Its name for `benchmark compare`."""
        return f"{self.name}@{self.engine}" if self.engine else self.name

    @property
    def kind(self) -> str:
        """The precision in which it computes, or stores its weights."""
        return str(self.written["precision"]) if self.written else self.precision

    def described(self) -> dict[str, Any]:
        """What its manifest says of precision, budget and engines."""
        stated = {"budget": self.budget} if self.budget else {}
        if self.written is None:
            return {"precision": self.precision, **stated}
        of_engine = {key: value for key, value in self.written.items() if key != "engine"}
        return {"precision": self.precision, "engines": {self.engine: {**of_engine, **stated}}}

    def time(self, ratios: Ratios) -> None:
        self.ratios = {str(batch): ratio.to_json() for batch, ratio in ratios.items()}

    def closeness(self) -> str:
        """The accuracy before and after, or how many examples have the same top class or value."""
        if self.accuracy:
            return f"{self.accuracy['before']:.2%} -> {self.accuracy['after']:.2%}"
        return "-" if self.agreement is None else f"same for {self.agreement:.2%}"

    def judge(self, measured: Mapping[str, Measured]) -> None:
        """Takes over what was measured; of several signatures the worst."""
        found = list(measured.values())
        self.error = max((one.error for one in found), default=0.0)
        shares = [share for one in found for share in one.agreement.values()]
        self.agreement = min(shares) if shares else None
        accuracies = [one.accuracy for one in found if one.accuracy]
        if accuracies:
            self.accuracy = asdict(max(accuracies, key=lambda one: one.lost))


class Trials:
    """The candidates of one run. `tried` has all of them in order, also those that cannot be tried."""

    def __init__(self, ready: Prepared, reference: Reference, work: Workspace, wanted: Mapping[str, Any]) -> None:
        self.ready, self.reference, self.work = ready, reference, work
        self.tried: dict[str, Tried] = {}
        self._wanted = wanted
        self._cpu = str(cpu_class.current())
        self._reports: dict[str, Report] = {}
        self._source = Expected(ready.path, ready.job.tags, bool(ready.plan.allow))
        work.link_original(ready.path)

    @property
    def survivors(self) -> list[str]:
        return [one.name for one in self.tried.values() if one.survives]

    def attempt(self, candidate: Candidate, alive: bool = True) -> Tried:
        """Makes and proves a candidate, unless an interrupted run has; `alive` False: its answers alone."""
        recipe = self._recipe(candidate.name, alive)
        if known := self.work.known(candidate.name, recipe):
            one = Tried(**known)
        else:
            one = Tried(candidate.name, candidate.precision, lost=candidate.why_not())
            if one.survives:
                with self.ready.stages(candidate.name):
                    self._make(candidate, one, alive)
                self.work.remember(candidate.name, recipe, one.to_json())
        self.tried[one.name] = one
        return one

    def _recipe(self, *parts: Any) -> dict[str, Any]:
        return {"made_from": self._wanted, "cpu_class": self._cpu, "parts": parts}

    def _make(self, candidate: Candidate, one: Tried, alive: bool) -> None:
        try:
            proof = self._fitting(candidate, one)
            self._reports[one.name] = proof.report
            if alive and not one.lost:
                self._prove_alive(one)
        except CannotBeMadeError as error:
            one.lost, one.possible = str(error), False
        except FailedError as error:  # it dies, or does not load
            one.lost = str(error).replace(f"{self.work.version(one.name)}", one.name)

    def _fitting(self, candidate: Candidate, one: Tried) -> Proof:
        """The proof of the candidate, with as many layers back in a higher precision as its budget needs."""
        last: dict[frozenset[str], Proof] = {}

        def attempt(keep: frozenset[str]) -> Proof:
            last.clear()
            with self.work.new(one.name) as directory:
                changes = candidate.make(directory, keep)
                one.layers, one.facts = [layer.to_json() for layer in changes.layers], dict(changes.facts)
                one.written = changes.written.to_json() if changes.written else None
                manifest.write(directory, {}, **one.described())
            last[keep] = self.reference.prove(self.work.version(one.name), one.engine, one.signatures)
            return last[keep]

        def evaluate(keep: frozenset[str]) -> Verdict:
            try:
                proof = last[keep] if keep in last else attempt(keep)
            except CannotBeMadeError as error:  # with all layers back there is nothing left to gain
                return Verdict(False, str(error))
            if proof.fault:
                raise FailedError(proof.fault)
            return Verdict(not proof.outside, self._told(proof), {})
        proof = attempt(frozenset())
        self._judge(one, proof)
        if self._must_be_equal(one):
            fault, proof.report = proof.fault, self._compared(one)
            one.lost = fault or ("" if proof.report.equal else proof.report.why_not())
            return proof
        if proof.fault:
            one.lost = proof.fault
            return proof
        if proof.outside and (ranked := candidate.ranked()):
            before, layers = self._told(proof), one.layers
            try:
                found = search(evaluate, ranked)
            except OutsideError as error:
                one.search, one.layers = [trial.to_json() for trial in error.trials], layers
                one.lost = f"{'; '.join(proof.outside)}; with layers back in a higher precision, too"
                return proof
            one.search, one.kept = [trial.to_json() for trial in found.trials], list(found.kept)
            kept = frozenset(found.kept)
            proof = last[kept] if kept in last else attempt(kept)
            self._judge(one, proof)
            why = f"back in a higher precision for accuracy: {before} -> {self._told(proof)}"
            one.layers = [{**layer, "reason": why} if layer["node"] in kept else layer for layer in one.layers]
        if proof.outside:
            one.lost = "; ".join(proof.outside)
        else:
            one.budget = budget.stated(proof.measured, self.reference.allowed)
            self._state(one)
        return proof

    def _judge(self, one: Tried, proof: Proof) -> None:
        """Takes over what was found out about the version that is there now: the next trial of a search replaces it."""
        one.judge(proof.measured)
        one.bytes = one.written["bytes"] if one.written else model_bytes(self.work.version(one.name))
        one.load_s = round(proof.load_s, 3)

    def _told(self, proof: Proof) -> str:
        """The figures that decide, in words."""
        return budget.told(proof.measured.values())

    def _state(self, one: Tried) -> None:
        """Writes the candidate's budget into its manifest, where `benchmark compare` reads it."""
        manifest.write(self.work.version(one.name), {}, **one.described())

    def _prove_alive(self, one: Tried) -> None:
        maker, version = Maker(self.ready.model), self.work.version(one.name)
        told = []
        for key in one.signatures or self.reference.signatures:
            make = made_for(maker, key, self.ready.plan.samples, self.ready.plan.seed)
            told.append(str(proven_alive(version, self.ready.job.tags, key, make, self.batches, self._source,
                                         bool(self.ready.plan.allow), one.engine)))
        one.alive = "; ".join(dict.fromkeys(told))

    @property
    def signature(self) -> str:
        """The signature whose speed is measured."""
        return self.reference.main

    @property
    def batches(self) -> tuple[int, ...]:
        """The batch sizes whose speed counts; the only one that the signature takes if it is fixed."""
        fixed = samples.fixed_batch(samples.specs(self.reference.signatures[self.signature]))
        return self.ready.job.reduction.batches if fixed is None else (fixed,)

    def timed(self, baseline: str, names: Sequence[str]) -> dict[str, Ratios]:
        """The ratios of the baseline's time over each candidate's. Raises FailedError if they cannot be measured."""
        targets = {name: self.tried[name].target for name in names}
        name, recipe = f"timed-{'-'.join((baseline, *names))}", self._recipe(baseline, *names)
        found = self.work.known(name, recipe)
        if found is None:
            listed = ", ".join((baseline, *names))
            examples = self.work.path / "samples.npz"
            with whole_file(examples) as file:
                payloads.save_samples(file, self.reference.examples(self.signature))
            timing = Timing(self.work.versions, self.signature, self.batches, examples,
                            self.ready.job.reduction.measure_s)
            with self.ready.stages(f"time {listed} in turns at batch {', '.join(map(str, self.batches))}"):
                result = timing.compare(baseline, list(targets.values()), self.work.path / "compare.json")
            found = {"comparisons": result["comparisons"]}
            self.work.remember(name, recipe, found)
        return {one: ratios(found, target) for one, target in targets.items()}

    def report(self, name: str) -> Report:
        """The comparison of a candidate's answers with the source's; made again if an interrupted run has made it."""
        if name not in self._reports:
            one = self.tried[name]
            self._reports[name] = self._compared(one) if self._must_be_equal(one) else (
                self.reference.prove(self.work.version(name), one.engine, one.signatures).report)
        return self._reports[name]

    def _must_be_equal(self, one: Tried) -> bool:
        """Whether the answers are held to the table's rows for full precision, and not to a budget."""
        return one.kind == FULL and not self.ready.job.reduction.storage

    def _compared(self, one: Tried) -> Report:
        with self.ready.stages(f"verify {one.name}"):
            return equivalence.check(self.ready.path, self.work.version(one.name), self.ready.job.tags,
                                     self.ready.plan, one.signatures or self.ready.job.signatures, one.engine)
