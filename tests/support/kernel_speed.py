"""How fast this machine's kernels are at best, and how much a model asks of them.

    python tests/support/kernel_speed.py      # {"float32": 520.1, "bfloat16": 951.0, "int8": 1713.2} in GFLOP/s

The ceilings are those of a chain of 3x3 convolutions of 14x14x256 numbers with bias and Relu, eight images at once:
what TensorFlow's kernels reach where nothing else is in the way. They are measured in turns, with all cores.
"""
import json
from time import perf_counter
from typing import Any

import numpy as np
from graph_session import build, seeded, tf

import cpu_class
from export.graph import Graph, Node, producer
from export.graph_file import as_graph_def, whole
from export.precision.bfloat16 import to_bfloat16
from export.precision.int8 import quantize, wanted_tensors
from export.precision.ranges import Range

_SIZE, _CHANNELS, _BATCH, _LAYERS, _TURNS = 14, 256, 8, 6, 15
_CONTRACTIONS = frozenset({"Conv2D", "DepthwiseConv2dNative", "MatMul", "BatchMatMulV2", "Einsum"})


def ceilings() -> dict[str, float]:
    """GFLOP/s in each precision that this CPU has instructions for: 2 per multiplication and addition."""
    graph = _chain()
    ranges = dict.fromkeys(wanted_tensors(graph), Range(0.0, 4.0))
    graphs = {"float32": graph}
    cpu = cpu_class.current()
    if cpu.has_bf16 and cpu.runs_bf16:
        graphs["bfloat16"] = to_bfloat16(graph)[0]
    if cpu.runs_int8:
        graphs["int8"] = quantize(graph, ranges)[0]
    calls = {name: _call(each) for name, each in graphs.items()}
    images = np.abs(seeded((_BATCH, _SIZE, _SIZE, _CHANNELS), 1)).astype(np.float32)
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(-3, _TURNS):
        for name, call in calls.items():
            began = perf_counter()
            call(images)
            if turn >= 0:
                taken[name].append(perf_counter() - began)
    work = 2 * 9 * _CHANNELS**2 * _SIZE**2 * _BATCH * _LAYERS
    return {name: round(work / float(np.median(seconds)) / 1e9, 1) for name, seconds in taken.items()}


def gigaflop(graph: Graph, batch: int) -> float:
    """What the contractions of a graph compute for `batch` examples: 2e-9 for each multiplication and addition.

    Unknown first sizes are the batch. Raises ValueError for a contraction whose other sizes are not known.
    """
    return sum(2e-9 * _multiply_adds(graph, item, batch) for item in graph.order() if item.op in _CONTRACTIONS)


def _multiply_adds(graph: Graph, item: Node, batch: int) -> int:
    out, weights = (_sizes(graph, ref, batch) for ref in (item.name, item.data[1]))
    if item.op == "Conv2D":
        return int(np.prod(out) * np.prod(weights[:3]))
    if item.op == "DepthwiseConv2dNative":
        return int(np.prod(out) * np.prod(weights[:2]))
    if item.op == "Einsum":
        left, right = item.get("equation").split("->")[0].split(",")
        sizes = {**dict(zip(left, _sizes(graph, item.data[0], batch), strict=True)),
                 **dict(zip(right, weights, strict=True))}
        return int(np.prod(list(sizes.values())))
    data = _sizes(graph, item.data[0], batch)
    summed = data[-2] if item.get("transpose_a") or item.get("adj_x") else data[-1]
    return int(np.prod(out) * summed)


def _sizes(graph: Graph, ref: str, batch: int) -> list[int]:
    shape = graph.shapes.get(ref)
    if shape is None or None in shape[1:]:
        raise ValueError(f"the shape of '{ref}' is {shape}")
    if shape[0] is not None:
        return [size or 0 for size in shape]
    # Rows that were reshaped to [batch * length, channels] have the length of the tensor before.
    source = graph.nodes[producer(ref)]
    while len(shape) == 2 and source.op != "Reshape" and source.data:
        source = graph.nodes[producer(source.data[0])]
    before = graph.shapes.get(source.data[0]) if source.op == "Reshape" and source.data else None
    rows = 1
    if len(shape) == 2 and before and None not in before[1:]:
        rows = int(np.prod(before[1:])) // int(graph.shapes[source.name][1])
    return [batch * rows, *(size or 0 for size in shape[1:])]


def _chain() -> Graph:
    def made() -> None:
        x = tf.compat.v1.placeholder(tf.float32, (None, _SIZE, _SIZE, _CHANNELS), "x")
        for layer in range(_LAYERS):
            weights = 0.03 * seeded((3, 3, _CHANNELS, _CHANNELS), layer)
            x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, tf.constant(weights), 1, "SAME"), tf.zeros([_CHANNELS])))
        tf.identity(x, "y")
    return Graph.from_graph_def(build(made), ["x"], ["y"])


def _call(graph: Graph) -> Any:
    loaded = tf.Graph()
    with loaded.as_default():
        tf.import_graph_def(as_graph_def(whole(graph)), name="")
    # Without a copy of the result to Python, which takes as long as a convolution.
    return tf.compat.v1.Session(graph=loaded).make_callable(loaded.get_operation_by_name("y"), feed_list=["x:0"])


if __name__ == "__main__":
    print(json.dumps(ceilings()))
