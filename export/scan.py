"""A SavedModel is a program: which of its operations touch files, the network or Python?

Searched are all nodes that can run: those that the signatures and the initialiser reach, in every MetaGraph and every
function, and those that restore the variables. A table initialised from one of the model's assets is not a finding.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import click

from commandline import json_option
from export import effects, saved_model
from export.functions import called, definitions, reachable
from export.graph import Graph, Node, from_node_def, normal, producer
from export.ops import op_def
from export.options import tags_option
from export.saved_model import SavedModel
from export.served import served_graph
from export.sources import Source, inputs_option, outputs_option
from user_error import FailedError
from whole_file import write_json

_RESTORING = ("RestoreV2", "Restore", "RestoreSlice", "MergeV2Checkpoints", "SaveV2", "Save", "SaveSlices")


@dataclass(frozen=True)
class Finding:
    op: str
    node: str
    reason: str
    tags: str


def scan(path: Path) -> list[Finding]:
    """The operations with which the SavedModel may do more than compute. Raises UserError if it cannot be read."""
    found: dict[Finding, None] = {}
    for model in saved_model.read_all(path):
        for op, name, reason in (*_served(model), *_restoring(model), *_assets(model)):
            found[Finding(op, name, reason, ",".join(model.tags))] = None
    return list(found)


def _served(model: SavedModel) -> Iterator[tuple[str, str, str]]:
    graph = served_graph(model)
    assets = {producer(normal(one.tensor_info.name)) for one in model.assets}
    left = definitions(graph.library)
    for name in reachable((one for item in graph.nodes.values() for one in (item.op, *called(item.attrs))), left):
        if name not in graph.bodies:
            yield from _in_bodies([left[name]], left)
    for item, find in _with_finder(graph):
        there = [one for ref in item.data[1:2] for one in _origins(graph, ref) if one in assets]
        yield from _judged(item, left, there, find)


def _with_finder(graph: Graph) -> Iterator[tuple[Node, effects.Find]]:
    for body in (graph, *graph.bodies.values()):
        for item in body.nodes.values():
            if item.op != "_Arg":
                yield item, partial(_found, body.nodes)


def _found(nodes: Mapping[str, Node], ref: str) -> Node | None:
    return nodes.get(ref.split(":")[0])


def _in_bodies(bodies: Iterable[Any], functions: Any, but: Sequence[str] = ()) -> Iterator[tuple[str, str, str]]:
    for function in bodies:
        nodes = {proto.name: from_node_def(proto) for proto in function.node_def}
        for item in nodes.values():
            if item.op not in but:
                yield from _judged(item, functions, (), partial(_found, nodes))


def _judged(item: Node, functions: Any, assets: Any, find: effects.Find) -> Iterator[tuple[str, str, str]]:
    reason = effects.of_node(item, find)
    if item.op in effects.FROM_TEXT_FILE:
        if not assets:
            yield item.op, item.name, "reads a file that is none of the model's assets"
    elif reason is not None:
        yield item.op, item.name, reason
    elif op_def(item.op) is None and item.op not in functions:
        yield item.op, item.name, "is no operation of TensorFlow's"


def _origins(graph: Graph, ref: str) -> Iterator[str]:
    item = graph.nodes.get(producer(ref))
    while item is not None and item.op == "Identity":
        item = graph.nodes.get(producer(item.inputs[0]))
    if item is not None:
        yield item.name


def _restoring(model: SavedModel) -> Iterator[tuple[str, str, str]]:
    """Findings in the nodes that restore the variables; they may read the model's own checkpoint."""
    names = [producer(name) for name in (model.meta_graph.saver_def.restore_op_name,) if name]
    graph = Graph.from_graph_def(model.meta_graph.graph_def)
    functions = definitions(graph.library)
    nodes = [graph.nodes[name] for name in graph.reachable(name for name in names if name in graph.nodes)]
    there = reachable((one for item in nodes for one in (item.op, *called(item.attrs))), functions)
    for item in nodes:
        if item.op not in _RESTORING:
            yield from _judged(item, functions, (), lambda ref: graph.nodes.get(producer(ref)))
    yield from _in_bodies((functions[name] for name in there), functions, but=_RESTORING)


def _assets(model: SavedModel) -> Iterator[tuple[str, str, str]]:
    for asset in model.assets:
        path = PurePosixPath(asset.filename)
        if path.is_absolute() or ".." in path.parts:
            yield "asset", asset.filename, "lies outside the model's assets directory"


@click.command()
@click.argument("path")
@click.option("--allow", metavar="OP,...", default="", help="Operations that this model may hold.")
@tags_option
@inputs_option
@outputs_option
@json_option
def command(path: str, allow: str, tags: tuple[str, ...], inputs: str | None, outputs: str | None,
            json_path: str | None) -> None:
    """List the operations of the model PATH that touch files, network or Python.

    PATH is a SavedModel, a Keras file, a checkpoint or a frozen graph, as `optimize` takes them.

    \b
    Examples:
      python -m export scan models/mnist/optimized
      python -m export scan models/captions/3 --allow ReadFile --json -
    """
    allowed = {name.strip() for name in allow.split(",")}
    with Source.found(path, inputs, outputs).saved_model(tags) as directory:
        found = scan(directory)
    refused = [one for one in found if one.op not in allowed]
    if json_path != "-":
        for one in found:
            click.echo(f"{one.op} '{one.node}' {one.reason}{' (allowed)' if one.op in allowed else ''}")
        if not found:
            click.echo(f"{path}: nothing touches files, network or Python")
    if json_path:
        write_json(json_path, {"path": str(path), "safe": not refused, "found": [
            {**asdict(one), "allowed": one.op in allowed} for one in found]})
    if refused:
        raise FailedError(f"{path} holds {len(refused)} operations that are not allowed, first {refused[0].op} "
                        f"'{refused[0].node}', which {refused[0].reason}; allow them with --allow, or do not serve it")
