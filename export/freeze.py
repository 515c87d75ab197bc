"""SavedModel -> frozen graph: variables become constants, functions are inlined, tables and control flow stay.

    frozen = freeze(saved_model.read("models/mnist/original"))

All signatures are frozen into one graph, so that nodes they share exist once. Every tensor that a signature names keeps
its name.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from commandline import json_option
from export import branches, pipeline, saved_model, tables, variable_values, variables
from export.assignments import assigned
from export.graph import COLOCATION, Graph, Node, make_attr, make_node, normal, port, producer, tensor_name
from export.graph_file import library_of, served, write_graph_def
from export.ops import PLACEHOLDERS, is_stateful, output_dtypes
from export.options import path_given, signatures_option, tags_option
from export.saved_model import SavedModel
from export.shapes import shapes_may_be_unknown
from export.sources import Source, checkpoint_option, inputs_option, outputs_option, source_argument
from export.stages import Stages
from export.tensors import Array, to_proto
from user_error import UserError
from whole_file import refuse_unwritable, write_json

INIT_OP = "saved_model_init_op"
_SETS = ("AssignVariableOp", "Assign ")
# A value too large for a protobuf message stays a variable; half that size leaves memory for copies.
_BIGGEST_CONSTANT = 1 << 30


@dataclass(frozen=True)
class Frozen:
    """A graph whose `inputs` and `outputs` are the tensors of signatures and assets, and the initialiser.

    `variables`: by identity, the values of variables that stay variables; `kept`: the node that may assign each.
    """

    graph: Graph
    signatures: Mapping[str, Any]
    assets: Sequence[Any] = ()
    init_op: str | None = None
    variables: Mapping[str, Array] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)


def freeze(model: SavedModel, signatures: Sequence[str] | None = None) -> Frozen:
    """Freezes these signatures (default: all). Raises UserError for a model that does not load."""
    wanted = saved_model.chosen(model, signatures)
    graph = _without_colocation(Graph.from_graph_def(model.meta_graph.graph_def))
    ends = _all_ends(wanted, graph)
    graph = _cut(graph, _fed_shapes(wanted.values(), graph), _served(graph, ends.roots))
    graph = branches.settle(replace(graph, inputs=ends.inputs, outputs=ends.outputs))
    served = _served(graph, ends.roots)
    graph, loading = _loading(model, graph, served, ends)
    assignments = _assignments(graph, ends, loading)
    graph = _needed(graph, ends, loading, assignments.kept)
    constants, staying, filled = _read(model, graph, assignments.kept, served)
    staying = {name: value for name, value in staying.items() if name not in assignments.reset}
    graph, init_op = tables.with_contents(graph, loading.init_op, filled, INIT_OP)
    graph, init_op = _initialiser_that_was_there(model, graph, init_op)
    assets = [asset for asset in loading.assets if producer(asset.tensor_info.name) in graph.nodes]
    graph = variables.freeze(_with_ends(graph, ends, assets, init_op), constants)
    return Frozen(_inlined(graph), wanted, assets, init_op, staying, assignments.kept)


@dataclass(frozen=True)
class _Ends:
    """The tensors that the signatures feed and fetch; `roots`: each fetched node with the nodes fed in its request."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    roots: list[tuple[str, frozenset[str]]]


@dataclass(frozen=True)
class _Loading:
    """What loading the model runs: the initialiser, and the assets, whose paths are fed to the graph."""

    init_op: str | None
    assets: list[Any]

    @property
    def asset_nodes(self) -> frozenset[str]:
        return frozenset(producer(asset.tensor_info.name) for asset in self.assets)

    @property
    def roots(self) -> list[tuple[str, frozenset[str]]]:
        return [(self.init_op, self.asset_nodes)] if self.init_op else []


@dataclass(frozen=True)
class _Assignments:
    """Variables by identity: `kept` maps each assigned one to the node that may assign it; `reset`: set by loading."""

    kept: dict[str, str]
    reset: set[str]


def changed_by(model: SavedModel, key: str) -> dict[str, str]:
    """The variables that answering the signature `key` may change, each with the node that may."""
    graph = Graph.from_graph_def(model.meta_graph.graph_def)
    return assigned(graph, _all_ends({key: model.signatures[key]}, graph).roots)


def _without_colocation(graph: Graph) -> Graph:
    return graph.with_nodes(item.with_attrs(without=(COLOCATION,)) if COLOCATION in item.attrs else item
                            for item in graph.nodes.values())


