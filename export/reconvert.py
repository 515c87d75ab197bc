"""GraphDef -> SavedModel: the graph gets signatures, assets and an initialiser again."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from commandline import json_option
from export import freeze, saved_model, variable_values, variables
from export.graph import Graph, normal, producer
from export.graph_file import read_graph_def
from export.options import signatures_option, tags_option, to_option, version_option
from export.publish import new_version
from export.saved_model import Content, SavedModel
from export.signatures import pairs, signature
from export.stages import Stages
from user_error import UserError
from whole_file import write_json


def like(graph: Graph, model: SavedModel, signatures: Sequence[str] | None = None) -> Content:
    """The graph with the signatures, assets and initialiser of `model`, as far as it has their nodes.

    Raises UserError if a signature names a node that the graph does not have.
    """
    wanted = saved_model.chosen(model, signatures)
    for key, one in wanted.items():
        for info in (*one.inputs.values(), *one.outputs.values()):
            for name in freeze.tensor_names(info):
                if producer(normal(name)) not in graph.nodes:
                    raise UserError(
                        f"signature '{key}' of {model.path} needs the tensor '{name}', which the graph lacks; "
                        "name it in --outputs when transforming, or choose others with --signatures")
    assets = [asset for asset in model.assets if producer(asset.tensor_info.name) in graph.nodes]
    init_op = next((name for name in (freeze.INIT_OP, model.init_op) if name in graph.nodes), None)
    stay = [item for item in graph.nodes.values() if variables.is_variable(item)]
    values = variable_values.values(model, graph) if stay else {}
    return Content(graph, wanted, model.tags, init_op, assets, values, like=model)


@click.command()
@click.argument("graph_path", metavar="GRAPH", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--like", "source", metavar="SRC", help="Take signatures, assets and initialiser from this SavedModel.")
@click.option("--inputs", metavar="KEY=TENSOR,...", help="Without --like: the inputs of serving_default.")
@click.option("--outputs", metavar="KEY=TENSOR,...", help="Without --like: the outputs of serving_default.")
@signatures_option
@tags_option
@to_option
@version_option
@json_option
def command(graph_path: Path, source: str | None, inputs: str | None, outputs: str | None,
            signatures: tuple[str, ...] | None, tags: tuple[str, ...], base: Path, version: int | None,
            json_path: str | None) -> None:
    """Make the GraphDef file GRAPH (.pb or .pbtxt) into the SavedModel DST/VERSION.

    \b
    Examples:
      python -m export reconvert frozen.pb --like models/mnist/original --to models/mnist/optimized
      python -m export reconvert frozen.pb --inputs x=input:0 --outputs scores=softmax:0 --to models/own
    """
    if (source is None) == (inputs is None and outputs is None):
        raise click.UsageError("give either --like SRC, or --inputs and --outputs")
    with Stages()(f"reconvert {graph_path}"):
        graph = Graph.from_graph_def(read_graph_def(graph_path))
        if source is not None:
            content = like(graph, saved_model.read(source, tags), signatures)
        else:
            made = signature(graph, pairs("--inputs", inputs), pairs("--outputs", outputs))
            content = Content(graph, {"serving_default": made}, tags)
        with new_version(base, version) as made_version:
            saved_model.write(made_version.path, content)
    if json_path:
        write_json(json_path, {"path": str(made_version.published), "signatures": sorted(content.signatures)})
    if json_path != "-":
        click.echo(str(made_version.published))
