"""Compares the answers of two SavedModels to the same inputs. Each is loaded in its own process.

    report = check(before, after, Plan(batches=(1, 3, 100)))

Tolerances are those of serving.client.answers. A check whose reference is constant proves nothing, and fails.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np

from export import diagnosis, edited, samples, saved_model
from export.asking import Asked, Plan, constant_answer, manner_for, outcomes, requests
from export.freeze import changed_by
from export.judging import judge, judge_by_rounding, with_logits
from export.loaded import LoadedModel
from export.samples import Maker
from export.saved_model import SavedModel
from export.tensors import Array
from serving.client import payloads
from serving.client.answers import Answer, Comparison, compare
from user_error import UserError

_SCALES = (1.0, 10.0, 100.0)
# How many reasons an error's line has.
_MOST_REASONS = 2
_LONGEST_REASON = 240


@dataclass
class SignatureReport:
    """One signature: `agreement` is the share of examples with the same top class, by output."""

    comparison: Comparison
    real: int = 0
    random: int = 0
    batches: list[int] = field(default_factory=list)
    agreement: dict[str, float] = field(default_factory=dict)
    accuracy: dict[str, float] = field(default_factory=dict)
    requests: dict[int, dict[str, Array]] = field(default_factory=dict)  # one for each batch size, real if there are
    constant: str = ""  # why its answer may be the same for all inputs; "" if it may not

    def why_not(self) -> list[str]:
        """The worst reason for each output; the comparison's own reasons have one for every request."""
        outputs = self.comparison.outputs
        others = [reason for reason in self.comparison.reasons
                  if not any(reason.startswith(f"output '{name}' ") for name in outputs)]
        return [*others, *(output.reason for output in outputs.values() if output.reason)]

    def to_json(self) -> dict[str, Any]:
        return {**self.comparison.to_json(), "real_examples": self.real, "random_examples": self.random,
                "batches": self.batches, "top1_agreement": self.agreement, "accuracy": self.accuracy,
                "may_be_constant": self.constant}


@dataclass
class Report:
    before: Path
    after: Path
    signatures: dict[str, SignatureReport] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        return not self.reasons and all(one.comparison.equal for one in self.signatures.values())

    def all_reasons(self) -> list[str]:
        """Every reason why the models are not equal; those of a signature begin with its key."""
        return self.reasons + [f"signature '{key}': {reason}" for key, one in self.signatures.items()
                               for reason in one.why_not()]

    def why_not(self) -> str:
        """The first reasons, shortened to one line; `to_json` has all of them in full."""
        reasons = self.reasons or self.all_reasons()  # one cause, one diagnosis
        parts = [shorten(reason, _LONGEST_REASON, placeholder=" ...") for reason in reasons[:_MOST_REASONS]]
        if len(reasons) > _MOST_REASONS:
            parts.append(f"and {len(reasons) - _MOST_REASONS} more (--json has all in full)")
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        return {"equal": self.equal, "before": str(self.before), "after": str(self.after),
                "reasons": self.all_reasons(), "signatures": self.by_signature()}

    def by_signature(self) -> dict[str, Any]:
        return {key: one.to_json() for key, one in self.signatures.items()}


def interface(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """How the signatures differ for a client: keys, dtypes, shapes, methods, default inputs."""
    reasons = [f"signature '{key}' is missing" for key in before if key not in after]
    reasons += [f"signature '{key}' was not there before" for key in after if key not in before]
    for key in sorted(before.keys() & after.keys()):
        old, new = before[key], after[key]
        if old.method_name != new.method_name:
            reasons.append(f"signature '{key}' has method {new.method_name!r}, not {old.method_name!r}")
        if dict(old.defaults) != dict(new.defaults):
            reasons.append(f"signature '{key}' has other default inputs")
        for side in ("inputs", "outputs"):
            a, b = ({name: (info.dtype, info.tensor_shape.SerializeToString(deterministic=True))
                     for name, info in getattr(one, side).items()} for one in (old, new))
            reasons += [f"signature '{key}': {side[:-1]} '{name}' changed its type or shape, or is not in both"
                        for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name)]
    return reasons


