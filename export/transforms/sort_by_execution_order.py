from export.graph import Graph
from export.transform import Arguments, Record, transform


@transform("sort_by_execution_order")
def sort_by_execution_order(graph: Graph, args: Arguments, record: Record) -> Graph:
    """Puts every node after the nodes it reads; in a v1 while loop NextIteration comes last.

    Otherwise nodes keep the order that they had.

    Safe when: always; the order of nodes in a GraphDef has no meaning.
    Source: Graph Transform Tool, sort_by_execution_order.
    """
    ordered = graph.order()
    record.applied = sum(before.name != after.name for before, after in zip(graph.nodes.values(), ordered, strict=True))
    return graph.with_nodes(ordered)
