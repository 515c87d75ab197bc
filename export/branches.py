"""Removes branches that are never taken, such as those for training, before the variables are examined.

    cond(is_training=False, update, use) -> use

A v1 cond is Switch and Merge around each value: the nodes on the side not taken are dead, as the executor finds on
every run. A v2 cond (If, Case) becomes a call of the function that is taken.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from export.graph import BACK_EDGE_OPS, Graph, Node, make_const, port, producer
from export.tensors import BOOL, INT32

_SWITCHES = ("Switch", "RefSwitch")
_MERGES = ("Merge", "RefMerge")
_CHOICES = {"If": "StatefulPartitionedCall", "StatelessIf": "PartitionedCall",
            "Case": "StatefulPartitionedCall", "StatelessCase": "PartitionedCall"}


def settle(graph: Graph) -> Graph:
    """The graph without the branches that are never taken; all other nodes keep their names and values."""
    known = {item.name: value for item in graph.nodes.values()
             if item.op in (*_SWITCHES, *_CHOICES) and item.name not in graph.fed
             and (value := _constant(graph, item.data[1 if item.op in _SWITCHES else 0])) is not None}
    if not known:
        return graph
    dead = _Dead(graph, known)
    if any(dead(ref) for ref in graph.outputs):
        return graph  # an output that is never computed: a request for it gets the runtime's own error
    nodes: list[Node] = []
    settled: set[str] = set()
    for item in graph.nodes.values():
        alive = [(index, ref) for index, ref in enumerate(item.data) if not dead(ref)]
        if item.name in dead.nodes:
            continue
        if item.name in known:
            nodes.append(_decided(item, known[item.name]))
        elif item.op in _MERGES and len(alive) == 1 < len(item.data):
            settled.add(item.name)
            nodes += _merged(item, *alive[0])
        elif item.op in _MERGES and len(alive) < len(item.data):
            nodes.append(replace(item.with_attrs(N=len(alive)), inputs=(*(ref for _, ref in alive), *item.controls)))
        else:
            nodes.append(item)

    def moved(ref: str) -> str:
        if ref[0] == "^" or port(ref) != 1:
            return ref
        # A decided Switch has only its first output left; the second output of a settled Merge is a constant.
        name = producer(ref)
        return name if name in known and graph.nodes[name].op in _SWITCHES else (
            f"{name}/value_index" if name in settled else ref)
    return graph.with_nodes(item.with_inputs(map(moved, item.inputs)) for item in nodes)


def _constant(graph: Graph, ref: str) -> Any:
    """The value of a boolean or integer that depends on no input; None if it may depend on one."""
    item = graph.nodes[producer(ref)]
    if item.op == "Const":
        return item.value.item() if item.shape == () and item.get("dtype") in (BOOL, INT32) else None
    if item.name in graph.fed or item.op not in ("Identity", "LogicalNot", "LogicalAnd", "LogicalOr"):
        return None
    values = [_constant(graph, one) for one in item.data]
    decisive = {"LogicalAnd": False, "LogicalOr": True}.get(item.op)
    if decisive in values:
        return decisive
    if None in values:
        return None
    return {"Identity": values[0], "LogicalNot": not values[0]}.get(item.op, not decisive)


class _Dead:
    """What is never computed: all outputs of `nodes`, and the output not taken of each decided Switch."""

    def __init__(self, graph: Graph, known: Mapping[str, Any]) -> None:
        self.nodes: set[str] = set()
        self._outputs: set[str] = set()
        for item in graph.order():
            # The edge that closes a loop comes later in this order; a loop that is never entered is dead anyway.
            needed = [ref for ref in item.data if graph.nodes[producer(ref)].op not in BACK_EDGE_OPS] if (
                item.op in _MERGES) else list(item.inputs)
            if (all if item.op in _MERGES else any)(self(ref) for ref in needed):
                self.nodes.add(item.name)
            elif item.op in _SWITCHES and item.name in known:
                self._outputs.add(f"{item.name}:{0 if known[item.name] else 1}")

    def __call__(self, ref: str) -> bool:
        name = producer(ref)
        return name in self.nodes or (ref[0] != "^" and f"{name}:{port(ref)}" in self._outputs)


def _decided(item: Node, choice: int) -> Node:
    if item.op in _SWITCHES:
        return Node(item.name, "RefIdentity" if item.op == "RefSwitch" else "Identity",
                    (item.data[0], *item.controls), {"T": item.attrs["T"]}, item.device)
    if item.op.endswith("If"):
        function = item.attrs["then_branch" if choice else "else_branch"]
    else:
        branches = item.attrs["branches"].list.func
        function = type(item.attrs["branches"])()
        function.func.CopyFrom(branches[choice if 0 <= choice < len(branches) else -1])
    attrs = {"f": function, **{key: item.attrs[key] for key in ("Tin", "Tout")}}
    return Node(item.name, _CHOICES[item.op], (*item.data[1:], *item.controls), attrs, item.device)


def _merged(item: Node, index: int, ref: str) -> list[Node]:
    """The nodes for a Merge with one input left: it passes that on, and its second output is that input's index."""
    which = make_const(f"{item.name}/value_index", np.asarray(index, np.int32), (f"^{producer(ref)}",))
    op = "RefIdentity" if item.op == "RefMerge" else "Identity"
    return [which, Node(item.name, op, (ref, *item.controls), {"T": item.attrs["T"]}, item.device)]