def _all_ends(signatures: Mapping[str, Any], graph: Graph) -> _Ends:
    ends = [_ends(name, signature, graph) for name, signature in signatures.items()]
    return _Ends(tuple(dict.fromkeys(ref for fed, _ in ends for ref in fed)),
                 tuple(dict.fromkeys(ref for _, fetched in ends for ref in fetched)),
                 [(producer(ref), frozenset(map(producer, fed))) for fed, fetched in ends for ref in fetched])


def _loading(model: SavedModel, graph: Graph, served: set[str], ends: _Ends) -> tuple[Graph, _Loading]:
    """The graph with an initialiser only for resources that are served and may change, and what loading then runs."""
    assets = [asset for asset in model.assets if producer(asset.tensor_info.name) in graph.nodes]
    asset_nodes = _Loading(None, assets).asset_nodes
    graph, init_op = _initialiser(graph, model.init_op, served, asset_nodes)
    graph = _without_fixed_values(graph, init_op, assigned(graph, ends.roots), asset_nodes)
    return graph, _Loading(init_op, assets)


def _without_fixed_values(graph: Graph, init_op: str | None, changing: Mapping[str, str],
                          assets: frozenset[str]) -> Graph:
    """The graph whose initialiser no longer sets variables that are the same after each load and never change later.

    Such a variable becomes a constant with its value after loading. A variable that is set from the path of an asset,
    or from a node with state, is still set at each load, since its value may differ.
    """
    root = graph.nodes.get(init_op or "")
    if root is None or root.op != "NoOp":
        return graph

    def fixed(control: str) -> bool:
        item = graph.nodes[producer(control[1:])]
        if item.op not in ("Assign", "AssignVariableOp") or item.data[0] not in graph.nodes:
            return False
        variable = graph.nodes[item.data[0]]
        value = graph.reachable(map(producer, item.data[1:]))
        return (variables.is_variable(variable) and variables.identity(variable) not in changing
                and not value & assets and not any(is_stateful(graph.nodes[name]) for name in value))
    controls = [control for control in root.controls if not fixed(control)]
    return replace(graph, nodes={**graph.nodes, root.name: root.with_inputs(controls)})


def _assignments(graph: Graph, ends: _Ends, loading: _Loading) -> _Assignments:
    kept = assigned(graph, ends.roots)
    at_load = assigned(graph, loading.roots) if loading.roots else {}
    # A value that each load sets, such as the path of an asset, is not part of the checkpoint.
    reset = {name for name, by in at_load.items() if by.startswith(_SETS) and name not in kept}
    return _Assignments({**at_load, **kept}, reset)


def _needed(graph: Graph, ends: _Ends, loading: _Loading, kept: Mapping[str, str]) -> Graph:
    """The nodes that answering and loading run, the fed nodes, and the variables that stay."""
    roots = [name for name, _ in (*ends.roots, *loading.roots)]
    needed = graph.reachable(roots + [producer(ref) for ref in ends.inputs])
    needed |= {item.name for item in graph.nodes.values()
               if variables.is_variable(item) and variables.identity(item) in kept}
    return graph.with_nodes(item for name, item in graph.nodes.items() if name in needed)


def _initialiser_that_was_there(model: SavedModel, graph: Graph, init_op: str | None) -> tuple[Graph, str | None]:
    """If the model had an initialiser and none is left, an empty one, since the signature map lists one."""
    if init_op is None and saved_model.INIT_SIGNATURE in model.meta_graph.signature_def:
        return graph.with_nodes([*graph.nodes.values(), make_node(INIT_OP, "NoOp")]), INIT_OP
    return graph, init_op


def _with_ends(graph: Graph, ends: _Ends, assets: Iterable[Any], init_op: str | None) -> Graph:
    return replace(graph, inputs=ends.inputs, outputs=(
        *ends.outputs, *(normal(asset.tensor_info.name) for asset in assets), *((init_op,) if init_op else ())))


def _inlined(graph: Graph) -> Graph:
    """The graph with its functions inlined, without nodes that are then unused."""
    graph, _ = pipeline.run(graph, "inline_partitionedcall join_by_rows join_lstm")
    needed = graph.reachable(graph.kept)
    graph = graph.with_nodes(item for name, item in graph.nodes.items() if name in needed)
    return replace(graph, library=library_of(graph), bodies={})