def check(before: Path, after: Path, tags: Sequence[str], plan: Plan, names: Sequence[str] | None = None,
          engine: str = "") -> Report:
    """Sends both models the same requests; `engine` runs the second one instead of TensorFlow.

    Raises UserError if one does not load, or if no input can be made for a signature.
    """
    report = Report(before, after)
    source = saved_model.read(before, tags)
    signatures = saved_model.chosen(source, names)
    diagnosis.refuse(source, signatures, plan.allow)
    refuse_unknown(plan, signatures)
    maker = samples.Maker(source, lambda: saved_model.read(after, tags))
    # Only the signatures that may draw random numbers are asked in the copies with fixed seeds.
    keys = {seeded: [key for key in signatures if (key in plan.allow_random) == seeded] for seeded in (False, True)}
    for seeded, group in keys.items():
        if report.reasons or not group:
            continue
        with _loaded(before, tags, plan, seeded) as reference, \
                _loaded(after, tags, plan, seeded, engine) as candidate:
            reference.loaded()
            diagnosis.refuse_without_value(source, signatures, reference.without_value)
            try:
                candidate.loaded()
            except UserError as error:
                report.reasons.append(str(error))
                break
            report.reasons += interface(signatures, {key: one for key, one in candidate.signatures.items()
                                                     if names is None or key in signatures})
            for key in group:
                if not report.reasons:
                    _check_signature(report, key, signatures[key], reference, candidate, plan.to_signature(key), maker)
    report.signatures = {key: report.signatures[key] for key in signatures if key in report.signatures}
    return report


@contextmanager
def _loaded(path: Path, tags: Sequence[str], plan: Plan, seeded: bool, engine: str = "") -> Iterator[LoadedModel]:
    with (edited.seeded(path) if seeded else nullcontext(path)) as there, \
            LoadedModel(there, tags, own_directory=bool(plan.allow), engine=engine) as model:
        model.path = path
        yield model


def refuse_unknown(plan: Plan, signatures: Mapping[str, Any]) -> None:
    """Raises UserError for a plan that names a signature which is not there, or samples that lack an input."""
    for option, wanted in (("constant", plan.allow_constant), ("random", plan.allow_random)):
        for key in sorted(wanted - signatures.keys()):
            raise UserError(f"--allow-{option} {key}: there is no such signature; there are: {', '.join(signatures)}")
    if not plan.samples or plan.made_up is None:
        return
    for key, signature in signatures.items():
        missing = sorted(samples.specs(signature).keys() - plan.samples.keys())
        if missing and not plan.made_up:
            raise UserError(f"signature '{key}' takes '{missing[0]}', of which the samples have no array (they have: "
                            f"{', '.join(plan.samples)}): add it, choose others with --signatures, or ask made-up "
                            "examples too with --random N")


