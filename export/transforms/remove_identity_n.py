from export.graph import Graph
from export.transform import Arguments, Draft, Record, transform


@transform("remove_identity_n")
def remove_identity_n(graph: Graph, args: Arguments, record: Record) -> Graph:
    """IdentityN(a, b, ...) -> a, b, ...: each output's readers read the corresponding input.

    Functions with a custom gradient (swish) leave IdentityN nodes in a frozen graph, between kernels that the runtime
    could otherwise fuse.

    Safe when: the node is not a requested input or output, waits for nothing, and nothing waits for it.
    Source: not in the Graph Transform Tool.
    """
    draft = Draft(graph)
    for name, original in graph.nodes.items():
        if original.op != "IdentityN":
            continue
        item = draft.nodes[name]
        if name in draft.kept:
            record.skip(name, "it is a requested input or output")
        elif item.controls or any(f"^{name}" in draft.nodes[reader].inputs for reader in draft.consumers.get(name, ())):
            record.skip(name, "it orders other nodes by control inputs")
        else:
            for number, source in enumerate(item.data):
                draft.redirect(f"{name}:{number}" if number else name, source)
            draft.drop(name)
            record.applied += 1
    return draft.result()
