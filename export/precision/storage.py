"""Weights stored in float16 or int8, for the size of the version alone: the graph computes with them in float32.

    graph, stored = stored_as(graph, "float16")

float16: half the size, each weight rounded to 11 bits. int8: a quarter; each output channel has its own scale, and a
weight changes by at most 1/254 of the largest one in its channel.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from export.graph import Graph, Node, make_const, make_node, normal
from export.ops import attribute
from export.pattern import Skip
from export.shapes import constant
from export.tensors import FLOAT, HALF, INT8, Array
from export.transform import Draft, Record
from export.weights import approximable
from user_error import UserError

Kind = Literal["float16", "int8"]
KINDS: tuple[Kind, ...] = ("float16", "int8")
# Smaller constants are often epsilons and biases, for which accuracy matters and size does not.
MINIMUM_SIZE = 1024
# TensorFlow computes a constant back to float32 at load up to this size, and a larger one again at every run.
FOLDED_BYTES = 10 << 20
_LARGEST = 127
_FLOAT16_ERROR = 2.0 ** -11


@dataclass(frozen=True)
class Stored:
    """What was stored. `left`: constants that stay float32, with the reason. `error`: the largest change of a weight,
    as a share of the largest weight in its constant."""

    kind: Kind
    constants: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    error: float = 0.0
    left: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "constants": self.constants, "bytes_before": self.bytes_before,
                "bytes_after": self.bytes_after, "error": self.error, "left": dict(self.left)}

    def lines(self) -> list[str]:
        """What was stored, and one line for each constant that stays float32."""
        return [f"{self.constants} constants in {self.kind}: {self.bytes_before / 1e6:.2f} MB -> "
                f"{self.bytes_after / 1e6:.2f} MB, weights changed by at most {self.error:.2g} of the largest",
                *(f"  '{name}' stays float32: {why}" for name, why in self.left.items())]


def kind_of(name: str) -> Kind:
    """Raises UserError for another kind."""
    found = next((kind for kind in KINDS if kind == name), None)
    if found is None:
        raise UserError(f"weights are stored as {' or '.join(KINDS)}, not as '{name}'")
    return found


def stored_as(graph: Graph, kind: Kind) -> tuple[Graph, Stored]:  # decision 167
    """Stores float32 constants with at least MINIMUM_SIZE elements as `kind`; names of nodes stay.

    Such constants that stay float32 are named with the reason.
    """
    draft, record = Draft(graph), Record()
    before = after = done = 0
    error = 0.0
    for item, values in approximable(graph, MINIMUM_SIZE, record):
        gathers = _gathers(graph, item)
        try:
            numbers, scale = _parts(graph, item, values, kind, gathered=bool(gathers))
        except Skip as skip:
            record.skip(item.name, skip.reason)
            continue
        real = numbers.astype(np.float32) * (np.float32(1) if scale is None else scale)
        error = max(error, float(np.abs(real - values).max() / (np.abs(values).max() or 1)))
        before, done = before + values.nbytes, done + 1
        after += numbers.nbytes + (0 if scale is None else scale.nbytes)
        _put(draft, item, numbers, scale, gathers)
    return draft.result().validate(f"storage in {kind}"), Stored(
        kind, done, before, after, error, dict(record.skipped))


def _gathers(graph: Graph, item: Node) -> list[Node]:
    """The lookups that read a table, if nothing else reads it: only the rows that are looked up are computed back."""
    readers = [graph.nodes[name] for name in graph.consumers.get(item.name, ())]
    only = all(reader.op == "GatherV2" and normal(reader.data[0]) == item.name and item.name not in reader.data[1:]
               and constant(reader, 2, graph.nodes) == [0] and not attribute(reader, "batch_dims")
               for reader in readers)
    return readers if only and len(item.shape) == 2 else []


def _parts(graph: Graph, item: Node, values: Array, kind: Kind, gathered: bool) -> tuple[Array, Array | None]:
    """The numbers to store, and what to multiply them with. Raises Skip with the reason why not."""
    size = 2 if kind == "float16" else 1
    if item.attrs["value"].ByteSize() < values.size * size:
        raise Skip(f"it takes less than {size} byte{'s' * (size > 1)} per value already")
    if values.nbytes > FOLDED_BYTES and not gathered:
        raise Skip(f"it has {values.nbytes / 1e6:.1f} MB: over {FOLDED_BYTES >> 20} MB TensorFlow computes it back at "
                   "every run")
    if kind == "float16":
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.abs(half.astype(np.float32) - values).max() <= np.abs(values).max() * _FLOAT16_ERROR:
            raise Skip("its values are too large or too small for float16")
        return half, None
    largest = np.abs(values).max(_summed(graph, item), keepdims=True)
    scale = np.where(largest > 0, largest / _LARGEST, 1).astype(np.float32)
    return np.clip(np.round(values / scale), -_LARGEST, _LARGEST).astype(np.int8), scale


def _summed(graph: Graph, item: Node) -> tuple[int, ...]:
    """The axes that have one scale: all but that of the output channels of the operations that read the weights."""
    rank = len(item.shape)
    kept = {rank - 1} if rank > 1 else set()
    for name in graph.consumers.get(item.name, ()):
        reader = graph.nodes[name]
        if reader.op == "DepthwiseConv2dNative":
            kept = {2, 3}
        elif reader.op == "Conv2DBackpropInput":
            kept = {2}
        elif (reader.op == "MatMul" and reader.get("transpose_b")) or (
                reader.op.startswith("BatchMatMul") and reader.get("adj_y")):
            kept = {rank - 2}
    return tuple(axis for axis in range(rank) if axis not in kept)


def _put(draft: Draft, item: Node, numbers: Array, scale: Array | None, gathers: list[Node]) -> None:
    """The constants under new names, and what makes float32 of them under the old name (or that of each lookup)."""
    dtype = HALF if scale is None else INT8
    stored = draft.unused_name(f"{item.name}/stored")
    draft.put(make_const(stored, numbers, item.controls, item.device))
    factor = ""
    if scale is not None:
        factor = draft.unused_name(f"{item.name}/scale")
        draft.put(make_const(factor, scale, item.controls, item.device))
    for node in gathers or [item]:
        source = stored
        if gathers:
            source = draft.unused_name(f"{node.name}/stored")
            draft.put(replace(node.with_inputs((stored, *node.inputs[1:])).with_attrs(Tparams=dtype), name=source))
        if not factor:
            draft.put(make_node(node.name, "Cast", (source,), node.device, SrcT=dtype, DstT=FLOAT))
            continue
        cast = draft.unused_name(f"{node.name}/float32")
        draft.put(make_node(cast, "Cast", (source,), node.device, SrcT=dtype, DstT=FLOAT))
        draft.put(make_node(node.name, "Mul", (cast, factor), node.device, T=FLOAT))
    if gathers:
        draft.drop_unused([item.name])
