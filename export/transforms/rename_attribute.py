from export.graph import Graph, Node
from export.transform import Arg, Arguments, Record, transform


@transform(
    "rename_attribute",
    Arg("old_attribute_name", required=True, help="the attribute's current name"),
    Arg("new_attribute_name", required=True, help="its new name"),
    Arg("op_name", default="*", help="only nodes of this op; * for all"))
def rename_attribute(graph: Graph, args: Arguments, record: Record) -> Graph:
    """Renames an attribute of all nodes, or of those of one op; its value stays.

    Safe when: the node has no attribute of the new name yet. Whether the op accepts the new name is not checked.
    Source: Graph Transform Tool, rename_attribute (which lost the old value if the new name was in use).
    """
    old, new = args["old_attribute_name"], args["new_attribute_name"]

    def renamed(item: Node) -> Node:
        if args["op_name"] not in ("*", item.op) or old not in item.attrs or old == new:
            return item
        if new in item.attrs:
            record.skip(item.name, f"it has an attribute '{new}' already")
            return item
        record.applied += 1
        return item.with_attrs(without=(old,), **{new: item.attrs[old]})
    return graph.with_nodes(map(renamed, graph.nodes.values()))
