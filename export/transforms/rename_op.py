from dataclasses import replace

from export.graph import Graph, Node
from export.ops import op_def
from export.transform import Arg, Arguments, Record, transform


@transform(
    "rename_op",
    Arg("old_op_name", required=True, help="the current op"),
    Arg("new_op_name", required=True, help="the op that replaces it"))
def rename_op(graph: Graph, args: Arguments, record: Record) -> Graph:
    """Replaces one op by another in all its nodes; inputs, attributes and names stay.

    Safe when: both ops have the same inputs and attributes and compute the same, which is not checked. In a function's
      body the new op must be registered, since tensors there are named by their ops' outputs.
    Source: Graph Transform Tool, rename_op.
    """
    old, new = args["old_op_name"], args["new_op_name"]

    def renamed(item: Node) -> Node:
        if item.op != old or old == new:
            return item
        if graph.is_body and op_def(new) is None:
            record.skip(item.name, f"no op '{new}' is registered, and a function's body needs its output names")
            return item
        record.applied += 1
        return replace(item, op=new)
    return graph.with_nodes(map(renamed, graph.nodes.values()))
