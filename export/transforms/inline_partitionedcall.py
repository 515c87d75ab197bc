from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from export.functions import called, definitions, reachable
from export.graph import COLOCATION, Graph, Node, colocated, make_node, port, producer, tensor_name
from export.ops import CONTROL_FLOW, PLACEHOLDERS, is_pure, is_stateful, output_dtypes
from export.pattern import Skip
from export.transform import Arguments, Draft, Record, transform

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
COMPILED = ("_XlaMustCompile", "_XlaCompile")


@transform("inline_partitionedcall", bodies=False)
def inline_partitionedcall(graph: Graph, args: Arguments, record: Record) -> Graph:
    """PartitionedCall(x, f=F) -> the nodes of F, named "call/node".

    Calls within the bodies of While, If and Case are inlined too; those bodies stay functions. A requested output that
    is a call keeps its name as an IdentityN. An inlined function that nothing calls any more is removed from the
    library.

    Safe when: F is in the library, not recursive, its ops are known, and it is not marked to be compiled as one
      unit. Nodes of F with an effect still run before any node that reads the call's outputs, and after the nodes that
      the call waited for.
    Source: Graph Transform Tool, inline_partitionedcall (which dropped effects and control inputs).
    """
    inliner = _Inliner(graph, record)
    for name in graph.bodies:
        inliner.inlined(name)
    main = inliner.into(graph, "")
    return _without_unused(replace(main, bodies=inliner.done), inliner.used)


class _Inliner:
    def __init__(self, graph: Graph, record: Record) -> None:
        self.bodies, self.record = graph.bodies, record
        self.functions = definitions(graph.library)
        self.done: dict[str, Graph] = {}
        self.open: list[str] = []
        self.used: set[str] = set()

    def inlined(self, name: str) -> Graph | None:
        """A function's body with all calls in it inlined; None while the same function is being inlined (recursion)."""
        if name in self.open:
            return None
        if name not in self.done:
            self.open.append(name)
            self.done[name] = self.into(self.bodies[name], f"{name}/")
            self.open.pop()
        return self.done[name]

    def into(self, graph: Graph, prefix: str) -> Graph:
        draft = Draft(graph)
        branching = any(item.op in CONTROL_FLOW for item in graph.nodes.values())
        # Nodes that have no effect and wait for none: control inputs from them can be dropped.
        idle: set[str] = set()
        for item in graph.order():
            pure = is_pure(item) or item.op in PLACEHOLDERS
            if item.op in _CALLS:
                call = draft.nodes[item.name]
                call = call.with_inputs((*call.data, *(ref for ref in call.controls if producer(ref) not in idle)))
                try:
                    pure = self._call(draft, call, branching)
                    self.record.applied += 1
                except Skip as skip:
                    self.record.skip(prefix + item.name, skip.reason)
            if pure and all(producer(ref) in idle for ref in item.inputs):
                idle.add(item.name)
        return draft.result()

    def _call(self, draft: Draft, call: Node, branching: bool) -> bool:
        """Inlines one call; returns whether its function only computes. Raises Skip."""
        name = call.attrs["f"].func.name
        if call.name in draft.graph.fed:
            raise Skip("it is fed from outside")
        if name not in self.bodies:
            raise Skip(f"the body of function '{name}' is not in the library, or cannot be read")
        function = self.functions[name]
        if any(call.get(mark) or (mark in function.attr and function.attr[mark].b) for mark in COMPILED):
            raise Skip("it is marked to be compiled as one unit")
        if any(value.WhichOneof("value") == "placeholder"
               for item in self.bodies[name].nodes.values() for value in item.attrs.values()):
            raise Skip(f"function '{name}' is generic")
        body = self.inlined(name)
        if body is None:
            raise Skip(f"function '{name}' calls itself")
        if len(body.inputs) != len(call.data):
            raise Skip(f"it gives {len(call.data)} arguments to function '{name}', which takes {len(body.inputs)}")
        self.used.add(name)
        _insert(draft, call, body, function, branching)
        return all(is_pure(item) for item in body.nodes.values() if item.name not in body.fed)


