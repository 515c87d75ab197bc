"""Proof that no request of ordinary inputs ends the process of a version: loaded and run as a server does, in a child.

    source = Expected(original, ("serve",))
    proof = proven_alive(version, ("serve",), "serving_default", make, batches=(1, 100), reference=source)

Each batch size is asked alone; then four requests run at once, of one size (at most 64 MB of inputs together) and of
mixed sizes; then inputs of other shapes than the signature declares. Each is answered, or refused with an error; a
process that ends is a FailedError that names the batch size or the shape.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from export import samples
from export.loaded import DiedError, LoadedModel, RunError
from export.samples import Maker
from export.tensors import Array
from serving.client import payloads
from serving.client.answers import compare
from user_error import FailedError

# None, one, few, odd, more than a cache line of any loop, and one past a power of two.
BATCHES = (0, 1, 2, 3, 5, 7, 17, 100, 257)
AT_ONCE = 4
# Of the inputs of requests at once: a network's activations take ten times that, and more.
_AT_ONCE_BYTES = 64 << 20
_ANSWERED = "answered"
_FOUR = "four requests at once"

Make = Callable[[int], Mapping[str, Array]]
Outcome = dict[str, Array] | RunError


@dataclass
class Alive:
    """What became of each request: its batch size -> "answered", or "refused: " and the error."""

    batches: dict[int, str] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)  # where only one of version and reference answers
    at_once: int = 0  # requests that ran at the same time as others
    shapes: dict[str, str] = field(default_factory=dict)  # the same for requests of other shapes than declared

    def __str__(self) -> str:
        answered = [str(batch) for batch, outcome in self.batches.items() if outcome == _ANSWERED]
        refused = [str(batch) for batch, outcome in self.batches.items() if outcome != _ANSWERED]
        parts = [f"batch {', '.join(those)} {what}" for what, those in (("answered", answered), ("refused", refused))
                 if those]
        return f"alive: {', '.join(parts)}; {self.at_once} requests at once; {len(self.shapes)} of other shapes"


class Expected:
    """What a version does with each request. It is asked once, however many others are compared with it.

    The requests of a signature must be the same at every comparison: an outcome is remembered by its batch size.
    """

    def __init__(self, version: Path, tags: Sequence[str], own_directory: bool = False) -> None:
        self.version, self._tags, self._own_directory = version, tuple(tags), own_directory
        self._told: dict[tuple[str, int], str] = {}

    def told(self, key: str, requests: Mapping[int, dict[str, Array]]) -> dict[int, str]:
        """Batch size -> "answered", or "refused: " and the error, or the reason why its process ended."""
        missing = [size for size in requests if (key, size) not in self._told]
        if missing:
            with LoadedModel(self.version, self._tags, self._own_directory) as model:
                model.loaded()
                for size in missing:
                    try:
                        outcome: Outcome = model.run_at_once([(key, requests[size])])[0]
                    except DiedError as error:
                        outcome = RunError(str(error))
                        model.restart()
                    self._told[key, size] = _told(outcome)
        return {size: self._told[key, size] for size in requests}


def proven_alive(version: Path, tags: Sequence[str], key: str, make: Make, batches: Iterable[int] = (),
                 reference: Expected | None = None, own_directory: bool = False, engine: str = "") -> Alive:
    """Asks the signature `key` for BATCHES and `batches`. `make(n)` gives the inputs of a request of n examples.

    `engine` runs the version instead of TensorFlow.

    A signature with a fixed batch size, or without a batch, is asked for that size only. If `reference` is given, it
    is asked the same. Raises FailedError if the version's process ends, if only one of the two answers (except at
    batch 0), or if requests at once get other answers than alone; UserError if the version does not load.
    """
    proof = Alive()
    with LoadedModel(version, tags, own_directory, engine=engine) as model:
        model.loaded()
        fixed = samples.fixed_batch(samples.specs(model.signatures[key]))
        sizes = sorted({*BATCHES, *batches}) if fixed is None else [fixed]
        requests = {size: dict(make(size)) for size in sizes}
        alone: dict[int, Outcome] = {}
        for size, inputs in requests.items():
            alone[size] = _run(model, [(key, inputs)], f"at batch {size}")[0]
            proof.batches[size] = _told(alone[size])
        largest = max((size for size in sizes if size and not isinstance(alone[size], RunError)
                       and AT_ONCE * sum(np.asarray(value).nbytes for value in requests[size].values())
                       <= _AT_ONCE_BYTES), default=sizes[-1] if fixed else 1)
        one = min((size for size in sizes if size), default=sizes[-1])
        mixed = [largest, sizes[0], one, sizes[len(sizes) // 2]]
        for group in ([one] * AT_ONCE, [largest] * AT_ONCE, mixed):
            _at_once(model, key, requests, group, alone)
            proof.at_once += len(group)
        for what, inputs in _misshapen(requests[min((size for size in sizes if size > 1), default=one)]):
            proof.shapes[what] = _told(_run(model, [(key, inputs)], f"with {what}")[0])
    if reference is not None:
        proof.differences = _differences(reference, key, requests, proof.batches)
        told = [one for one in proof.differences if not one.startswith("at batch 0:")]
        if told:
            raise FailedError(f"{version}, signature '{key}' {told[0]}")
    return proof


def made_for(maker: Maker, key: str, real: Mapping[str, Array] | None = None, seed: int = 0) -> Make:
    """`make` for `proven_alive`: real examples if there are some for all inputs, otherwise made-up ones."""
    specs = samples.specs(maker.model.signatures[key])
    use = real if real and specs.keys() <= real.keys() else None
    free = [name for name, spec in specs.items() if spec.shape is None or spec.shape[:1] == (-1,)]

    def make(batch: int) -> dict[str, Array]:
        if use and payloads.is_whole(use, specs):
            made = payloads.pick(use, specs)
        elif use:
            made = payloads.pick(use, specs, max(batch, 1))
        else:
            made = maker.make(key, max(batch, 1), seed)
        return {name: value[:0] if not batch and name in free and np.ndim(value) else value
                for name, value in made.items()}
    return make


def _misshapen(inputs: Mapping[str, Array]) -> Iterator[tuple[str, dict[str, Array]]]:
    """The request with one input of another shape: a rank too low, an empty axis, or one more along an axis."""
    for name, value in inputs.items():
        if value.dtype.kind not in "fiu" or not value.ndim:
            continue
        wrong = [value[..., 0], value[..., None]]
        for axis in range(1, value.ndim):
            wrong += [np.take(value, [], axis), np.concatenate([value, np.take(value, [0], axis)], axis)]
        for one in wrong:
            yield f"input '{name}' of shape {list(one.shape)}", {**inputs, name: one}


def _run(model: LoadedModel, requests: list[tuple[str, dict[str, Array]]], what: str) -> list[Outcome]:
    try:
        return list(model.run_at_once(requests))
    except DiedError as error:
        raise FailedError(f"{model.path}, signature '{requests[0][0]}' {what}: {error}") from None


def _at_once(model: LoadedModel, key: str, requests: Mapping[int, dict[str, Array]], group: Sequence[int],
             alone: Mapping[int, Outcome]) -> None:
    named = ", ".join(map(str, dict.fromkeys(group)))
    what = f"with {_FOUR} (batch {named})"
    for size, outcome in zip(group, _run(model, [(key, requests[size]) for size in group], what), strict=True):
        before = alone[size]
        if isinstance(outcome, RunError) or isinstance(before, RunError):
            if isinstance(outcome, RunError) != isinstance(before, RunError):
                raise FailedError(f"{model.path}, signature '{key}' {what}: batch {size} is {_told(outcome)}, alone it "
                                  f"is {_told(before)}")
        elif not compare(before, outcome).equal and _repeats(model, key, requests[size], before, size):
            raise FailedError(f"{model.path}, signature '{key}' {what}: batch {size} gets another answer than alone: "
                              f"{compare(before, outcome).reasons[0]}")


def _repeats(model: LoadedModel, key: str, inputs: dict[str, Array], before: dict[str, Array], size: int) -> bool:
    """Whether the request alone gets its first answer again: random numbers, or state, differ from run to run."""
    again = _run(model, [(key, inputs)], f"at batch {size}")[0]
    return not isinstance(again, RunError) and compare(before, again).equal


def _told(outcome: Outcome) -> str:
    return f"refused: {outcome}" if isinstance(outcome, RunError) else _ANSWERED


def _differences(reference: Expected, key: str, requests: Mapping[int, dict[str, Array]],
                 told: Mapping[int, str]) -> list[str]:
    return [f"at batch {size}: it is {told[size]}; {reference.version} at that size is {expected}"
            for size, expected in reference.told(key, requests).items()
            if (expected == _ANSWERED) != (told[size] == _ANSWERED)]
