"""The batch split in two inside the graph: two copies of it (towers) with the same weights, each with half of the rows.

    graph = two_towers(graph, [(("x",), ("scores",)), ...])       # inputs and outputs of each signature

Small operations do not use several cores well. With one thread per operation (intra-op 1) and two operations at a time
(inter-op 2), the towers run beside each other. A single example goes through the first tower.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count
from typing import Any

import numpy as np

from export.graph import Graph, Node, make_const, make_node, normal, port, producer, tensor_name
from export.ops import output_dtypes
from export.parts import parts
from export.precision.rows import State, follow
from export.tensors import BOOL, INT32, DType
from user_error import UserError

Ends = tuple[Sequence[str], Sequence[str]]  # a signature's inputs and outputs, as tensor names
_SMALLEST = 2  # of two examples each tower gets one, and no tower is ever empty


class NotSplitError(UserError):
    """The graph cannot be split: a row of an output may depend on other examples than its own."""


def ends_of(signatures: Iterable[Any]) -> list[Ends]:
    """The inputs and outputs of SignatureDefs."""
    def refs(side: Any) -> list[str]:
        return [normal(name) for key, info in side.items() for name in parts(key, info).values()]
    return [(refs(one.inputs), refs(one.outputs)) for one in signatures]


def two_towers(graph: Graph, ends: Sequence[Ends]) -> Graph:  # decision 166
    """The graph with two towers for each set of inputs. Weights are shared; names, types and values of what is fed and
    fetched stay.

    Raises NotSplitError, which names the node, unless each row of each output depends on its own example only.
    """
    states = follow(graph)
    draft = _Draft(graph, states, dict(graph.nodes))
    for inputs, outputs in _groups(graph, states, ends):
        draft.split(inputs, outputs)
    return draft.result().validate("two towers") if draft.replaced else graph


def _groups(graph: Graph, states: dict[str, State], ends: Sequence[Ends]) -> list[tuple[tuple[str, ...], set[str]]]:
    """Signatures that feed the same tensors get the same towers."""
    groups: dict[frozenset[str], tuple[tuple[str, ...], set[str]]] = {}
    for inputs, outputs in ends:
        split = tuple(ref for ref in inputs if states[ref].kind == "rows")
        wrong = next((ref for ref in inputs if states[ref].kind == "other"), None)
        if wrong is not None:
            raise NotSplitError(f"no two towers: {states[wrong].reason}")
        wanted = {ref for ref in outputs if ref not in inputs and states[ref].kind != "whole"}
        for ref in sorted(wanted):
            _refuse_mixing(ref, states[ref])
        if not split:
            raise NotSplitError(f"no two towers: no input of {', '.join(inputs) or 'the signature'} has a batch of any "
                                "size as its first axis")
        groups.setdefault(frozenset(split), (split, set()))[1].update(wanted)
    used = [ref for split in groups for ref in split]
    twice = next((ref for ref in used if used.count(ref) > 1), None)
    if twice is not None:
        raise NotSplitError(f"no two towers: the input '{twice}' is fed together with different others")
    found = [group for group in groups.values() if group[1]]
    for split, wanted in found:
        _refuse_strangers(split, [states[ref] for ref in wanted])
    return found


def _refuse_strangers(inputs: Sequence[str], outputs: Sequence[State]) -> None:
    """Inputs that never come together may have batches of different sizes, and the towers take only equal ones."""
    met = set(inputs[:1])
    while more := next((one.sources - met for one in outputs if one.sources & met and one.sources - met), None):
        met |= more
    alone = next((ref for ref in inputs if ref not in met), None)
    if alone is not None:
        raise NotSplitError(f"no two towers: '{inputs[0]}' and '{alone}' never come together, so their batches may "
                            "differ")


def _refuse_mixing(ref: str, state: State) -> None:
    if state.kind == "other":
        raise NotSplitError(f"no two towers: {state.reason}")
    if state.kind != "rows" or state.block != 1:
        raise NotSplitError(f"no two towers: the output '{ref}' does not have one row per example")


@dataclass
class _Draft:
    graph: Graph
    states: dict[str, State]
    nodes: dict[str, Node]
    replaced: set[str] = field(default_factory=set)

    def split(self, inputs: Sequence[str], outputs: set[str]) -> None:
        """Two copies of what lies between the inputs and the outputs, and the outputs put together again."""
        between = self._between(inputs, outputs)
        first, second, split = self._halves(inputs)
        towers = [self._tower(between, dict(zip(inputs, half, strict=True)), f"tower_{number}")
                  for number, half in ((1, first), (2, second))]
        for name in dict.fromkeys(producer(ref) for ref in sorted(outputs)):
            self._join(name, [tower[name] for tower in towers], split)
        self.replaced.update(between)

    def _between(self, inputs: Sequence[str], outputs: set[str]) -> list[str]:
        """The nodes that depend on the number or the values of examples, in order."""
        graph = self.graph
        needed = graph.reachable(map(producer, outputs), stop=graph.fed)
        found: list[str] = []
        inside: set[str] = set()
        for item in graph.order():
            if item.name not in needed or item.name in graph.fed:
                continue
            controls = [producer(ref) for ref in item.controls]
            if any(producer(ref) in inside or producer(ref) in graph.fed for ref in item.inputs):
                waits = next((name for name in controls if name in inside or name in graph.fed), None)
                if waits is not None:
                    raise NotSplitError(f"no two towers: '{item.name}' ({item.op}) waits for '{waits}'")
                if any(self.states[ref].kind != "whole" for ref in item.data):
                    inside.add(item.name)
                    found.append(item.name)
        return found

    def _halves(self, inputs: Sequence[str]) -> tuple[list[str], list[str], str]:
        """For each input its rows of the first and of the second tower, and whether the batch is split."""
        like = producer(inputs[0])

        def add(op: str, *data: object, **attrs: Any) -> str:
            return self._add(f"{like}/towers/{op}", op, tuple(
                one if isinstance(one, str) else self._const(f"{like}/towers/const", one) for one in data), **attrs)
        shape = add("Shape", inputs[0], T=self._dtype(inputs[0]), out_type=INT32)
        rows = add("StridedSlice", shape, [0], [1], [1], T=INT32, Index=INT32, shrink_axis_mask=1)
        split = add("GreaterEqual", rows, _SMALLEST, T=INT32)
        half = add("FloorDiv", rows, 2, T=INT32)
        # The second tower has half of the rows, or none: then what it computes is "dead", and costs nothing.
        zero_or_half = add("Mul", half, add("Cast", split, SrcT=BOOL, DstT=INT32), T=INT32)
        sizes = add("Pack", add("Sub", rows, zero_or_half, T=INT32), zero_or_half, N=2, T=INT32, axis=0)
        first, second = [], []
        for ref in inputs:
            both = add("SplitV", ref, sizes, 0, T=self._dtype(ref), Tlen=INT32, num_split=2)
            first.append(both)
            there = add("Switch", f"{both}:1", split, T=self._dtype(ref))
            # TensorFlow's optimizer makes new constants wait for what is read here; behind a Switch they would be dead.
            second.append(add("Identity", f"{there}:1", T=self._dtype(ref)))
        return first, second, split

    def _tower(self, between: Sequence[str], fed: dict[str, str], prefix: str) -> dict[str, str]:
        """A copy of the nodes that reads `fed` instead of the inputs: old name -> new name."""
        names = {name: self._unused(f"{prefix}/{name}") for name in between}

        def ref(old: str) -> str:
            if old[0] != "^" and normal(old) in fed:
                return fed[normal(old)]
            return tensor_name(names[producer(old)], port(old)) if old[0] != "^" and producer(old) in names else old
        for name in between:
            item = self.graph.nodes[name]
            self.nodes[names[name]] = replace(item, name=names[name], inputs=tuple(map(ref, item.inputs)))
        return names

    def _join(self, name: str, parts: Sequence[str], split: str) -> None:
        """Puts the node `name` in place of both towers' copies of it."""
        dtypes = output_dtypes(self.graph.nodes[name], self.graph.library) or []
        refs = []
        for output, dtype in enumerate(dtypes):
            first, second = (tensor_name(part, output) for part in parts)
            if self.states[tensor_name(name, output)].kind != "rows":
                refs.append(first)  # what the towers have in common
                continue
            alone, there = (f"{name}/towers/{what}" for what in ("whole", "joined"))
            side = self._add(alone, "Switch", (first, split), T=dtype)
            half = self._add(f"{name}/towers/half", "Identity", (f"{side}:1",), T=dtype)
            both = self._add(there, "ConcatV2", (half, second, self._const(f"{name}/towers/axis", 0)), N=2,
                             T=dtype, Tidx=INT32)
            refs.append(self._add(f"{name}/towers/merged", "Merge", (side, both), T=dtype, N=2))
        device = self.graph.nodes[name].device
        self.nodes[name] = make_node(name, "Identity", refs, device, T=dtypes[0]) if len(refs) == 1 else make_node(
            name, "IdentityN", refs, device, T=list(dtypes))

    def result(self) -> Graph:
        """Without the nodes that only the towers' copies are needed of."""
        made = self.graph.with_nodes(self.nodes.values())
        needed = made.reachable(made.kept)
        return made.with_nodes(item for item in self.nodes.values() if item.name in needed or (
            item.name not in self.replaced))

    def _dtype(self, ref: str) -> DType:
        return (output_dtypes(self.graph.nodes[producer(ref)], self.graph.library) or [])[port(ref)]

    def _add(self, name: str, op: str, inputs: Sequence[str], **attrs: Any) -> str:
        name = self._unused(name)
        self.nodes[name] = make_node(name, op, inputs, **attrs)
        return name

    def _const(self, name: str, value: object) -> str:
        name = self._unused(name)
        self.nodes[name] = make_const(name, np.asarray(value, np.int32))
        return name

    def _unused(self, name: str) -> str:
        return next(one for one in chain([name], (f"{name}_{number}" for number in count(1))) if one not in self.nodes)
