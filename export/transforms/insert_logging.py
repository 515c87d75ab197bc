from export.graph import Graph, Node, make_node, port, tensor_name
from export.ops import CONTROL_FLOW, op_def, output_dtypes
from export.pattern import Skip
from export.tensors import RESOURCE, VARIANT
from export.transform import Arg, Arguments, Draft, Record, transform


@transform(
    "insert_logging",
    Arg("op", repeated=True, help="an op to log; all if none is given"),
    Arg("prefix", repeated=True, help="the start of the names of nodes to log; all if none is given"),
    Arg("show_op", "bool", False, help="begin the message with the op"),
    Arg("show_name", "bool", False, help="begin the message with the name of the Print node"),
    Arg("message", default="", help="text before the values"),
    Arg("first_n", "int", -1, help="stop after so many times; -1: never"),
    Arg("summarize", "int", 1024, help="how many values of a tensor to print"))
def insert_logging(graph: Graph, args: Arguments, record: Record) -> Graph:
    """x -> Print(x, all used outputs of its node): values go to standard error when the graph runs.

    The Print node is called NAME__print__. A line reads ";OP;;NAME__print__;MESSAGE[value][value]".

    Safe when: an output of the node is read by another node (a requested output that no node reads is not changed), its
      types can be printed, it is not a reference to a variable, and the node is not part of a v1 loop or conditional,
      whose ops must be next to each other.
    Source: Graph Transform Tool, insert_logging (which gave Print more types than inputs, and printed nothing where
      only a second output was read).
    """
    ops, prefixes = frozenset(args["op"]), tuple(args["prefix"])
    draft = Draft(graph)
    for item in graph.nodes.values():
        if (not ops or item.op in ops) and (not prefixes or item.name.startswith(prefixes)):
            try:
                _log(draft, item, args)
                record.applied += 1
            except Skip as skip:
                record.skip(item.name, skip.reason)
    return draft.result()


def _log(draft: Draft, item: Node, args: Arguments) -> None:
    if item.op in CONTROL_FLOW:
        raise Skip(f"{item.op} is part of a v1 loop or conditional")
    dtypes = output_dtypes(item, draft.graph.library)
    if dtypes is None:
        raise Skip(f"the types of '{item.op}' are not known")
    used = sorted({port(ref) for reader in draft.consumers.get(item.name, ()) for ref in draft.nodes[reader].data
                   if ref in {tensor_name(item.name, number) for number in range(len(dtypes))}})
    if not used:
        raise Skip("no other node reads it")
    if any(dtypes[number] in (RESOURCE, VARIANT) for number in used) or _is_reference(item):
        raise Skip("a resource, a variant or a reference has no values to print")
    printed = [tensor_name(item.name, number) for number in used]
    name = draft.unused_name(f"{item.name}__print__")
    shown = [f";{text};" for text, wanted in ((item.op, args["show_op"]), (name, args["show_name"])) if wanted]
    draft.redirect(printed[0], name)
    draft.put(make_node(name, "Print", (printed[0], *printed), item.device, T=dtypes[used[0]],
                   U=[dtypes[number] for number in used], message="".join(shown) + args["message"],
                   first_n=args["first_n"], summarize=args["summarize"]))


def _is_reference(item: Node) -> bool:
    definition = op_def(item.op)
    return definition is not None and any(arg.is_ref for arg in definition.output_arg)
