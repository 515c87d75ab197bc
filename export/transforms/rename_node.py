import re

from export.graph import Graph, nearest
from export.transform import Arg, Arguments, Record, TransformError, transform

_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")


@transform(
    "rename_node",
    Arg("old_node_name", required=True, help="the node's name now"),
    Arg("new_node_name", required=True, help="the name that it gets"),
    bodies=False)
def rename_node(graph: Graph, args: Arguments, record: Record) -> Graph:
    """Renames one node, wherever it is mentioned: inputs, control inputs, colocation constraints.

    A requested input or output is requested under its new name from then on.

    Safe when: no other node has the new name (an error if one has), and TensorFlow takes it for a node's name.
    Source: Graph Transform Tool, rename_node (which left colocation constraints behind).
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
