"""The nodes that a request to one signature of a SavedModel may run, and their effects other than computing."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from export import effects
from export.effects import Effect, Find
from export.node import Node, from_node_def, normal, producer
from export.parts import parts
from export.saved_model import SavedModel


def effects_of(model: SavedModel, key: str) -> list[Effect]:
    """The effects, each once, that a request to the signature may have, in all functions that it reaches."""
    return list(dict.fromkeys(
        Effect(item.op, item.name, reason) for item, find in nodes_of(model, key)
        if (reason := effects.of_node(item, find) or _reads_a_file(item, find, model)) is not None))


def _reads_a_file(item: Node, find: Find, model: SavedModel) -> str | None:
    """The effect of a table that is filled from a file during a request; None if it is one of the model's assets."""
    if item.op not in effects.FROM_TEXT_FILE:
        return None
    source = find(item.data[1])
    while source is not None and source.op == "Identity":
        source = find(source.inputs[0])
    assets = {producer(normal(one.tensor_info.name)) for one in model.assets}
    # In a function's body the file's name is an argument: if the model has assets, it is assumed to be one of them.
    return None if (source is None and assets) or (source is not None and source.name in assets) else effects.FILES


def nodes_of(model: SavedModel, key: str) -> Iterator[tuple[Node, Find]]:
    """Every node that a request to the signature may run: those its outputs need, up to the fed ones, and functions'.

    All nodes of a function's body count, since nodes with an effect run there even if no output needs them.
    """
    graph_def = model.meta_graph.graph_def
    signature = model.signatures[key]
    fed, roots = ({producer(normal(name)) for info in side.values() for name in parts("", info).values()}
                  for side in (signature.inputs, signature.outputs))
    protos = {proto.name: proto for proto in graph_def.node}
    library = {function.signature.name: function for function in graph_def.library.function}
    todo, seen, called = list(roots), set(fed), []
    while todo:
        name = todo.pop()
        if name in seen or name not in protos:
            continue
        seen.add(name)
        todo += [producer(normal(ref)) for ref in protos[name].input]
        called += [protos[name].op, *effects.functions_of(protos[name].attr)]
        yield from_node_def(protos[name]), _finder(protos)
    done: set[str] = set()
    while called:
        function = called.pop()
        if function in done or function not in library:
            continue
        done.add(function)
        body = {proto.name: proto for proto in library[function].node_def}
        for proto in body.values():
            called += [proto.op, *effects.functions_of(proto.attr)]
            yield from_node_def(proto), _finder(body)


def _finder(protos: Mapping[str, Any]) -> Find:
    def find(ref: str) -> Node | None:
        name = ref.lstrip("^").split(":")[0]
        return from_node_def(protos[name]) if name in protos else None
    return find
