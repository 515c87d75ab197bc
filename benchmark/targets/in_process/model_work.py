"""How many multiplications and additions a graph's contractions compute for a batch: what a speed in FLOP/s divides.

    python -m benchmark.targets.in_process.model_work VERSION [--signature NAME]    # {"gflop": 0.599} of one example
"""
import argparse
import json
import math
import sys
from pathlib import Path

import tensorflow_alone
from export import saved_model
from export.freeze import freeze
from export.graph import Graph, Node, port, producer
from export.graph_file import as_graph_def, whole
from export.precision import work
from export.runtime import tf
from user_error import UserError

# Shapes are computed from constants of this size at most, never from weights.
_MAX_ELEMENTS = 1024


def gigaflop(graph: Graph, batch: int) -> float:
    """What the contractions compute for `batch` examples: 2e-9 for each multiplication with its addition."""
    return 2e-9 * sum(multiply_adds(graph, batch).values())


def multiply_adds(graph: Graph, batch: int) -> dict[str, int]:
    """By contraction, the multiplications, each with an addition, that it computes for `batch` examples.

    An unknown first size of an input is the batch. The bodies of functions are not counted, that of a v1 loop once.
    Raises UserError for a contraction whose sizes depend on more than the batch.
    """
    chosen = {name: item for name, item in graph.nodes.items() if item.op in work.CONTRACTIONS}
    sizes = _sizes(graph, batch, {ref for item in chosen.values() for ref in (*item.data, item.name)})
    return {name: work.of(item, sizes) for name, item in chosen.items()}


def _sizes(graph: Graph, batch: int, wanted: set[str]) -> dict[str, work.Sizes | None]:
    """The shapes of the wanted tensors at a batch; None where one is not known.

    By TensorFlow's shape inference of the whole graph, which follows shapes that the graph computes, as Keras' products
    of three-dimensional tensors do.
    """
    graph_def = as_graph_def(whole(graph.with_nodes(map(_without_weights, graph.nodes.values()))))
    for node in graph_def.node:
        shape = node.attr["shape"].shape if node.op in ("Placeholder", "PlaceholderWithDefault") else None
        if shape is not None and node.name in graph.fed and shape.dim and shape.dim[0].size < 0:
            shape.dim[0].size = batch
    loaded = tf.Graph()
    with loaded.as_default():
        tf.import_graph_def(graph_def, name="")
    found = {ref: loaded.get_tensor_by_name(f"{producer(ref)}:{port(ref)}").shape for ref in wanted}
    return {ref: tuple(shape.as_list()) if shape.is_fully_defined() else None for ref, shape in found.items()}


def _without_weights(item: Node) -> Node:
    """A node, or in place of a large constant a placeholder of its shape: importing its bytes would take seconds."""
    if item.op != "Const" or math.prod(item.shape) <= _MAX_ELEMENTS:
        return item
    shape = type(item.attrs["value"])(shape=item.attrs["value"].tensor.tensor_shape)
    return Node(item.name, "Placeholder", item.inputs, {"dtype": item.attrs["dtype"], "shape": shape}, item.device)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmark.targets.in_process.model_work")
    parser.add_argument("version", type=Path)
    parser.add_argument("--signature", default="serving_default")
    options = parser.parse_args()
    try:
        found = gigaflop(freeze(saved_model.read(options.version), [options.signature]).graph, 1)
    except UserError as error:
        sys.exit(f"error: {error}")
    print(json.dumps({"gflop": found}))


if __name__ == "__main__":
    tensorflow_alone.own_process = True
    main()
