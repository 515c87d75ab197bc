from dataclasses import replace

from export.graph import Graph, Node
from export.transform import Arg, Arguments, Record, transform


@transform(
    "set_device",
    Arg("device", default="", help="the device, for example /device:CPU:0"),
    Arg("if_default", "bool", False, help="only for nodes without a device"))
def set_device(graph: Graph, args: Arguments, record: Record) -> Graph:
    """Sets the device of every node.

    Safe when: the device exists where the graph will run.
    Source: Graph Transform Tool, set_device.
    """
    def moved(item: Node) -> Node:
        if item.device == args["device"] or (args["if_default"] and item.device):
            return item
        record.applied += 1
        return replace(item, device=args["device"])
    return graph.with_nodes(map(moved, graph.nodes.values()))
