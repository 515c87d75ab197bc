"""What two models are asked, and what they answer: the requests of a comparison, real or made up.

Each model runs in its own process, which may die on made-up inputs: that is an answer about the inputs.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from export import samples
from export.loaded import DiedError, LoadedModel, RunError, SilentError
from export.samples import Maker, Manner
from export.tensors import Array
from serving.client import payloads
from serving.client.answers import Answer, Budget
from serving.client.payloads import LABELS, TensorSpec
from user_error import FailedError, UserError

_TURN = 1000  # between the seeds of one scale of made-up inputs and the next, so that each has other examples
_MOST_SILENT = 2  # ways of making inputs that get no answer


@dataclass(frozen=True)
class Plan:
    """What to ask: batch sizes, real examples (arrays by input key, and `labels`), allowed differences."""

    batches: Sequence[int] = (1, 3, 17)
    samples: Mapping[str, Array] = field(default_factory=dict)
    budget: Budget | None = None
    seed: int = 0
    allow_constant: frozenset[str] = frozenset()  # signatures whose answer may be the same for all inputs
    made_up: int | None = None  # how many random examples for each signature; None: a request of each batch size
    allow: frozenset[str] = frozenset()  # operations with effects (export.effects) that may run on these inputs
    allow_random: frozenset[str] = frozenset()  # signatures that draw random numbers: both sides get the same seeds
    budgets: Mapping[str, Budget] = field(default_factory=dict)  # by signature, instead of `budget`

    def to_signature(self, key: str) -> Plan:
        """The plan for one signature, with its own budget."""
        return replace(self, budget=self.budgets[key]) if key in self.budgets else self


@dataclass
class Asked:
    """The requests to one signature of both models, and the answers."""

    key: str
    plan: Plan
    samples: int  # number of real examples
    pairs: list[tuple[Answer, Answer]] = field(default_factory=list)
    inputs: list[dict[str, Array]] = field(default_factory=list)  # of each pair
    labelled: list[tuple[Answer, Answer, Array]] = field(default_factory=list)
    requests: dict[int, dict[str, Array]] = field(default_factory=dict)
    batches: set[int] = field(default_factory=set)
    real: int = 0
    random: int = 0
    refused: str = ""
    reason: str = ""
    only_real: bool = False  # made-up inputs get no answer

    def ask(self, reference: LoadedModel, candidate: LoadedModel, batch: int, real: bool,
            inputs: dict[str, Array]) -> bool:
        """Sends both models a request. False if only one of them answers it; then `reason` is set."""
        expected, actual = outcomes(self.key, batch, inputs, (reference, candidate))
        if isinstance(expected, str):
            self.refused = self.refused or expected
        if isinstance(expected, _Died):
            return True  # the reference refuses the inputs: there is nothing to compare
        if isinstance(expected, str) != isinstance(actual, str):
            self.reason = f"signature '{self.key}' at batch {batch}: " + (
                actual if isinstance(actual, str) else f"an answer where {reference.path} has an error: {expected}")
            return False
        if not isinstance(expected, str) and not isinstance(actual, str):
            self.pairs.append((expected, actual))
            self.inputs.append(inputs)
            self.batches.add(batch)
            self.requests.setdefault(batch, inputs)
            # Each real request begins with the first sample; after the last one the first follows.
            self.real = max(self.real, min(batch, self.samples)) if real else self.real
            self.random += 0 if real else batch
            if real and LABELS in self.plan.samples:
                self.labelled.append((expected, actual, self.plan.samples[LABELS][:batch]))
        return True


def requests(asked: Asked, signature: Any, maker: Maker, manner: Manner,
            turn: int) -> Iterator[tuple[int, bool, dict[str, Array]]]:
    """Each request as (batch size, whether the examples are real, inputs)."""
    plan, specs = asked.plan, payloads.specs_of(signature.inputs)
    fixed = samples.fixed_batch(specs)
    batches = list(plan.batches if fixed is None else [fixed] * len(plan.batches))
    real = bool(specs) and specs.keys() <= plan.samples.keys() and manner.scale is None
    if real and payloads.is_whole(plan.samples, specs):
        yield 1, True, payloads.pick(plan.samples, specs)
    elif real:
        for batch in batches:
            yield batch, True, payloads.pick(plan.samples, specs, batch)
    for index, batch in enumerate(_made_up(plan, batches, fixed, bool(specs))):
        made = maker.make(asked.key, batch, plan.seed + turn * _TURN + index, manner)
        yield batch, False, _with_real(plan, specs, batch, made)


def _made_up(plan: Plan, batches: list[int], fixed: int | None, asked: bool) -> Iterator[int]:
    """The batch sizes of the requests with random inputs."""
    if plan.made_up is None or not asked:
        yield from batches
        return
    left, index = plan.made_up, 0
    while left > 0:
        batch = fixed or min(left, batches[index % len(batches)])
        yield batch
        left, index = left - batch, index + 1


def _with_real(plan: Plan, specs: Mapping[str, TensorSpec], batch: int, made: dict[str, Array]) -> dict[str, Array]:
    """The random inputs `made`, replaced by real ones for the inputs that the samples have."""
    there = {name: spec for name, spec in specs.items() if name in plan.samples}
    if not there or len(there) == len(specs) or payloads.is_whole(plan.samples, there):
        return made
    return {**made, **payloads.pick(plan.samples, there, batch if samples.fixed_batch(there) is None else (
        samples.fixed_batch(there) or batch))}


def manner_for(asked: Asked, maker: Maker, models: Sequence[LoadedModel], fixed: int | None) -> Manner:
    """The first way of making inputs that the first model accepts; the default one if it accepts none.

    All models get the same requests, since some models count them. Raises UserError if there is no answer, unless
    real examples can be asked.
    """
    batch, plan = fixed or asked.plan.batches[0], asked.plan
    specs = samples.specs(maker.model.signatures[asked.key])
    if plan.made_up == 0 and specs:
        return samples.MANNERS[0]
    silent = 0
    for manner in maker.manners(asked.key):
        inputs = _with_real(plan, specs, batch, maker.make(asked.key, batch, plan.seed, manner))
        outcome = outcomes(asked.key, batch, inputs, models)[0]
        if not isinstance(outcome, str):
            return manner
        asked.refused = asked.refused or outcome
        silent += isinstance(outcome, _Silent)
        if silent == _MOST_SILENT:
            break
    asked.only_real = bool(silent) and specs.keys() <= plan.samples.keys()
    if silent and not asked.only_real:
        raise UserError(f"signature '{asked.key}': {models[0].path} has no answer to the inputs made for it "
                        f"({asked.refused}); give real ones with --samples, or leave it out with --signatures")
    return samples.MANNERS[0]


def constant_answer(maker: Maker, key: str, plan: Plan) -> str:
    """Why a signature's answer may be the same for all inputs; "" if it may not."""
    if not maker.depends_on_values(key):
        return "its graph makes its answer from no value that is fed"
    return f"--allow-constant {key}" if key in plan.allow_constant else ""


class _Died(str):
    """In place of an answer: how the model's process ended."""


class _Silent(_Died):
    """There was no answer in time."""


def outcomes(key: str, batch: int, inputs: dict[str, Array],
              models: Sequence[LoadedModel]) -> list[dict[str, Array] | str]:
    """Each model's answer, or the text of its error. The models work simultaneously.

    If a process dies on inputs that the first model does not answer either, the inputs are at fault: the process is
    started again. Raises FailedError if one dies on inputs that the first model answers.
    """
    for model in models:
        model.start(key, inputs)
    found: list[dict[str, Array] | str] = []
    for model in models:
        if found and isinstance(found[0], _Silent):
            model.restart()  # it is not waited for as long again
            found.append(found[0])
            continue
        try:
            found.append(model.finish())
        except RunError as error:
            found.append(str(error))
        except DiedError as error:
            if found and not isinstance(found[0], str):
                raise FailedError(f"{model.path} at batch {batch}: {error}") from None
            model.restart()
            found.append(_Silent(error) if isinstance(error, SilentError) else _Died(error))
    return found
