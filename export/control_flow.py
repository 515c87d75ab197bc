"""Which nodes of a graph are in loops and branches of TensorFlow 1."""
from export.graph import Graph, producer


def within_control_flow(graph: Graph) -> frozenset[str]:
    """The nodes in a loop or a branch: by the Enter and Switch nodes before them that no Exit or Merge has ended."""
    open_before: dict[str, tuple[str, ...]] = {}
    for item in graph.order():
        inputs = [open_before[producer(ref)] for ref in item.inputs if producer(ref) in open_before]
        opened = max(inputs, key=len, default=())
        kind = item.op.removeprefix("Ref")
        if kind in ("Enter", "Switch"):
            opened = (*opened, kind)
        elif kind == "Merge" and opened[-1:] == ("Switch",):
            opened = opened[:-1]
        elif kind == "Exit" and "Enter" in opened:
            opened = opened[:len(opened) - 1 - opened[::-1].index("Enter")]
        open_before[item.name] = opened
    return frozenset(name for name, opened in open_before.items() if opened)
