"""GraphDef -> SavedModel: the graph gets signatures, assets and an initialiser again."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from export import freeze, saved_model, variables
from export.graph import Graph, nearest, normal, port, producer
from export.graph_file import as_graph_def, read_graph_def, whole
from export.ops import output_dtypes
from export.options import signatures_option, tags_option, to_option, version_option
from export.publish import new_version
from export.saved_model import Content, SavedModel
from export.stages import Stages
from user_error import UserError

PREDICT = "tensorflow/serving/predict"


def like(graph: Graph, model: SavedModel, signatures: Sequence[str] | None = None) -> Content:
    """The graph with the signatures, assets and initialiser of `model`, as far as it holds their nodes.

    Raises UserError if a signature names a node that the graph does not hold.
    """
    wanted = saved_model.chosen(model, signatures)
    for key, signature in wanted.items():
        for info in (*signature.inputs.values(), *signature.outputs.values()):
            for name in freeze.tensor_names(info):
                if producer(normal(name)) not in graph.nodes:
                    raise UserError(
                        f"signature '{key}' of {model.path} needs the tensor '{name}', which the graph lacks; "
                        "name it in --outputs when transforming, or choose others with --signatures")
    assets = [one for one in model.assets if producer(one.tensor_info.name) in graph.nodes]
    init_op = next((name for name in (freeze.INIT_OP, model.init_op) if name in graph.nodes), None)
    stay = [item for item in graph.nodes.values() if variables.is_variable(item)]
    values = freeze.values(model, graph) if stay else {}
    return Content(graph, wanted, model.tags, init_op, assets, values, like=model)


def signature(graph: Graph, inputs: Mapping[str, str], outputs: Mapping[str, str], method: str = PREDICT) -> Any:
    """A SignatureDef of tensors in the graph. Raises UserError for a tensor that it does not hold."""
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
    made = SignatureDef(method_name=method)
    for side, named in ((made.inputs, inputs), (made.outputs, outputs)):
        for key, ref in named.items():
            name = producer(normal(ref))
            if name not in graph.nodes:
                raise UserError(f"the graph has no node '{name}'{nearest(name, graph.nodes)}; "
                                "--inputs and --outputs take KEY=TENSOR,...")
            item = graph.nodes[name]
            dtypes = output_dtypes(item, graph.library)
            if dtypes is None or port(normal(ref)) >= len(dtypes):
                raise UserError(f"node '{name}' ({item.op}) has no output {port(normal(ref))}")
            side[key].name = f"{name}:{port(normal(ref))}"
            side[key].dtype = dtypes[port(normal(ref))]
    _infer_shapes(graph, made)
    return made


def _infer_shapes(graph: Graph, made: Any) -> None:
    from export.runtime import tf
    with tf.Graph().as_default() as imported:
        try:
            tf.import_graph_def(as_graph_def(whole(graph)), name="")
        except ValueError as error:
            raise UserError(f"TensorFlow cannot import the graph: {saved_model.reason(error)}") from error
        for info in (*made.inputs.values(), *made.outputs.values()):
            info.tensor_shape.CopyFrom(imported.get_tensor_by_name(info.name).shape.as_proto())


@click.command()
@click.argument("graph_path", metavar="GRAPH", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--like", "source", metavar="SRC", help="Take signatures, assets and initialiser from this SavedModel.")
@click.option("--inputs", metavar="KEY=TENSOR,...", help="Without --like: the inputs of serving_default.")
@click.option("--outputs", metavar="KEY=TENSOR,...", help="Without --like: the outputs of serving_default.")
@signatures_option
@tags_option
@to_option
@version_option
def command(graph_path: Path, source: str | None, inputs: str | None, outputs: str | None,
            signatures: tuple[str, ...] | None, tags: tuple[str, ...], base: Path, version: int | None) -> None:
    """Make the GraphDef file GRAPH (.pb or .pbtxt) a SavedModel again: DST/VERSION.

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
    click.echo(str(made_version.published))


def pairs(option: str, text: str | None) -> dict[str, str]:
    """key=tensor,... as a mapping; a tensor without a key is called as its node."""
    found: dict[str, str] = {}
    for part in filter(None, (one.strip() for one in (text or "").split(","))):
        key, equals, ref = part.partition("=")
        found[key if equals else producer(normal(key))] = ref if equals else key
    if not found:
        raise click.UsageError(f"{option} names no tensor: give {option} key=node:0,...")
    return found
