from export.graph import Graph, Node
from export.ops import defaults, op_def
from export.transform import Arguments, Record, transform


@transform("add_default_attributes")
def add_default_attributes(graph: Graph, args: Arguments, record: Record) -> Graph:
    """Adds every attribute that a node lacks, with its op's default value.

    Safe when: the op is registered; a node of any other op is not changed, nor is an existing attribute.
    Source: Graph Transform Tool, add_default_attributes (which failed on unknown ops).
    """
    def filled(item: Node) -> Node:
        if op_def(item.op) is None:
            record.skip(item.name, f"no op '{item.op}' is registered")
            return item
        missing = {key: value for key, value in defaults(item.op).items() if key not in item.attrs}
        record.applied += bool(missing)
        return item.with_attrs(**missing) if missing else item
    return graph.with_nodes(map(filled, graph.nodes.values()))