def _check_signature(report: Report, key: str, signature: Any, reference: LoadedModel, candidate: LoadedModel,
                     plan: Plan, maker: Maker) -> None:
    asked = Asked(key, plan, payloads.examples(plan.samples, samples.specs(signature)))
    one = report.signatures[key] = SignatureReport(Comparison({}))
    one.constant = constant_answer(maker, key, plan)
    manner = manner_for(asked, maker, (reference, candidate), samples.fixed_batch(payloads.specs_of(signature.inputs)))
    softmaxes = maker.softmax_outputs(key) if plan.budget is None else []
    for turn, manner_now in enumerate((manner, *(replace(manner, scale=scale) for scale in _SCALES))):
        for batch, real, inputs in requests(asked, signature, maker, manner_now, turn):
            if asked.only_real and not real:
                continue
            if not asked.ask(reference, candidate, batch, real, inputs):
                report.reasons.append(asked.reason)
                return
        if not asked.pairs:
            what, way = ("its samples", "") if samples.specs(signature).keys() <= plan.samples.keys() and (
                plan.samples) else ("the inputs made for it", "; give real ones with --samples")
            raise UserError(f"signature '{key}': {report.before} refuses {what} ({asked.refused}){way}")
        pairs = [(with_logits(a, softmaxes), with_logits(b, softmaxes)) for a, b in asked.pairs]
        # If no input value reaches an output, the answer can only be constant.
        varies = not one.constant and any(value.size for answer, _ in pairs for value in answer.values())
        one.comparison = judge(
            pairs, plan.budget, varies, "give real inputs with --samples, or, if its answer is the same for all inputs "
            f"(a model at its initial weights), --allow-constant {key}")
        # Other inputs are tried only if these proved nothing.
        if not varies or len(one.comparison.constant) < len(one.comparison.outputs):
            break
    seeded = key in plan.allow_random
    random = _random_numbers(maker.model, key, seeded) if asked.requests else ""
    # Noise may be smaller than the tolerance: a signature that draws random numbers is repeated even if equal.
    if asked.requests and not seeded and (random or not one.comparison.equal) and not _repeats(
            asked, reference, exactly=bool(random)):
        report.reasons.append(random or f"signature '{key}': {report.before} answers one request in two ways, since "
                              f"{_why_twice(maker.model, key)}; leave it out with --signatures")
    if not one.comparison.equal and plan.budget is None and not report.reasons:
        one.comparison = judge_by_rounding(maker.model, key, one.comparison, pairs, asked.inputs, softmaxes)
    if random and not one.comparison.equal and not report.reasons:
        report.reasons.append(random)  # by chance the repetition was equal
    one.real, one.random, one.batches = asked.real, asked.random, sorted(asked.batches)
    one.agreement, one.accuracy = _classes(asked.pairs, asked.labelled)
    one.requests = asked.requests


def _random_numbers(model: SavedModel, key: str, seeded: bool) -> str:
    """Why answers of a signature that draws random numbers differ, and what to do; "" if it draws none.

    `seeded`: its seeds are fixed, so only operations that take no seed matter.
    """
    drawn = diagnosis.unseeded_op(model, key) if seeded else diagnosis.random_op(model, key)
    if drawn is None:
        return ""
    if seeded:
        return (f"signature '{key}' draws random numbers by {drawn.op} '{drawn.node}', which takes no seed, so its "
                "answers cannot be compared; leave it out with --signatures")
    return (f"signature '{key}' draws random numbers ({drawn.op} '{drawn.node}'): compare it with fixed seeds by "
            f"--allow-random {key}, {diagnosis.fix_a_switch(model, key)}or leave it out with --signatures")


def _why_twice(model: SavedModel, key: str) -> str:
    changed = [f"{by} changes the variable '{name}'" for name, by in changed_by(model, key).items()]
    return " and ".join(changed[:_MOST_REASONS]) or "it draws random numbers or keeps state"


def _repeats(asked: Asked, model: LoadedModel, exactly: bool = False) -> bool:
    """Whether the model answers a repeated request alike: within the tolerance, or (`exactly`) bit by bit.

    The request is the largest, since shuffling the rows of one example changes nothing.
    """
    inputs = asked.requests[max(asked.requests)]
    first, again = (outcomes(asked.key, len(inputs), inputs, (model,))[0] for _ in range(2))
    if isinstance(first, str) or isinstance(again, str):
        return True
    if exactly:
        return all(first[name].tobytes() == again[name].tobytes() if first[name].dtype != object
                   else np.array_equal(first[name], again[name]) for name in first)
    return bool(compare(first, again).equal)


def _classes(pairs: Sequence[tuple[Answer, Answer]], labelled: Sequence[tuple[Answer, Answer, Array]]
             ) -> tuple[dict[str, float], dict[str, float]]:
    agreement, accuracy = {}, {}
    scores = [name for name, array in pairs[0][0].items()
              if array.dtype.kind == "f" and array.ndim == 2 and array.shape[1] > 1]
    for name in scores:
        same = [np.argmax(a[name], 1) == np.argmax(b[name], 1) for a, b in pairs if a[name].shape == b[name].shape]
        agreement[name] = float(np.concatenate(same).mean()) if same else 0.0
    if labelled and len(scores) == 1:
        a, b, labels = max(labelled, key=lambda one: len(one[2]))
        for side, answer in (("before", a), ("after", b)):
            accuracy[side] = float((np.argmax(answer[scores[0]][:len(labels)], 1) == labels).mean())
        accuracy["examples"] = len(labels)
    return agreement, accuracy