def _insert(draft: Draft, call: Node, body: Graph, function: Any, branching: bool) -> None:
    """Replaces `call` by the nodes of `body`."""
    arguments = dict(zip(body.inputs, call.data, strict=True))
    names = {name: draft.unused_name(f"{call.name}/{name}") for name in body.nodes if name not in arguments}

    def outer(ref: str) -> str:
        name = producer(ref)
        if name in arguments:
            return f"^{producer(arguments[name])}" if ref[0] == "^" else arguments[name]
        return f"^{names[name]}" if ref[0] == "^" else tensor_name(names[name], port(ref))

    effects = _effects(body, function.control_ret.values())
    # In a v1 loop or branch a node without inputs would run outside of it, so it waits for one of the call's inputs.
    anchor = (f"^{producer(call.data[0])}",) if branching and call.data else ()
    for name, new in names.items():
        item = body.nodes[name]
        inputs = dict.fromkeys(map(outer, item.inputs))
        refs = [outer(ref) for ref in item.data] + [ref for ref in inputs if ref[0] == "^"]
        if not item.data and not item.controls:
            refs += anchor
        if not is_pure(item) and not _waits_for_another(item, body, effects):
            refs += call.controls
        item = replace(item, name=new, inputs=_unique_controls(refs), device=item.device or call.device)
        draft.put(colocated(item, lambda old: names.get(old)) if COLOCATION in item.attrs else item)
    results = [outer(ref) for ref in body.outputs]
    _connect(draft, call, results, [f"^{names[name]}" for name in effects])


def _connect(draft: Draft, call: Node, results: list[str], effects: list[str]) -> None:
    """Makes the call's readers read the body's results, after the body's effects."""
    kept = call.name in draft.kept
    # Readers wait for the effects; if there are none, they wait for the call's own control inputs.
    waits = tuple(effects) or call.controls
    dtypes = call.get("Tout", [])
    if kept or (waits and results):
        name = call.name if kept else draft.unused_name(f"{call.name}/results")
        op = ("IdentityN", {"T": dtypes}) if results else ("NoOp", {})
        joined = make_node(name, op[0], (*results, *waits), call.device, **op[1])
        if kept:
            draft.put(joined)
            return
        draft.put(joined)
        results = [tensor_name(name, index) for index in range(len(results))]
    targets = {tensor_name(call.name, index): ref for index, ref in enumerate(results)}
    for reader in list(draft.consumers.get(call.name, ())):
        item = draft.nodes[reader]
        refs = [targets.get(ref, ref) for ref in item.data]
        for ref in item.controls:
            refs += waits if producer(ref) == call.name else [ref]
        draft.put(item.with_inputs(_unique_controls(refs)))
    draft.drop(call.name)


def _effects(body: Graph, returned: Iterable[str]) -> list[str]:
    """The nodes of a body that must run even if nothing reads them."""
    found = {name: None for name in returned if name in body.nodes and not is_pure(body.nodes[name])}
    for item in body.nodes.values():
        if item.name not in body.fed and is_stateful(item) and not output_dtypes(item):
            found[item.name] = None
    return list(found)


def _waits_for_another(item: Node, body: Graph, effects: list[str]) -> bool:
    return any(producer(ref) in effects for ref in item.controls)


def _unique_controls(refs: Iterable[str]) -> tuple[str, ...]:
    refs = list(refs)
    return (*(ref for ref in refs if ref[0] != "^"), *dict.fromkeys(ref for ref in refs if ref[0] == "^"))


def _without_unused(graph: Graph, inlined: set[str]) -> Graph:
    """The graph without the inlined functions that nothing calls any more."""
    if not inlined:
        return graph
    from tensorflow.core.framework.function_pb2 import FunctionDefLibrary
    functions = definitions(graph.library)
    roots = {name for item in graph.nodes.values() for name in (item.op, *called(item.attrs))}
    roots |= {name for item in graph.library.gradient for name in (item.function_name, item.gradient_func)}
    roots |= set(functions) - inlined
    needed: set[str] = set()
    todo = [name for name in roots if name in functions]
    while todo:
        name = todo.pop()
        if name not in needed:
            needed.add(name)
            body = graph.bodies.get(name)
            todo += (reachable([name], functions) if body is None else
                     [other for item in body.nodes.values() for other in (item.op, *called(item.attrs))
                      if other in functions])
    library = FunctionDefLibrary(function=[functions[name] for name in functions if name in needed],
                                 gradient=graph.library.gradient)
    return replace(graph, library=library, bodies={name: graph.bodies[name] for name in graph.bodies if name in needed})
