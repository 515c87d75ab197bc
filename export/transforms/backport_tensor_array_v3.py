from dataclasses import replace

import numpy as np

from export.graph import Graph, Node, make_const, tensor_name
from export.ops import op_def
from export.pattern import Skip
from export.tensors import STRING
from export.transform import Arguments, Draft, Record, transform

# GraphDefs of this version and later may not hold the V2 ops.
_REMOVED_IN = 26
_MAKERS = ("TensorArrayV3", "TensorArrayGradV3")
# They pass a handle on unchanged, with this number of outputs.
_PASS_ON = {"Enter": 1, "Exit": 1, "NextIteration": 1, "Identity": 1, "Merge": 1, "Switch": 2}


@transform("backport_tensor_array_v3", bodies=False)
def backport_tensor_array_v3(graph: Graph, args: Arguments, record: Record) -> Graph:
    """TensorArray*V3 -> TensorArray*V2, for runtimes that have only those.

    V2 has no flow output: a constant or the incoming flow replaces it. Handles are strings instead of resources; the
    nodes that pass them on through v1 loops and conditionals change type with them. TensorFlow refuses V2 ops in a
    GraphDef of version 26 or later, so a later producer version of the graph becomes 25.

    Safe when: every handle is used only by TensorArray ops that exist in V2, and none is a requested input or output
      or an argument of a function. All TensorArrays of the graph are converted, or none.
    Source: Graph Transform Tool, backport_tensor_array_v3 (which left the types in loops and V3's own attributes, so
      that the graph did not load).
    """
    arrays = [item.name for item in graph.nodes.values() if item.op in _MAKERS]
    draft = Draft(graph)
    try:
        for name in _nodes_with_handles(graph):
            _backport(draft, draft.nodes[name])
    except Skip as skip:
        for name in arrays:
            record.skip(name, skip.reason)
        return graph
    record.applied = len(arrays)
    return _lowered(draft.result()) if arrays else graph


def _nodes_with_handles(graph: Graph) -> list[str]:
    """The nodes that make, pass on or use a TensorArray's handle. Raises Skip if one cannot be converted."""
    found: dict[str, None] = {}
    todo = [item.name for item in graph.nodes.values() if item.op in _MAKERS]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found[name] = None
        item = graph.nodes[name]
        if item.op in _MAKERS and tensor_name(name, 1) in graph.outputs:
            raise Skip(f"the flow of '{name}' is a requested output")
        if item.op in _MAKERS or item.op in _PASS_ON:
            handles = {tensor_name(name, number) for number in range(_PASS_ON.get(item.op, 1))}
            if handles & {*graph.inputs, *graph.outputs}:
                raise Skip(f"the handle '{name}' is a requested input or output")
            todo += [reader for reader in graph.consumers.get(name, ()) if handles & set(graph.nodes[reader].data)]
        elif not (item.op.startswith("TensorArray") and item.op.endswith("V3") and op_def(_v2(item.op))):
            raise Skip(f"a handle goes into '{name}' ({item.op}), which has no counterpart for V2")
    return list(found)


def _backport(draft: Draft, item: Node) -> None:
    if item.op in _PASS_ON:
        draft.put(item.with_attrs(without=("_output_shapes",), T=STRING))
        return
    op = _v2(item.op)
    known = {attr.name for attr in op_def(op).attr}
    foreign = [key for key in item.attrs if key not in known and key[0] != "_"] + ["_output_shapes"]
    draft.put(replace(item.with_attrs(without=foreign), op=op))
    flow = tensor_name(item.name, 1)
    if item.op == "TensorArrayGradV3":
        draft.redirect(flow, item.data[1])
    elif item.op == "TensorArrayV3" and draft.readers(flow):
        made = make_const(draft.unused_name(f"{item.name}/replacement_flow_node"), np.zeros((), np.float32),
                     (f"^{item.name}",), item.device)
        draft.redirect(flow, made.name)
        draft.put(made)


def _v2(op: str) -> str:
    return op[:-1] + "2"


def _lowered(graph: Graph) -> Graph:  # decision 17
    if graph.versions is None or graph.versions.producer < _REMOVED_IN:
        return graph
    versions = type(graph.versions)()
    versions.CopyFrom(graph.versions)
    versions.producer = _REMOVED_IN - 1
    return replace(graph, versions=versions)
