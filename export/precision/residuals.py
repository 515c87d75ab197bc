"""Residual additions written so that TensorFlow computes them inside the convolution before them.

TensorFlow's optimizer merges Conv2D + BiasAdd + addition + Relu into one kernel, for an AddV2 only if it can tell that
nothing is broadcast. It knows no size of a fed tensor, so it cannot tell after a stride, a VALID padding or a pooling;
an AddN adds equal shapes by definition. Here sizes are compared by where they come from (`export.sizes`).
"""
from __future__ import annotations

from export.graph import Graph, Node, make_node, producer
from export.sizes import known_sizes


def with_fused_residuals(graph: Graph) -> Graph:  # decision 161
    """AddV2(convolution with bias, x) -> AddN, where both provably have the same shape.

    The sum is the same to the last bit; what an AddV2 would have broadcast, an AddN would refuse.
    """
    changed = {}
    sizes = known_sizes(graph)
    for item in graph.nodes.values():
        if item.op in ("Add", "AddV2") and not item.controls and len(set(item.data)) == 2 and any(
                _fusible(graph, ref, item) for ref in item.data):
            first, second = (sizes.get(ref) for ref in item.data)
            if first is not None and first == second:
                changed[item.name] = make_node(item.name, "AddN", item.data, item.device, N=2, T=item.get("T"))
    return graph.with_nodes({**graph.nodes, **changed}.values()) if changed else graph


def _fusible(graph: Graph, ref: str, reader: Node) -> bool:
    """Whether a tensor is a convolution with bias that only `reader` reads."""
    bias = graph.nodes[producer(ref)]
    if bias.op != "BiasAdd" or not _only(graph, bias, reader):
        return False
    convolution = graph.nodes[producer(bias.data[0])]
    return convolution.op == "Conv2D" and _only(graph, convolution, bias)


def _only(graph: Graph, item: Node, reader: Node) -> bool:
    return item.name not in graph.kept and graph.consumers[item.name] == (reader.name,) and not item.controls
