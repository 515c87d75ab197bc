"""The source's answers, asked once; every version in reduced precision is measured against them."""
from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from export import diagnosis, manifest, samples, saved_model
from export.asking import Asked, Plan, constant_answer, manner_for, outcomes
from export.equivalence import Report, SignatureReport, interface, refuse_unknown
from export.graph import normal
from export.loaded import DiedError, LoadedModel, RunError
from export.precision import budget
from export.precision.budget import Accuracy, Measured
from export.precision.layer import FULL
from export.prepared import Prepared
from export.samples import Maker
from export.signatures import main_signature
from export.tensors import Array
from serving.client import payloads
from serving.client.answers import Answer, Budget, combine, compare, is_float, prove
from serving.client.payloads import LABELS
from user_error import UserError

# Real examples in one request: enough to keep the cores busy, few enough for the activations of large images.
PIECE = 64
# Larger than any error of numbers that are not NaN: what is allowed is decided over all examples together.
_ANY = 1e30


@dataclass(frozen=True)
class Request:
    """`counted`: its examples count for accuracy and agreement; other requests repeat them at other batch sizes."""

    inputs: dict[str, Array]
    expected: Answer
    batch: int
    real: bool
    counted: bool
    labels: Array | None = None


@dataclass
class Proof:
    """What one version answers: `report` for people, `measured` for the budget, and the seconds that loading took."""

    report: Report
    measured: dict[str, Measured] = field(default_factory=dict)
    load_s: float = 0.0
    outside: list[str] = field(default_factory=list)  # what is outside of the budget

    faults: list[str] = field(default_factory=list)  # what no budget allows: NaN, or a reference that proves nothing

    @property
    def fault(self) -> str:
        """What is wrong with it whatever the budget is, also that it dies or has another interface; "" if nothing."""
        return "; ".join((self.report.reasons or self.faults)[:2])


