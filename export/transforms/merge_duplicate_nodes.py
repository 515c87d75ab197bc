import hashlib

from export.graph import Graph, Node, producer
from export.ops import CONTROL_FLOW, is_pure
from export.transform import Arguments, Draft, Record, transform

# Recorded shapes and notes about how the node was built, which do not affect what it computes.
_NOTES = ("_output_shapes", "_has_manual_control_dependencies")


@transform("merge_duplicate_nodes")
def merge_duplicate_nodes(graph: Graph, args: Arguments, record: Record) -> Graph:
    """Nodes with the same op, device, attributes and inputs become one; equal constants too.

    One pass in execution order, so that nodes whose inputs were merged can be merged too.

    Safe when: the op only computes (nothing stateful or random, no placeholder, no resource, no control flow), and
      at most one of the nodes is a requested input or output; that node stays.
    Source: Graph Transform Tool, merge_duplicate_nodes (which merged unlisted Placeholders, and outputs given as
      "b:0").
    """
    draft = Draft(graph)
    first: dict[tuple[object, ...], str] = {}
    for original in graph.order():
        item = draft.nodes[original.name]
        if item.op in CONTROL_FLOW or item.name in graph.fed or not is_pure(item):
            continue
        key = _key(item)
        twin = first.setdefault(key, item.name)
        if twin == item.name:
            continue
        if item.name in draft.kept:
            if twin in draft.kept:
                record.skip(item.name, f"both it and its twin '{twin}' are requested outputs")
                continue
            item, twin, first[key] = draft.nodes[twin], item.name, item.name
        _replace(draft, item.name, twin)
        record.applied += 1
    return draft.result()


def _key(item: Node) -> tuple[object, ...]:
    attrs = []
    for key in sorted(item.attrs):
        if key not in _NOTES:
            content = item.attrs[key].SerializeToString(deterministic=True)
            attrs.append((key, content if len(content) < 64 else hashlib.blake2b(content, digest_size=20).digest()))
    return (item.op, item.device, item.data, frozenset(item.controls), tuple(attrs))


def _replace(draft: Draft, old: str, new: str) -> None:
    for reader in list(draft.consumers.get(old, ())):
        item = draft.nodes[reader]
        refs = [_moved(ref, old, new) for ref in item.inputs]
        data = [ref for ref in refs if ref[0] != "^"]
        draft.put(item.with_inputs((*data, *dict.fromkeys(ref for ref in refs if ref[0] == "^"))))
    draft.drop(old)


def _moved(ref: str, old: str, new: str) -> str:
    if producer(ref) != old:
        return ref
    return f"^{new}" if ref[0] == "^" else new + ref[len(old):]
