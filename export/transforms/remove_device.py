from dataclasses import replace

from export.graph import Graph
from export.transform import Arguments, Record, transform


@transform("remove_device")
def remove_device(graph: Graph, args: Arguments, record: Record) -> Graph:
    """Clears the device of every node.

    Safe when: always; the runtime then chooses the devices.
    Source: Graph Transform Tool, remove_device.
    """
    record.applied = sum(bool(item.device) for item in graph.nodes.values())
    return graph.with_nodes(replace(item, device="") if item.device else item for item in graph.nodes.values())
