"""The part of a SavedModel that serves: the nodes its signatures reach, with functions inlined. Nothing is loaded."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from export import pipeline
from export.freeze import tensor_names
from export.graph import Graph, Node, normal, port, producer
from export.graph_file import library_of
from export.saved_model import SavedModel

_SHAPES_ONLY = ("Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike")


def served_graph(model: SavedModel) -> Graph:
    """The nodes that the signatures and the initialiser need; `outputs` are the tensors they name.

    Bodies of While, If and Case stay functions, in `bodies`.
    """
    graph = Graph.from_graph_def(model.meta_graph.graph_def)
    ends: list[list[str]] = []
    for side in ("inputs", "outputs"):
        refs = [normal(name) for signature in model.signatures.values()
                for info in getattr(signature, side).values() for name in tensor_names(info)]
        ends.append([ref for ref in dict.fromkeys(refs) if producer(ref) in graph.nodes])
    roots = dict.fromkeys([*ends[1], *((model.init_op,) if model.init_op in graph.nodes else ())])
    kept = tuple(dict.fromkeys([*ends[0], *roots]))
    needed = graph.reachable(map(producer, kept))
    graph = replace(graph.with_nodes(item for item in graph.nodes.values() if item.name in needed), outputs=kept)
    graph, _ = pipeline.run(replace(graph, library=library_of(graph)), "inline_partitionedcall")
    needed = graph.reachable(graph.kept)
    graph = replace(graph.with_nodes(item for item in graph.nodes.values() if item.name in needed),
                    inputs=tuple(ends[0]), outputs=tuple(roots))
    left = {function.signature.name for function in library_of(graph).function}
    return replace(graph, bodies={name: body for name, body in graph.bodies.items() if name in left})


def depends_on_values(graph: Graph, signature: Any) -> bool:
    """Whether an output of a SignatureDef may depend on the values of its inputs, not only on their shapes."""
    fed = {producer(normal(name)) for info in signature.inputs.values() for name in tensor_names(info)}
    shapes = frozenset(item.name for item in graph.nodes.values() if item.op in _SHAPES_ONLY)
    ends = {producer(normal(name)) for info in signature.outputs.values() for name in tensor_names(info)}
    return bool(fed & graph.reachable(ends, stop=shapes | frozenset(fed)))


def softmax_outputs(graph: Graph, signature: Any) -> list[str]:
    """The outputs of a SignatureDef that are a softmax."""
    found = []
    for key, info in signature.outputs.items():
        ref = normal(info.name)
        while ref and graph.nodes[producer(ref)].op in ("Identity", "IdentityN"):
            ref = graph.nodes[producer(ref)].data[port(ref)]
        if ref and graph.nodes[producer(ref)].op == "Softmax":
            found.append(key)
    return found


def node_count(model: SavedModel) -> int:
    """The number of nodes that the signatures and the initialiser reach, functions inlined, each loop or branch once.

    `optimize`, `describe` and manifests all use this count.
    """
    return sum(1 for _ in all_nodes(served_graph(model)))


def all_nodes(graph: Graph) -> Iterator[Node]:
    """The graph's nodes and those of its functions' bodies."""
    yield from graph.nodes.values()
    for body in graph.bodies.values():
        yield from (item for item in body.nodes.values() if item.op != "_Arg")