class Reference:
    """`requests` by signature, with the source's answers."""

    def __init__(self, ready: Prepared) -> None:
        self._path, self._tags, self._plan = ready.path, ready.job.tags, ready.plan
        random = manifest.weights_are_random(ready.path)
        asked = ready.job.reduction
        by_the_table = asked.engine is not None and asked.precision == FULL  # as everything in full precision is
        self.allowed = budget.for_random_weights(asked) if random and not by_the_table else asked
        self.name = ready.name
        self.signatures = saved_model.chosen(ready.model, ready.job.signatures)
        refuse_unknown(self._plan, self.signatures)
        self._names = ready.job.signatures
        self._constant: dict[str, str] = {}
        self.requests: dict[str, list[Request]] = {}
        maker = Maker(ready.model)
        with LoadedModel(self._path, self._tags, own_directory=bool(self._plan.allow)) as source:
            source.loaded()
            diagnosis.refuse_without_value(ready.model, self.signatures, source.without_value)
            for key, signature in self.signatures.items():
                self._constant[key] = constant_answer(maker, key, self._plan)
                self.requests[key] = self._ask(source, key, signature, maker)
                drawn = diagnosis.random_op(ready.model, key)
                if drawn and not _repeats(source, key, self.requests[key]):
                    raise UserError(f"signature '{key}' draws random numbers ({drawn.op} '{drawn.node}'), so its "
                                    "accuracy in reduced precision cannot be measured: leave it out with --signatures")
        for key in () if random or by_the_table else self.signatures:
            self._refuse_undecided(key)

    @property
    def main(self) -> str:
        """The signature whose speed counts."""
        return main_signature(self.signatures)

    @property
    def some_real(self) -> bool:
        """Whether there are real examples for any signature."""
        return any(request.real for requests in self.requests.values() for request in requests)

    def feeds(self, piece: int, most: int) -> list[dict[str, Array]]:
        """Requests by input tensor, to measure ranges: at most `piece` examples in each, about `most` of a signature.

        Requests that cannot be divided have all their examples. They are real examples if there are any. Of more than
        `most`, requests evenly spaced among them are taken, since files are often sorted by class.
        """
        found = []
        for key, requests in self.requests.items():
            counted = [one for one in requests if one.counted and (one.real or not self.some_real)]
            tensors = {part: normal(info.name) for part, info in samples.parts_of(self.signatures[key]).items()}
            specs = samples.specs(self.signatures[key])
            pieces = [part for one in counted for part in _pieces(one, piece, specs)]
            examples = max(1, sum(one.batch for one in counted))
            wanted = max(1, min(len(pieces), most * len(pieces) // examples))
            found += [{tensors[part]: value for part, value in pieces[index * len(pieces) // wanted].items()}
                      for index in range(wanted) if pieces]
        return found

    def examples(self, key: str) -> dict[str, Array]:
        """What to send a signature in a benchmark: the samples of its inputs, or the largest made-up request."""
        specs = samples.specs(self.signatures[key])
        if specs.keys() <= self._plan.samples.keys():
            return {name: self._plan.samples[name] for name in specs}
        return max((one for one in self.requests[key] if one.counted), key=lambda one: one.batch).inputs

    def _ask(self, source: LoadedModel, key: str, signature: Any, maker: Maker) -> list[Request]:
        plan, specs = self._plan, samples.specs(signature)
        asked = Asked(key, plan, payloads.examples(plan.samples, specs))
        real = bool(specs) and specs.keys() <= plan.samples.keys()
        if not real and plan.samples and (there := specs.keys() & plan.samples.keys()):
            missing = next(name for name in specs if name not in there)
            raise UserError(f"signature '{key}' takes '{missing}', of which the samples have no array (they have: "
                            f"{', '.join(plan.samples)}): add it, or choose others with --signatures")
        fixed = samples.fixed_batch(specs)
        if real:
            todo = _real(key, plan, specs, fixed, asked.samples)
        else:
            manner = manner_for(asked, maker, (source,), fixed)
            todo = ((fixed or batch, True, maker.make(key, fixed or batch, plan.seed + index, manner), None)
                    for index, batch in enumerate(plan.batches))
        found, refused = [], ""
        for batch, counted, inputs, labels in todo:
            expected = outcomes(key, batch, inputs, (source,))[0]
            if isinstance(expected, str):
                refused = refused or expected
                continue
            found.append(Request(inputs, expected, batch, real, counted, labels))
        if not any(request.counted for request in found):
            what, way = ("its samples", "") if real else ("the inputs made for it", "; give real ones with --samples")
            raise UserError(f"signature '{key}': {self.name} refuses {what} ({refused}){way}")
        return found

    def _refuse_undecided(self, key: str) -> None:
        """Raises UserError if nothing could decide about an output: before anything is made."""
        one = _measured([(request, request.expected) for request in self.requests[key]])
        if why := budget.undecided(key, one, self.allowed):
            raise UserError(why)

    def prove(self, version: Path, engine: str = "", keys: Collection[str] | None = None) -> Proof:
        """Asks a version the same, and judges its answers. A version that does not load, or dies, has a reason.

        engine: what runs it instead of TensorFlow; keys: the signatures that it has, if not all.
        """
        asked = {key: one for key, one in self.signatures.items() if keys is None or key in keys}
        proof = Proof(Report(self._path, version))
        report = proof.report
        with LoadedModel(version, self._tags, own_directory=bool(self._plan.allow), engine=engine) as candidate:
            try:
                proof.load_s = candidate.loaded()
            except UserError as error:
                report.reasons.append(str(error))
                return proof
            report.reasons += interface(asked, candidate.signatures if self._names is None and not engine else {
                key: one for key, one in candidate.signatures.items() if key in asked})
            for key in asked:
                if not report.reasons:
                    self._prove_signature(proof, key, candidate)
        return proof

    def _prove_signature(self, proof: Proof, key: str, candidate: LoadedModel) -> None:
        pairs: list[tuple[Request, Answer]] = []
        for request in self.requests[key]:
            try:
                answer = candidate.run(key, request.inputs)
            except RunError as error:
                proof.report.reasons.append(f"signature '{key}' at batch {request.batch}: {error}")
                return
            except DiedError as error:
                proof.report.reasons.append(f"signature '{key}' died at batch {request.batch}: {error}")
                return
            pairs.append((request, answer))
        one = proof.measured[key] = _measured(pairs)
        outside = budget.outside(one, self.allowed)
        report = proof.report.signatures[key] = self._report(key, one, pairs, outside)
        which = f"signature '{key}': " if len(self.signatures) > 1 else ""
        told = [sentence for _, sentence in outside]
        proof.outside += [f"{which}{sentence}" for sentence in told]
        proof.faults += [f"signature '{key}': {reason}" for reason in report.why_not() if reason not in told]

    def _report(self, key: str, one: Measured, pairs: Sequence[tuple[Request, Answer]],
                outside: Sequence[tuple[str, str]]) -> SignatureReport:
        allowed, scales = Budget(_ANY, 0.0, 1.0), _arrays(one.scales)
        both = [(request.expected, answer) for request, answer in pairs]
        found = combine([compare(*pair, allowed, scales) for pair in both]) if self._constant[key] else prove(
            both, allowed, [scales] * len(both),
            f"give real inputs with --samples, or --allow-constant {key} if its answer is the same for all inputs")
        wrong = {output for output, _ in outside}
        found = replace(found, reasons=(*found.reasons, *(sentence for _, sentence in outside)), outputs={
            name: replace(output, row=budget.row(name, one, self.allowed), equal=output.equal and name not in wrong)
            for name, output in found.outputs.items()})
        counted = [request for request, _ in pairs if request.counted]
        report = SignatureReport(
            found, sum(request.batch for request in counted if request.real),
            sum(request.batch for request in counted if not request.real),
            sorted({request.batch for request, _ in pairs}), dict(one.agreement), constant=self._constant[key])
        if one.accuracy:
            report.accuracy = {"before": one.accuracy.before, "after": one.accuracy.after,
                               "examples": one.accuracy.examples}
        for request, _ in pairs:
            report.requests.setdefault(request.batch, request.inputs)
        return report


def _real(key: str, plan: Plan, specs: Mapping[str, Any], fixed: int | None, examples: int
          ) -> Iterator[tuple[int, bool, dict[str, Array], Array | None]]:
    """(batch, counted, inputs, labels) of all real examples in pieces, and of the first at the plan's batch sizes."""
    if payloads.is_whole(plan.samples, specs):
        yield 1, True, payloads.pick(plan.samples, specs), None
        return
    labels = _labels(key, plan, examples)
    for start in range(0, examples, fixed or PIECE):
        batch = fixed or min(PIECE, examples - start)
        # After the last example the first follows: those of a last piece of fixed size would be counted twice.
        if start + batch <= examples or not start:
            yield (batch, True, payloads.pick(plan.samples, specs, batch, start),
                   None if labels is None else labels.take(range(start, start + batch), mode="wrap"))
    for batch in () if fixed else sorted({size for size in plan.batches if size < min(PIECE, examples)}):
        yield batch, False, payloads.pick(plan.samples, specs, batch), None


def _pieces(request: Request, most: int, specs: Mapping[str, Any]) -> Iterator[dict[str, Array]]:
    """The request in parts of at most `most` examples; whole if an input does not have an entry for each example.

    `specs`: the inputs' shapes. An input of fixed first size takes no other.
    """
    if not request.inputs or not all(
            value.ndim and len(value) == request.batch and (specs[name].shape or (-1,))[0] == -1
            for name, value in request.inputs.items()):
        yield request.inputs
        return
    for start in range(0, request.batch, most):
        yield {name: value[start:start + most] for name, value in request.inputs.items()}


def _labels(key: str, plan: Plan, examples: int) -> Array | None:
    labels = plan.samples.get(LABELS)
    if labels is None:
        return None
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) < examples:
        raise UserError(f"the samples' array '{LABELS}' is {labels.dtype.name} {list(labels.shape)}: for the "
                        f"{examples} examples of signature '{key}' it needs one integer each, the number of the class")
    return labels[:examples]


def _repeats(source: LoadedModel, key: str, requests: Sequence[Request]) -> bool:
    """Whether the largest request gets its answer again: what draws random numbers may be a branch for training."""
    one = max(requests, key=lambda request: request.batch)
    again = outcomes(key, one.batch, one.inputs, (source,))[0]
    return not isinstance(again, str) and all(np.array_equal(value, again[name], equal_nan=value.dtype.kind == "f")
                                              for name, value in one.expected.items())


def _measured(pairs: Sequence[tuple[Request, Answer]]) -> Measured:
    """How far the answers are from the expected ones: errors over all requests, the rest over the counted ones."""
    counted = [(request, answer) for request, answer in pairs if request.counted]
    errors, scales, agreement, classes = {}, {}, {}, []
    for name, first in counted[0][0].expected.items():
        both = [(request.expected[name], answer[name]) for request, answer in pairs if name in answer]
        fitting = all(a.shape == b.shape and a.dtype == b.dtype for a, b in both) and len(both) == len(pairs)
        if is_float(first.dtype):
            scales[name] = max((_magnitude(a) for a, _ in both), default=0.0)
            errors[name] = _error(both, scales[name]) if fitting else np.inf
        same = [_same(request.expected[name], answer[name]) for request, answer in counted if name in answer]
        shares = [one for one in same if one is not None]
        if len(shares) == len(same) and any(one.size for one in shares):
            agreement[name] = float(np.concatenate(shares).mean())
            if fitting and name in errors:
                classes.append(name)
    return Measured(sum(request.batch for request, _ in counted), errors, scales, agreement,
                    _accuracy(counted, classes))


def _magnitude(array: Array) -> float:
    finite = np.abs(array[np.isfinite(array)])
    return float(finite.max()) if finite.size else 0.0


def _error(both: Sequence[tuple[Array, Array]], scale: float) -> float:
    worst = 0.0
    for a, b in both:
        with np.errstate(invalid="ignore"):
            wide = a.astype(np.result_type(a, np.float64))  # complex numbers stay complex
            error = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(wide - b))
        error[np.isnan(error)] = np.inf  # NaN in only one of the two
        worst = max(worst, float(error.max(initial=0.0)))
    return worst / scale if scale else (np.inf if worst else 0.0)


def _same(a: Array, b: Array) -> Array | None:
    """By example, whether both have the same top class, or the same values; None for floats without classes."""
    if a.shape != b.shape:
        return np.zeros(len(a) if a.ndim else 1, bool)
    if is_float(a.dtype):
        classes = a.dtype.kind != "c" and a.ndim == 2 and a.shape[1] > 1
        return np.asarray(np.argmax(a, 1) == np.argmax(b, 1)) if classes else None
    equal = np.asarray(a == b)
    return np.asarray(equal.all(axis=tuple(range(1, a.ndim))) if a.ndim else equal.reshape(1))


def _accuracy(counted: Sequence[tuple[Request, Answer]], outputs: Sequence[str]) -> Accuracy | None:
    """The accuracy of the output that the labels are of: the one that is right most often in the source."""
    labelled = [(request, answer) for request, answer in counted if request.labels is not None]
    if not labelled:
        return None
    def share(output: str, after: bool) -> float:
        right = [np.argmax((answer if after else request.expected)[output], 1) == request.labels
                 for request, answer in labelled]
        return float(np.concatenate(right).mean())
    found = [Accuracy(share(output, False), share(output, True), sum(request.batch for request, _ in labelled), output)
             for output in outputs]
    return max(found, key=lambda one: one.before, default=None)


def _arrays(scales: Mapping[str, float]) -> dict[str, Array]:
    return {name: np.asarray(scale) for name, scale in scales.items()}
