import re

from export.graph import Graph, nearest
from export.transform import Arg, Arguments, Record, TransformError, transform

_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")


@transform(
    "rename_node",
    Arg("old_node_name", required=True, help="the node's current name"),
    Arg("new_node_name", required=True, help="its new name"),
    bodies=False)
def rename_node(graph: Graph, args: Arguments, record: Record) -> Graph:
    """Renames one node, also in inputs, control inputs and colocation constraints of other nodes.

    If it is a requested input or output, it is requested by its new name from then on.

    Safe when: no other node has the new name (otherwise it is an error), and it is a valid name in TensorFlow.
    Source: Graph Transform Tool, rename_node (which did not rename in colocation constraints).
    """
    old, new = args["old_node_name"], args["new_node_name"]
    if old not in graph.nodes:
        record.skip(old, f"there is no such node{nearest(old, graph.nodes)}")
        return graph
    if new in graph.nodes and new != old:
        raise TransformError(f"rename_node: a node is called '{new}' already: choose another new_node_name")
    if not _NAME.fullmatch(new):
        raise TransformError(f"rename_node: '{new}' is no name for a node: start with a letter, a digit or '.'")
    record.applied = 1
    return graph.renamed({old: new})