def tensor_names(info: Any) -> list[str]:
    """The tensors that a TensorInfo stands for: one, or the parts of a sparse or composite tensor."""
    kind = info.WhichOneof("encoding")
    if kind == "coo_sparse":
        sparse = info.coo_sparse
        return [sparse.values_tensor_name, sparse.indices_tensor_name, sparse.dense_shape_tensor_name]
    if kind == "composite_tensor":
        return [name for part in info.composite_tensor.components for name in tensor_names(part)]
    return [info.name]


def _ends(key: str, signature: Any, graph: Graph) -> tuple[list[str], list[str]]:
    """The tensors that a signature feeds and those it fetches."""
    sides = []
    for infos in (signature.inputs, signature.outputs):
        refs = [normal(name) for info in infos.values() for name in tensor_names(info)]
        for ref in refs:
            if producer(ref) not in graph.nodes:
                raise UserError(f"signature '{key}' names the tensor '{ref}', which is not in its graph")
        sides.append(refs)
    return sides[0], sides[1]


def _served(graph: Graph, roots: Iterable[tuple[str, frozenset[str]]]) -> set[str]:
    """The nodes that requests run: those that each root needs, up to the nodes fed with it."""
    served: set[str] = set()
    for name, fed in roots:
        served |= graph.reachable([name], stop=fed) - fed | {name}
    return served


def _fed_shapes(signatures: Iterable[Any], graph: Graph) -> dict[str, Any]:
    """The tensors that signatures feed, each with the shape (an AttrValue) in the first signature that feeds it.

    If a signature contradicts the shape that the graph computes for a tensor, the computed shape is used.
    """
    found: dict[str, Any] = {}
    for signature in signatures:
        for info in signature.inputs.values():
            for name in tensor_names(info):
                shape = make_attr(())
                shape.shape.CopyFrom(info.tensor_shape)
                if info.WhichOneof("encoding") != "name":
                    shape.shape.unknown_rank = True
                elif graph.nodes[producer(name)].op not in PLACEHOLDERS:
                    _correct(shape.shape, graph.shapes.get(normal(name)), shapes_may_be_unknown(graph.versions))
                found.setdefault(normal(name), shape)
    return found


def _correct(shape: Any, computed: tuple[int | None, ...] | None, empty_is_unknown: bool) -> None:
    """Replaces a signature's shape by the computed one if it is unknown or contradicts that."""
    said = None if shape.unknown_rank or (empty_is_unknown and not shape.dim) else [dim.size for dim in shape.dim]
    if said is not None and computed is None:
        return
    if said is not None and computed is not None and len(said) == len(computed) and not any(
            b is not None and a not in (-1, b) for a, b in zip(said, computed, strict=True)):
        return
    shape.Clear()
    if computed is None:
        shape.unknown_rank = True
    for size in computed or ():
        shape.dim.add(size=-1 if size is None else size)


def _cut(graph: Graph, shapes: Mapping[str, Any], served: set[str]) -> Graph:
    """Makes placeholders of the nodes that signatures feed, and of no others.

    For a node that is always fed, the nodes before it are dropped (a training graph's input pipeline); a node that
    another signature computes keeps the computed value as its default. A client can feed only tensors that a signature
    names, so any other PlaceholderWithDefault always has its default value.
    """
    fed: dict[str, list[int]] = {}
    for ref in shapes:
        fed.setdefault(producer(ref), []).append(port(ref))
    nodes: list[Node] = []
    for item in graph.nodes.values():
        if item.op == "PlaceholderWithDefault" and item.name not in fed:
            item = Node(item.name, "Identity", item.inputs, {"T": item.attrs["dtype"]}, item.device)
        if item.name in fed and item.op not in PLACEHOLDERS:
            nodes.extend(_placeholders(item, max(fed[item.name]), shapes, computed=item.name in served))
        else:
            nodes.append(item)
    return graph.with_nodes(nodes)


def _placeholders(item: Node, last: int, shapes: Mapping[str, Any], computed: bool) -> list[Node]:
    """Placeholders for a node's outputs, under its name."""
    dtypes = output_dtypes(item)
    assert dtypes is not None
    source = replace(item, name=f"{item.name}/computed")  # decision 23
    count = len(dtypes) if computed else last + 1

    def placeholder(name: str, index: int) -> Node:
        unknown = make_attr(())
        unknown.shape.unknown_rank = True
        shape = shapes.get(tensor_name(item.name, index), unknown)
        if computed:
            return make_node(name, "PlaceholderWithDefault", (tensor_name(source.name, index),), dtype=dtypes[index],
                             shape=shape)
        return make_node(name, "Placeholder", dtype=dtypes[index], shape=shape)
    before = [source] if computed else []
    if len(dtypes) == 1:
        return [*before, placeholder(item.name, 0)]
    parts = [placeholder(f"{item.name}/fed_{index}", index) for index in range(count)]
    return [*before, *parts, make_node(item.name, "IdentityN", (part.name for part in parts), T=dtypes[:count])]


