from export.effects import functions_of
from export.graph import Graph, port, producer
from export.ops import CONTROL_FLOW, PLACEHOLDERS, output_dtypes
from export.pattern import Skip
from export.tensors import DType
from export.transform import Arg, Arguments, Draft, Record, transform


@transform(
    "remove_nodes",
    Arg("op", repeated=True, required=True, help="an op whose nodes are removed"),
    Arg("max_inputs", "int", 1, help="only nodes with at most this many data inputs"))
def remove_nodes(graph: Graph, args: Arguments, record: Record) -> Graph:
    """op(x, ...) -> x: readers of the node read its first input instead.

    Control inputs of a removed node move to its readers, and nodes that waited for it wait for its inputs.

    Safe when: the op passes its first input on unchanged (Identity, StopGradient, CheckNumerics, ...), which is not
      checked; the node is not a requested input or output, has one used output, is neither part of a v1 loop or
      conditional nor the only node that keeps another one in it, and nothing waits for what functions gave it.
    Source: Graph Transform Tool, remove_nodes (which dropped control inputs and broke v1 loops).
    """
    ops = frozenset(args["op"])
    draft = Draft(graph)
    for name in list(graph.nodes):
        item = draft.nodes[name]
        if item.op in ops and 1 <= len(item.data) <= args["max_inputs"]:
            try:
                _remove(draft, name)
                record.applied += 1
            except Skip as skip:
                record.skip(name, skip.reason)
    return draft.result()


def _remove(draft: Draft, name: str) -> None:
    item = draft.nodes[name]
    source = item.data[0]
    before = draft.nodes[producer(source)]
    readers = [draft.nodes[reader] for reader in draft.consumers.get(name, ())]
    waiting = [reader for reader in readers if f"^{name}" in reader.inputs]
    if name in draft.kept:
        raise Skip("it is a requested input or output")
    if item.op in CONTROL_FLOW or item.op in PLACEHOLDERS:
        raise Skip(f"{item.op} is part of the graph's control flow or inputs")
    if None not in (types := (_dtype(draft, name), _dtype(draft, source))) and types[0] != types[1]:
        raise Skip("it changes the type")
    if any(reader.name == name for reader in readers):
        raise Skip("it reads itself")
    if any(ref.startswith(f"{name}:") for reader in readers for ref in reader.inputs):
        raise Skip("a further output of it is read")
    if waiting and before.op in CONTROL_FLOW:
        raise Skip(f"'{waiting[0].name}' waits for it to know that this branch of '{before.op}' was taken")
    if waiting and any(functions_of(before.attrs)):
        # When TensorFlow inlines them, only a reader of a result waits for an Assert that the result waits for.
        raise Skip(f"'{waiting[0].name}' waits for it to know that the functions of '{before.name}' ran")
    if item.controls and any(reader.op in ("Merge", "NextIteration", "RefMerge") for reader in readers):
        raise Skip("its control input belongs to one branch of a merge")
    for reader in readers:
        data = [source if ref == name else ref for ref in reader.data]
        controls = dict.fromkeys(ref for ref in reader.controls if ref != f"^{name}")
        controls |= dict.fromkeys(item.controls)
        if f"^{name}" in reader.inputs:
            controls |= {f"^{ref_name}": None for ref_name in map(producer, item.data)}
        draft.put(reader.with_inputs((*data, *controls)))
    draft.drop(name)


def _dtype(draft: Draft, ref: str) -> DType | None:
    """The type of a tensor; None if it is not known."""
    dtypes = output_dtypes(draft.nodes[producer(ref)], draft.graph.library)
    return dtypes[port(ref)] if dtypes else None
