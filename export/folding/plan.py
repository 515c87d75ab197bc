"""Plans one fold of an affine map: new nodes are collected first, so that the fold is done completely or not at all.

`back` moves a map into the contraction that makes a tensor, `forward` into every contraction that reads it.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from export.folding.affine import AFFINE, Affine
from export.folding.contraction import CONTRACTIONS, Contraction
from export.folding.passage import PASSAGES, after, before
from export.graph import Node, make_const, make_node, port, producer
from export.ops import SHAPE_OPS
from export.pattern import Skip
from export.shapes import Shape, Shapes, constant
from export.tensors import Array, numpy_dtype
from export.transform import Draft, sole_reader


class Plan:
    """The new nodes for one fold, which are put into the graph only if all of them can be made."""

    def __init__(self, draft: Draft, shapes: Shapes, through: frozenset[str],
                 affine: Callable[[str], tuple[str, Affine] | None]) -> None:
        self.draft, self.known, self.through, self.affine = draft, shapes, through, affine
        self.new: dict[str, Node] = {}
        self.shapes: Shapes = {}
        # Nodes that may be unused afterwards, and contractions that are now followed by an addition.
        self.replaced: list[str] = []
        self.biased: list[str] = []

    def back(self, ref: str, affine: Affine, reader: str) -> str:
        """A tensor equal to `affine` of tensor `ref`, by changing the nodes that compute `ref` only for `reader`."""
        item = self.draft.nodes[producer(ref)]
        if port(ref) or item.op not in CONTRACTIONS | AFFINE | self.through:
            raise Skip(f"'{item.name}' ({item.op}) takes in no constant")
        if item.op in CONTRACTIONS:
            sole_reader(self.draft, item, reader)
            return self._into_outputs(item, affine)
        if item.op in AFFINE:
            found = self.affine(item.name)
            if found is None:
                raise Skip(f"'{item.name}' ({item.op}) takes in no constant")
            sole_reader(self.draft, item, reader)
            return self.back(found[0], found[1].then(affine), item.name)
        sole_reader(self.draft, item, reader)
        if item.op == "ConcatV2":
            parts = self._split(item, affine)
            data = [self.back(part, one, item.name) for part, one in zip(item.data[:-1], parts, strict=True)]
        else:
            data = [self.back(item.data[0], before(item, affine, self.draft.nodes, self.known), item.name)]
        return self._put(item.with_inputs((*data, *item.inputs[len(data):])), self.known.get(item.name))

    def forward(self, name: str, affine: Affine, source: str) -> None:
        """Changes all readers of node `name`, which is `affine` of `source`, to compute the same from `source`."""
        if name in self.draft.kept:
            raise Skip(f"'{name}' is itself a requested input or output")
        readers = list(self.draft.consumers.get(name, ()))
        if not readers:
            raise Skip("nothing reads it")
        for reader in readers:
            self._forward(self.draft.nodes[reader], name, affine, source)

    def _forward(self, item: Node, name: str, affine: Affine, source: str) -> None:
        at = [index for index, ref in enumerate(item.inputs) if producer(ref) == name]
        if len(at) != 1 or item.inputs[at[0]] != name or item.name in self.new:
            raise Skip(f"'{item.name}' uses it in another way than as its data")
        inputs = tuple(source if index == at[0] else ref for index, ref in enumerate(item.inputs))
        if item.op in CONTRACTIONS:
            self._into_inputs(item, at[0], inputs, affine)
            return
        if item.op in SHAPE_OPS:
            # The map changes no shape.
            self._put(item.with_inputs(inputs), self.known.get(item.name))
            return
        if item.name in self.draft.kept:
            raise Skip(f"'{item.name}' is itself a requested input or output")
        found = self.affine(item.name) if item.op in AFFINE else None
        if found is not None and found[0] == name:
            self.replaced.append(item.name)
            self.forward(item.name, affine.then(found[1]), source)
        elif item.op in self.through and item.op in PASSAGES and at[0] == 0:
            passed = after(item, affine, self.draft.nodes, self._shape_after(item))
            self.forward(self._put(item.with_inputs(inputs), self.known.get(item.name)), passed, item.name)
        elif item.op in self.through and item.op == "ConcatV2" and at[0] < len(item.data) - 1:
            joined = self._joined(item, at[0], affine)
            self.forward(self._put(item.with_inputs(inputs), self.known.get(item.name)), joined, item.name)
        else:
            raise Skip(f"'{item.name}' ({item.op}) takes in no constant")

    def end(self, ref: str, name: str) -> None:
        """Gives the node that now computes the chain's value the name of the chain's last node."""
        item = self.new.pop(ref)
        self.replaced.append(ref)
        self._put(replace(item, name=name), self.known.get(name))

    def add(self, source: str, affine: Affine, like: Node) -> None:
        """Replaces node `like` by one addition."""
        offset = affine.offset
        if offset.ndim:
            offset = offset.reshape((-1,) + (1,) * (affine.rank - affine.axis - 1))
        constants = [self.draft.nodes[producer(ref)] for ref in like.data]
        offsets = self._const(f"{like.name}/offset", offset, next(item for item in constants if item.op == "Const"))
        self._put(make_node(like.name, "AddV2", (source, offsets), like.device, T=like.get("T")),
                  self.known.get(like.name))

    def _into_outputs(self, item: Node, affine: Affine) -> str:
        contraction = self._contraction(item)
        if not affine.single:
            rank = contraction.rank or affine.rank
            axis = 1 if contraction.channels_first else rank - 1
            if (affine.axis, affine.rank) != (axis, rank):
                raise Skip(f"the constant is not along the output channels of '{item.name}'")
            if max(affine.scale.size, affine.offset.size) != contraction.outputs:
                raise Skip(f"the constant does not have one float per output channel of '{item.name}'")
        weights = contraction.over_outputs(self._weights(contraction), affine.scale)
        changed = self._with_weights(contraction, weights, item.inputs)
        self._put(changed, self.known.get(item.name))
        if not affine.has_offset:
            return item.name
        offset = np.broadcast_to(affine.offset, (contraction.outputs,))
        return self._bias(contraction, offset, item.name, self._name(f"{item.name}/bias_add"))

    def _into_inputs(self, item: Node, at: int, inputs: tuple[str, ...], affine: Affine) -> None:
        contraction = self._contraction(item)
        if at != contraction.data_index:
            raise Skip(f"'{item.name}' uses it in another way than as its data")
        if not affine.single:
            axis = 1 if contraction.channels_first else affine.rank - 1
            if affine.axis != axis or (contraction.rank and contraction.rank != affine.rank):
                raise Skip(f"the constant is not along the input channels of '{item.name}'")
        weights = self._weights(contraction)
        offset = contraction.response(weights, affine.offset)
        changed = self._with_weights(contraction, contraction.over_inputs(weights, affine.scale), inputs)
        if not np.any(offset):
            self._put(changed, self.known.get(item.name))
            return
        inner = self._name(f"{item.name}/contraction")
        self._put(replace(changed, name=inner), self.known.get(item.name))
        self._bias(contraction, offset, inner, item.name)
        self.biased.append(item.name)

    def _contraction(self, item: Node) -> Contraction:
        index = Contraction(item, item).weights_index
        weights = self.draft.nodes[producer(item.data[index])]
        if weights.op != "Const" or port(item.data[index]):
            raise Skip(f"the weights of '{item.name}' are not constant")
        if weights.name in self.draft.graph.fed:
            raise Skip(f"the weights of '{item.name}' are fed from outside")
        contraction = Contraction(item, weights)
        contraction.require_float()
        return contraction

    def _weights(self, contraction: Contraction) -> Array:
        value = np.asarray(contraction.weights_node.value, np.float64)
        if not np.all(np.isfinite(value)):
            raise Skip(f"the weights of '{contraction.node.name}' hold NaN or infinity")
        return value

    def _with_weights(self, contraction: Contraction, weights: Array, inputs: tuple[str, ...]) -> Node:
        old, item = contraction.weights_node, contraction.node
        own = len(self.draft.consumers[old.name]) == 1 and old.name not in self.draft.kept
        name = self._const(old.name if own else f"{item.name}/weights", weights, old, exact=own)
        return item.with_inputs(name if index == contraction.weights_index else ref for index, ref in enumerate(inputs))

    def _bias(self, contraction: Contraction, offset: Array, source: str, name: str) -> str:
        item = contraction.node
        constants = self._const(f"{name}/bias", offset, contraction.weights_node)
        layout = "NCHW" if contraction.channels_first else "NHWC"
        added = make_node(name, "BiasAdd", (source, constants), item.device, T=item.get("T"), data_format=layout)
        return self._put(added, self.known.get(item.name))

    def _const(self, name: str, value: Array, like: Node, exact: bool = False) -> str:
        """A constant of the type of constant `like`, in the same v1 loop. Raises Skip if the type cannot hold it."""
        dtype = like.get("dtype")
        with np.errstate(over="ignore"):
            narrowed = np.ascontiguousarray(value, numpy_dtype(dtype)).reshape(value.shape)
        if not np.all(np.isfinite(narrowed)):
            raise Skip("a folded constant would be infinite")
        made = make_const(name if exact else self._name(name), narrowed, like.controls, like.device)
        return self._put(made, narrowed.shape)

    def _put(self, item: Node, shape: Shape) -> str:
        if item.name in self.new:
            raise Skip(f"'{item.name}' is reached in two ways")
        self.new[item.name] = item
        self.shapes[item.name] = shape
        if item.name in self.draft.nodes:
            self.replaced += map(producer, self.draft.nodes[item.name].inputs)
        return item.name

    def _name(self, wanted: str) -> str:
        name, count = self.draft.unused_name(wanted), 0
        while name in self.new:
            count += 1
            name = self.draft.unused_name(f"{wanted}_{count}")
        return name

    def _shape_after(self, item: Node) -> Shape:
        """A node's known shape; a Reshape's unknown last size is taken from the matrix that multiplies the result."""
        shape = self.known.get(item.name)
        if item.op == "Reshape" and shape and len(shape) == 2 and shape[1] is None:
            for reader in self.draft.readers(item.name):
                if reader.op == "MatMul" and reader.data[0] == item.name and not reader.get("transpose_a"):
                    rows = self.known.get(reader.data[1])
                    if rows:
                        return shape[0], rows[1 if reader.get("transpose_b") else 0]
        return shape

    def _split(self, item: Node, affine: Affine) -> list[Affine]:
        """A map of a concatenation as one map for each part."""
        axis = constant(item, len(item.data) - 1, self.draft.nodes)
        count = len(item.data) - 1
        if affine.single or (axis is not None and axis[0] % affine.rank != affine.axis):
            return [affine] * count
        sizes = [shape[affine.axis] if shape and len(shape) == affine.rank else None
                 for shape in (self.known.get(ref) for ref in item.data[:-1])]
        if axis is None or any(size is None for size in sizes):
            raise Skip(f"the channels that '{item.name}' joins are not known")
        ends = np.cumsum([size for size in sizes if size is not None])
        return [affine.per_channel(partial(_part, end - size, end), affine.axis, affine.rank)
                for end, size in zip(ends.tolist(), sizes, strict=True) if size is not None]

    def _joined(self, item: Node, at: int, affine: Affine) -> Affine:
        """A map of one part of a concatenation as a map of the whole."""
        axis = constant(item, len(item.data) - 1, self.draft.nodes)
        shapes = [self.known.get(ref) for ref in item.data[:-1]]
        rank = next((len(shape) for shape in shapes if shape), 0)
        sizes = [shape[axis[0] % rank] if shape and axis else None for shape in shapes]
        if axis is None or any(size is None for size in sizes):
            raise Skip(f"the channels that '{item.name}' joins are not known")
        place = axis[0] % rank
        if not affine.single and (affine.axis, affine.rank) != (place, rank):
            raise Skip(f"'{item.name}' joins along another axis than the constant's")
        start = sum(size for size in sizes[:at] if size is not None)
        size, total = sizes[at] or 0, sum(size for size in sizes if size is not None)
        scale, offset = np.ones(total), np.zeros(total)
        scale[start:start + size], offset[start:start + size] = affine.scale, affine.offset
        return Affine(scale, offset, place, rank)




def _part(start: int, end: int, vector: Array) -> Array:
    return vector[start:end]