def _initialiser(graph: Graph, init_op: str | None, served: set[str],
                 assets: frozenset[str]) -> tuple[Graph, str | None]:
    """The initialiser without the parts for resources that are not served; None if nothing remains."""
    if init_op is None or init_op not in graph.nodes:
        return graph, None

    def resources(name: str) -> set[str]:
        return {one for one in graph.reachable([name]) if is_stateful(graph.nodes[one]) and not graph.nodes[one].data}

    def wanted(name: str) -> bool:
        touched = resources(name) - assets
        return not touched or bool(touched & served)

    def leaves(name: str) -> Iterator[str]:
        item = graph.nodes[name]
        if item.op != "NoOp":
            yield name
        for ref in item.controls if item.op == "NoOp" else ():
            yield from leaves(ref[1:])

    root = graph.nodes[init_op]
    if root.op != "NoOp":
        return graph, init_op
    controls = dict.fromkeys(f"^{name}" for name in leaves(init_op) if wanted(name))
    nodes = {**graph.nodes, init_op: root.with_inputs(controls)}
    return replace(graph, nodes=nodes), init_op


def _read(model: SavedModel, graph: Graph, kept: Mapping[str, str],
          served: set[str]) -> tuple[dict[str, Any], dict[str, Array], dict[str, tables.Contents]]:
    """From the loaded model: values to freeze, values of variables that stay, contents of restored tables."""
    frozen: dict[str, Any] = {}
    staying: dict[str, Array] = {}
    with saved_model.session(model) as running:
        for name, value in variable_values.read(running, graph):
            if name in kept or value.nbytes > _BIGGEST_CONSTANT:
                staying[name] = value
            else:
                frozen[name] = make_attr(to_proto(value))
        filled = tables.read(running, graph)
    return frozen, staying, filled


@click.command()
@source_argument
@click.option("--out", required=True, type=click.Path(dir_okay=False), callback=path_given,
              help="The GraphDef file to write; text if it ends in .pbtxt.")
@signatures_option
@tags_option
@json_option
@checkpoint_option
@inputs_option
@outputs_option
def command(source: str | None, out: Path, signatures: list[str] | None, tags: tuple[str, ...],
            checkpoint: str | None, inputs: str | None, outputs: str | None, json_path: str | None) -> None:
    """Freeze the model SRC into one GraphDef: a SavedModel (a version, or a base path: its newest), or what `optimize`
    takes as well.

    Variables become constants, functions are inlined; tables, control flow and the names of the signatures' tensors
    stay. A variable that requests may change stays a variable: `reconvert --like SRC` takes its value from SRC.

    \b
    Examples:
      python -m export freeze models/mnist/original --out frozen.pb
      python -m export freeze models/translate/3 --signatures serving_default --out frozen.pbtxt
    """
    refuse_unwritable(out)
    given = Source.of(source, checkpoint, inputs, outputs)
    with given.saved_model(tags) as directory, Stages()(f"freeze {given.name}"):
        frozen = freeze(saved_model.read(directory, tags), signatures)
        write_graph_def(out, served(frozen.graph))
    for name, reason in frozen.kept.items():
        click.echo(f"'{name}' stays a variable, since {reason} may assign it", err=True)
    ends = {normal(ref) for pair in (_ends(key, one, frozen.graph) for key, one in frozen.signatures.items())
            for side in pair for ref in side}
    inputs = ",".join(ref for ref in frozen.graph.inputs if ref in ends)
    outputs = ",".join(frozen.graph.outputs)
    if json_path:
        write_json(json_path, {"path": str(out), "nodes": len(frozen.graph.nodes), "inputs": inputs, "outputs": outputs,
                               "variables_kept": dict(frozen.kept)})
    if json_path != "-":
        click.echo(f"{out}: {len(frozen.graph.nodes)} nodes\n--inputs {inputs!r} --outputs {outputs!r}")
