"""Random inputs for any signature: seeded, of its dtypes and shapes, with values that its graph can use (see hints).

    maker = samples.Maker(model)
    inputs = maker.make("serving_default", batch=3, seed=0)
"""
from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from export.graph import normal, producer
from export.hint import Hint
from export.hints import Hints
from export.ops import PLACEHOLDERS
from export.parts import infos
from export.saved_model import SavedModel
from export.served import depends_on_values, served_graph, softmax_outputs
from export.shapes import shapes_may_be_unknown
from export.tensors import Array, numpy_dtype
from export.texts import text
from serving.client import payloads
from serving.client.payloads import INTEGERS_BELOW, UNKNOWN_SIZE, TensorSpec, specs_of


@dataclass(frozen=True)
class Manner:
    """Assumptions if signature and graph show nothing: the size of unknown dimensions, the integers' bound, the rank.

    Floats are in [0, 1), or in [-scale, scale) if that is given.
    """

    size: int = UNKNOWN_SIZE
    below: int = INTEGERS_BELOW
    rank: int = 1
    scale: float | None = None


# Tried in this order until the model accepts the inputs.
MANNERS = (Manner(), Manner(below=2), Manner(size=1), Manner(size=1, below=1), Manner(size=2, below=2), Manner(size=4),
           Manner(size=3), Manner(size=8), Manner(size=32), Manner(size=64), Manner(size=128), Manner(size=224))
# Also tried if an input's rank is unknown.
RANKS = (Manner(rank=2), Manner(rank=4, size=3), Manner(rank=3), Manner(rank=0), Manner(rank=2, size=1),
         Manner(rank=3, size=3))


# The share of exact zeros among floats in [-scale, scale), for models that cast to bool or test for padding.
_ZEROS = 0.1


def specs(signature: Any) -> dict[str, TensorSpec]:
    """Dtypes and shapes of a SignatureDef's inputs, by part."""
    return specs_of(parts_of(signature))


def parts_of(signature: Any) -> dict[str, Any]:
    """The TensorInfos of a SignatureDef's inputs by part (see export.parts)."""
    return {part: one for key, info in signature.inputs.items() for part, one in infos(key, info).items()}


def refuse_strangers(arrays: Mapping[str, Array], signatures: Mapping[str, Any]) -> None:
    """Raises UserError for an array that is an input of none of the signatures."""
    payloads.refuse_strangers(arrays, (part for one in signatures.values() for part in parts_of(one)))


def fixed_batch(inputs: Mapping[str, TensorSpec]) -> int | None:
    """The batch size that a signature's shapes require; None if they allow any."""
    if any(spec.shape is None or spec.shape[:1] == (-1,) for spec in inputs.values()):
        return None
    return max((spec.shape[0] for spec in inputs.values() if spec.shape), default=1)


