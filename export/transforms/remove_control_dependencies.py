from export.graph import Graph, producer
from export.ops import CONTROL_FLOW, is_stateful
from export.transform import Arguments, Record, transform

# They stop a bad run or write to a log, but the graph's results do not depend on when they do so.
_WATCHERS = frozenset({"Assert", "Print", "PrintV2", "CheckNumerics", "CheckNumericsV2", "Placeholder",
                       "PlaceholderWithDefault", "PlaceholderV2"})


@transform("remove_control_dependencies")
def remove_control_dependencies(graph: Graph, args: Arguments, record: Record) -> Graph:
    """Removes control inputs ("^name").

    Safe when: the edge does not order an effect (a write to a variable, a table's initialisation), does not keep a
      node without other inputs in a v1 while loop or conditional branch, and is not the only input of a requested
      output. Asserts and prints that ran only because of such an edge no longer run: that is the purpose.
    Source: Graph Transform Tool, remove_control_dependencies (which removes every edge).
    """
    effects: set[str] = set()
    branching = any(item.op in CONTROL_FLOW for item in graph.nodes.values())
    ordered = graph.order()
    for item in ordered:
        grouped = item.op == "NoOp" and any(producer(ref) in effects for ref in item.controls)
        if grouped or (item.op not in _WATCHERS and item.op not in CONTROL_FLOW and is_stateful(item)):
            effects.add(item.name)
    result = []
    for item in graph.nodes.values():
        kept = []
        for ref in item.controls:
            source = producer(ref)
            if not item.data and item.name in graph.kept and item.op == "NoOp":
                record.skip(item.name, "it is a requested output that only runs what it waits for")
            elif source in effects:
                record.skip(item.name, f"the edge orders the effect of '{source}'")
            elif branching and not item.data:
                record.skip(item.name, "the edge holds a node without inputs in its loop or branch")
            else:
                record.applied += 1
                continue
            kept.append(ref)
        result.append(item if len(kept) == len(item.controls) else item.with_inputs((*item.data, *kept)))
    return graph.with_nodes(result)
