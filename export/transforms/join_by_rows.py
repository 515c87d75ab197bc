from dataclasses import replace

from export.graph import Graph, Node, producer
from export.transform import Arguments, Draft, Record, transform
from export.transforms.fork_by_rows import ACTIVATIONS, BIASES


@transform("join_by_rows")
def join_by_rows(graph: Graph, args: Arguments, record: Record) -> Graph:  # decision 234
    """The reverse of fork_by_rows: one product with its bias and activation where a Merge has two

    Transforms, other precisions and other engines know a dense layer by its form.

    Safe when: both products read the outputs of one Switch, and all else that they read and are is the same; nothing
      else reads what is between, and none of it is requested.
    Source: not in the Graph Transform Tool.
    """
    draft = Draft(graph)
    for item in graph.nodes.values():
        if item.op == "Merge" and item.name not in graph.fed and len(item.data) == 2 and _join(draft, item):
            record.applied += 1
    return draft.result()


def _join(draft: Draft, merge: Node) -> bool:
    chains = [_chain(draft, draft.nodes[producer(ref)], merge.name) for ref in merge.data]
    one, other = chains
    if not one or len(one) != len(other) or not all(map(_alike, one, other)):
        return False
    switch = draft.nodes[producer(one[0].data[0])]
    if switch.op != "Switch" or {one[0].data[0], other[0].data[0]} != {switch.name, f"{switch.name}:1"}:
        return False
    x = switch.data[0]
    for item in one[:-1]:
        draft.put(replace(item, inputs=(x, *item.inputs[1:])))
        x = item.name
    draft.put(replace(one[-1], name=merge.name, inputs=(x, *one[-1].inputs[1:], *merge.controls)))
    draft.drop_unused([one[-1].name, other[-1].name])
    return True


def _chain(draft: Draft, end: Node, reader: str) -> list[Node]:
    """Product, bias, and activation if there is one, of which each is read by the next alone; else nothing."""
    chain: list[Node] = []
    for ops in (ACTIVATIONS, BIASES, {"MatMul"}):
        if end.op not in ops:
            if ops is ACTIVATIONS:
                continue
            return []
        if end.name in draft.kept or set(draft.consumers[end.name]) != {reader}:
            return []
        chain.insert(0, end)
        reader, end = end.name, draft.nodes[producer(end.data[0])]
    return chain


def _alike(one: Node, other: Node) -> bool:
    """Whether two nodes are the same but for their names and their first operands."""
    return (one.op, one.inputs[1:], one.device, one.attrs) == (other.op, other.inputs[1:], other.device, other.attrs)
