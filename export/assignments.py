"""Which variables may running a graph change, and by what?

A variable's handle is followed from where it is made, through calls, branches and loops, to where it is used. An op
that is not known to only read a variable counts as assigning it.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from export.functions import definitions, to_graph
from export.graph import Graph, Node, producer, tensor_name
from export.ops import op_def
from export.variables import LOOPS, READS, REFERENCES, called_by, identity, is_variable, passed_on

if TYPE_CHECKING:
    from tensorflow.core.framework.function_pb2 import FunctionDef


def assigned(graph: Graph, roots: Iterable[tuple[str, frozenset[str]]]) -> dict[str, str]:
    """The variables that running the graph may change, each with the node that may.

    `roots` are pairs: a node to run, and the nodes that are fed in that run.
    """
    flow = _Flow(definitions(graph.library))
    executed: set[str] = set()
    for name, fed in roots:
        executed |= graph.reachable([name], stop=fed)
    # A fed node that no other root runs is in `executed`, but the nodes it reads are not.
    nodes = {name: item if all(producer(ref) in executed for ref in item.inputs) else item.with_inputs(())
             for name, item in graph.nodes.items() if name in executed}
    flow.walk(replace(graph, nodes=nodes, inputs=(), outputs=()), {})
    return flow.found


class _Flow:  # decision 21
    """Follows variables from where they are made to where they are used."""

    def __init__(self, library: Mapping[str, FunctionDef]) -> None:
        self.library = library
        self.found: dict[str, str] = {}
        self.bodies: dict[str, Graph] = {}
        self.seen: dict[tuple[str, tuple[str | None, ...]], tuple[str | None, ...]] = {}

    def walk(self, graph: Graph, arguments: Mapping[str, str]) -> tuple[str | None, ...]:
        """Visits every node; `arguments` says which arguments are variables. Returns which outputs are."""
        at = dict(arguments)
        references: set[str] = set()
        for item in graph.order():
            if is_variable(item):
                at[item.name] = identity(item)
                if item.op in REFERENCES:
                    references.add(item.name)
            held = {index: at[ref] for index, ref in enumerate(item.data) if ref in at}
            if not held or item.op in READS:
                continue
            by_reference = _reference_inputs(item) if any(ref in references for ref in item.data) else set()
            functions, first = called_by(item, self.library)
            if functions:
                self.call(item, functions, first, at)
                continue
            for index, variable in held.items():
                reference = item.data[index] in references
                if reference and index not in by_reference:
                    continue  # this op only reads the variable's value
                passed = passed_on(item, index)
                if passed is None:
                    self.found.setdefault(variable, f"{item.op} '{item.name}'")
                    continue
                for ref in passed:
                    if at.setdefault(ref, variable) != variable:
                        self.mixed(item, variable, at[ref])
                    if reference:
                        references.add(ref)
        for item in graph.nodes.values():
            # In this order Merge precedes the NextIteration that closes its loop, so a loop's variables are added now.
            if item.op in ("NextIteration", "RefNextIteration") and item.name in at:
                for reader in graph.consumers.get(item.name, ()):
                    if at.get(reader, at[item.name]) != at[item.name]:
                        self.mixed(item, at[item.name], at[reader])
        return tuple(at.get(ref) for ref in graph.outputs)

    def call(self, item: Node, functions: list[str], first: int, at: dict[str, str]) -> None:
        arguments = tuple(at.get(ref) for ref in item.data[first:])
        for name in functions:
            results = self.function(name, arguments)
            if item.op in LOOPS and name == functions[0]:
                continue  # a loop's condition returns a boolean
            for index, variable in enumerate(results):
                ref = tensor_name(item.name, index)
                if variable is not None and at.setdefault(ref, variable) != variable:
                    self.mixed(item, variable, at[ref])
            if item.op in LOOPS:
                for before, after in zip(arguments, results, strict=True):
                    if before != after:
                        self.mixed(item, *(one for one in (before, after) if one is not None))

    def function(self, name: str, arguments: tuple[str | None, ...]) -> tuple[str | None, ...]:
        key = (name, arguments)
        if key not in self.seen:
            if name not in self.bodies:
                self.bodies[name] = to_graph(self.library[name], self.library)
            body = self.bodies[name]
            self.seen[key] = (None,) * len(body.outputs)  # the result for a recursive call
            held = {ref: one for ref, one in zip(body.inputs, arguments, strict=True) if one is not None}
            self.seen[key] = self.walk(body, held)
        return self.seen[key]

    def mixed(self, item: Node, *variables: str) -> None:
        """For a handle that is one of several variables, depending on values: all of them stay variables."""
        for variable in variables:
            self.found.setdefault(variable, f"{item.op} '{item.name}', which chooses between variables")


def _reference_inputs(item: Node) -> set[int]:
    """The inputs that an op takes by reference and may therefore write to."""
    definition, index = op_def(item.op), 0
    found: set[int] = set()
    if definition is None:
        return set(range(len(item.data)))
    for arg in definition.input_arg:
        count = item.get(arg.number_attr) if arg.number_attr else 1
        if arg.type_list_attr:
            count = len(item.get(arg.type_list_attr, []))
        if arg.is_ref:
            found.update(range(index, index + count))
        index += count
    return found
