"""How fast this machine's kernels are at best: the ceilings that a model's speed is a share of.

    python -m benchmark.targets.in_process.ceilings      # {"float32": 520.1, "bfloat16": 951.0, "int8": 1713.2}
    python -m benchmark.targets.in_process.ceilings 1    # the same with one thread: one core's ceilings

In GFLOP/s. The ceilings are those of a chain of 3x3 convolutions of 14x14x256 numbers with bias and Relu, eight images
at once: what TensorFlow's kernels reach where nothing else is in the way. They are measured in turns. Work by others on
the machine lowers them: see the load average beside them.
"""
import json
import sys
from time import perf_counter
from typing import Any

import numpy as np

import cpu_class
import tensorflow_alone
from benchmark.targets.in_process.model_work import gigaflop
from export.graph import Graph
from export.graph_file import as_graph_def, whole
from export.precision.bfloat16 import to_bfloat16
from export.precision.int8 import quantize, wanted_tensors
from export.precision.ranges import Range
from export.runtime import tf
from export.tensors import Array

_SIZE, _CHANNELS, _BATCH, _LAYERS, _TURNS = 14, 256, 8, 6, 15


def ceilings(threads: int = 0) -> dict[str, float]:
    """GFLOP/s in each precision that this CPU has instructions for: 2 per multiplication and addition.

    threads: of one operation; 0: as many as there are cores.
    """
    graph = _chain()
    ranges = dict.fromkeys(wanted_tensors(graph), Range(0.0, 4.0))
    graphs = {"float32": graph}
    cpu = cpu_class.current()
    if cpu.has_bf16 and cpu.runs_bf16:
        graphs["bfloat16"] = to_bfloat16(graph)[0]
    if cpu.runs_int8:
        graphs["int8"] = quantize(graph, ranges)[0]
    calls = {name: _call(each, threads) for name, each in graphs.items()}
    images = np.abs(_normal((_BATCH, _SIZE, _SIZE, _CHANNELS), 1))
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(-3, _TURNS):
        for name, call in calls.items():
            began = perf_counter()
            call(images)
            if turn >= 0:
                taken[name].append(perf_counter() - began)
    work = gigaflop(graph, _BATCH)
    return {name: round(work / float(np.median(seconds)), 1) for name, seconds in taken.items()}


def _chain() -> Graph:
    graph = tf.Graph()
    with graph.as_default():
        x = tf.compat.v1.placeholder(tf.float32, (None, _SIZE, _SIZE, _CHANNELS), "x")
        for layer in range(_LAYERS):
            weights = 0.03 * _normal((3, 3, _CHANNELS, _CHANNELS), layer)
            x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, tf.constant(weights), 1, "SAME"), tf.zeros([_CHANNELS])))
        tf.identity(x, "y")
    return Graph.from_graph_def(graph.as_graph_def(), ["x"], ["y"])


def _normal(shape: tuple[int, ...], seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _call(graph: Graph, threads: int) -> Any:
    loaded = tf.Graph()
    with loaded.as_default():
        tf.import_graph_def(as_graph_def(whole(graph)), name="")
    config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=threads)
    session = tf.compat.v1.Session(graph=loaded, config=config)
    # Without a copy of the result to Python, which takes as long as a convolution.
    return session.make_callable(loaded.get_operation_by_name("y"), feed_list=["x:0"])


if __name__ == "__main__":
    tensorflow_alone.own_process = True
    print(json.dumps(ceilings(*map(int, sys.argv[1:2]))))
