from export.graph import Graph, Node
from export.ops import defaults, op_def
from export.pattern import Skip
from export.transform import Arg, Arguments, Record, transform


@transform(
    "remove_attribute",
    Arg("attribute_name", required=True, help="the attribute to remove"),
    Arg("op_name", default="*", help="only from nodes of this op; * for all"))
def remove_attribute(graph: Graph, args: Arguments, record: Record) -> Graph:
    """Removes an attribute from all nodes, or from those of one op.

    Safe when: the op's definition does not have the attribute, or has the same value as its default; otherwise the node
      would compute something else without it, or not load at all.
    Source: Graph Transform Tool, remove_attribute (which also removed attributes that ops need).
    """
    name = args["attribute_name"]

    def without(item: Node) -> Node:
        if args["op_name"] not in ("*", item.op) or name not in item.attrs:
            return item
        try:
            _check(item, name)
        except Skip as skip:
            record.skip(item.name, skip.reason)
            return item
        record.applied += 1
        return item.with_attrs(without=(name,))
    return graph.with_nodes(map(without, graph.nodes.values()))


def _check(item: Node, name: str) -> None:  # decision 19
    definition = op_def(item.op)
    if definition is None or all(attr.name != name for attr in definition.attr):
        return
    default = defaults(item.op).get(name)
    if default is None:
        raise Skip(f"{item.op} needs its attribute '{name}'")
    if default != item.attrs[name]:
        raise Skip(f"its '{name}' is not what {item.op} does by default")