class Maker:
    """Makes inputs for one model. `other` reads a model with the same signatures, whose graph may have more hints about
    strings."""

    def __init__(self, model: SavedModel, other: Callable[[], SavedModel] | None = None) -> None:
        self._model = model
        self._other = other

    @property
    def model(self) -> SavedModel:
        return self._model

    @cached_property
    def _hints(self) -> Hints:
        return _hints(self._model)

    @cached_property
    def _other_hints(self) -> Hints | None:
        return _hints(self._other()) if self._other is not None else None

    def make(self, signature: str, batch: int, seed: int, manner: Manner = MANNERS[0]) -> dict[str, Array]:
        """`batch` examples for each input of a signature; the same for the same arguments."""
        there = parts_of(self._model.signatures[signature])
        refs = {key: normal(info.name) for key, info in there.items()}
        wanted = {key: self._shaped(spec, refs[key], manner)
                  for key, spec in specs(self._model.signatures[signature]).items()}
        any_batch = any(-1 in (spec.shape or ()) for spec in wanted.values())
        made = {}
        for key, values in payloads.make(wanted, batch if any_batch else max(
                (spec.shape[0] for spec in wanted.values() if spec.shape), default=1), seed).items():
            random = np.random.default_rng([seed, *key.encode()])
            made[key] = _fitting(values, self.hint(refs[key], text=values.dtype == object), random, manner)
        self._regroup(made, wanted, refs, batch, seed)
        return made

    def _dtype(self, ref: str, said: np.dtype[Any]) -> np.dtype[Any]:
        """The graph's type for an input if the signature's differs (a regressor's may have float for examples)."""
        item = self._hints.graph.nodes.get(producer(ref))
        taken = item.get("dtype") if item is not None and item.op in PLACEHOLDERS else None
        return said if taken is None else np.dtype(numpy_dtype(taken))

    def _shaped(self, spec: TensorSpec, ref: str, manner: Manner) -> TensorSpec:
        """The spec with unknown sizes replaced: by those that the input's readers need, else by the manner's."""
        shape = spec.shape
        if shape == () and shapes_may_be_unknown(self._hints.graph.versions):
            shape = _sizes(self._hints.graph.shapes.get(ref))
        if shape is None or -1 in shape:
            shape = self._hints.demand(ref).fill(shape) if producer(ref) in self._hints.graph.nodes else shape
        if shape is None:
            shape = (-1,) * manner.rank
        return replace(spec, dtype=self._dtype(ref, spec.dtype), shape=(
            *shape[:1], *(manner.size if size < 0 else size for size in shape[1:])))

    def _regroup(self, made: dict[str, Array], wanted: Mapping[str, TensorSpec], refs: Mapping[str, str], batch: int,
                 seed: int) -> None:
        """Gives the parts of sparse and ragged tensors lengths that agree."""
        for indices, values, shape in payloads.sparse_parts(wanted):
            again = payloads.make({key: wanted[key] for key in (indices, values, shape)}, batch, seed)
            made[indices], made[shape] = again[indices], again[shape]
            made[values] = made[values][:len(made[indices])] if len(made[values]) >= len(made[indices]) else (
                np.resize(made[values], len(made[indices])))
        for ends in [key for key, spec in wanted.items() if spec.dtype.kind == "i" and len(spec.shape or ()) == 1
                     and (key.endswith("row_splits") or self.hint(refs[key], text=False).row_splits)]:
            root = re.sub(r"(_\d+|\.row_splits.*|_?row_splits|_?splits)$", "", ends)
            of = next((key for key in (root, f"{root}.values", f"{root}_values", *wanted)
                           if key in wanted and key != ends and wanted[key].shape), None)
            lengths = np.random.default_rng([seed, *ends.encode()]).integers(0, 4, batch)
            made[ends] = np.concatenate([[0], np.cumsum(lengths)]).astype(made[ends].dtype)
            if of is not None:
                one = made[of]
                made[of] = np.resize(one, (int(lengths.sum()), *one.shape[1:]))

    def manners(self, signature: str) -> tuple[Manner, ...]:
        """The manners that make different inputs for a signature, in the order in which to try them."""
        found = specs(self._model.signatures[signature])
        unknown = any(spec.shape is None for spec in found.values())
        made: dict[str, Manner] = {}
        for manner in (*MANNERS[:2], *(RANKS if unknown else ()), *MANNERS[2:]):
            one = self.make(signature, 1, 0, manner)
            # Manners that make the same inputs get the same answer.
            made.setdefault(repr({key: (value.shape, value.tolist() if value.size < 1000 else value.sum())
                                  for key, value in one.items()}), manner)
        return tuple(made.values())

    def depends_on_values(self, signature: str) -> bool:
        return depends_on_values(self._hints.graph, self._model.signatures[signature])

    def softmax_outputs(self, signature: str) -> list[str]:
        return softmax_outputs(self._hints.graph, self._model.signatures[signature])

    def hint(self, ref: str, text: bool) -> Hint:
        """The hint for an input. Tables that the checkpoint fills are known only after freezing: in `other`'s graph."""
        found = self._hints.of(ref)
        if text and found == Hint(sentence=found.sentence) and self._other_hints is not None:
            return self._other_hints.of(ref) if producer(ref) in self._other_hints.graph.nodes else found
        return found


def _sizes(shape: tuple[int | None, ...] | None) -> tuple[int, ...] | None:
    return None if shape is None else tuple(-1 if size is None else size for size in shape)


def _hints(model: SavedModel) -> Hints:
    assets = {producer(normal(one.tensor_info.name)): model.path / "assets" / one.filename for one in model.assets}
    return Hints(served_graph(model), assets)


def _fitting(values: Array, hint: Hint, random: np.random.Generator, manner: Manner) -> Array:
    """`values` if the hint is empty, else values of the same shape that it allows."""
    if values.dtype == object:
        made = np.empty(values.size, object)
        made[:] = [text(hint, random, manner.below, word) for word in values.ravel().tolist()]
        return made.reshape(values.shape)
    if values.dtype.kind == "f" and hint.below is None and not hint.words:
        if manner.scale is None:
            return values
        wide = (values.astype(np.float64) * 2 - 1) * manner.scale
        return np.where(random.random(values.shape) < _ZEROS, 0.0, wide).astype(values.dtype)
    # Floats that are cast to ids must be whole numbers within the range that they index.
    if values.dtype.kind not in "iuf" or (values.dtype == np.uint8 and hint.below is None):
        return values
    if hint.words:
        return random.choice(np.asarray(hint.words), values.shape).astype(values.dtype)
    return random.integers(0, hint.below or manner.below, values.shape).astype(values.dtype)
