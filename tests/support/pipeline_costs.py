"""What a pipeline costs on a synthetic graph, ours or the Graph Transform Tool's, measured in a process of its own.

    python tests/support/pipeline_costs.py ours 10000 0 default     ->  {"cpu_s": ..., "peak_mb": ...}

`cpu_s` is from the bytes of a GraphDef to those of another, over all threads. `peak_mb` is how far the process grew
above what it held before, the bytes of the graph included. `pipeline_cpu_s` is our steps' part.
"""
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

_SIDE = 1000  # of the large matrices: 4 MB each
_CHANNELS = 4


def synthetic(nodes: int, seed: int = 0) -> Any:
    """A chain of convolutions, each with a batch norm of Mul and AddV2, and a Relu; some nodes are not read."""
    from tensorflow.core.framework.graph_pb2 import GraphDef
    graph_def, random = GraphDef(), np.random.default_rng(seed)
    _placeholder(graph_def, (-1, 8, 8, _CHANNELS))
    now, block = "x", 0
    while len(graph_def.node) < nodes - 1:
        name = f"block{block}"
        _const(graph_def, f"{name}/W", random.standard_normal((3, 3, _CHANNELS, _CHANNELS)) / 6)
        _add(graph_def, f"{name}/conv", "Conv2D", now, f"{name}/W").attr["padding"].s = b"SAME"
        graph_def.node[-1].attr["strides"].list.i.extend([1] * 4)
        _const(graph_def, f"{name}/scale", random.random(_CHANNELS) + 0.5)
        _add(graph_def, f"{name}/mul", "Mul", f"{name}/conv", f"{name}/scale")
        _const(graph_def, f"{name}/offset", random.standard_normal(_CHANNELS))
        _add(graph_def, f"{name}/add", "AddV2", f"{name}/mul", f"{name}/offset")
        _add(graph_def, f"{name}/read", "Identity", f"{name}/add")
        _add(graph_def, f"{name}/relu", "Relu", f"{name}/read")
        if block % 7 == 0:
            _add(graph_def, f"{name}/unread", "Relu", f"{name}/relu")
        now, block = f"{name}/relu", block + 1
    _add(graph_def, "y", "Identity", now)
    return graph_def


def heavy(megabytes: int, seed: int = 0) -> Any:
    """A chain of dense layers whose matrices are `megabytes` together, with nothing to fold into them."""
    from tensorflow.core.framework.graph_pb2 import GraphDef
    graph_def, random = GraphDef(), np.random.default_rng(seed)
    _placeholder(graph_def, (-1, _SIDE))
    now = "x"
    for number in range(megabytes // 4):
        _const(graph_def, f"W{number}", random.standard_normal((_SIDE, _SIDE), np.float32))
        _add(graph_def, f"read{number}", "Identity", f"W{number}")
        _add(graph_def, f"dense{number}", "MatMul", now, f"read{number}")
        _add(graph_def, f"relu{number}", "Relu", f"dense{number}")
        now = f"relu{number}"
    _add(graph_def, "y", "Identity", now)
    return graph_def


def measured(tool: bool, nodes: int, megabytes: int, transforms: str) -> dict[str, Any]:
    """The figures of one run in a new process."""
    command = [sys.executable, __file__, "tool" if tool else "ours", str(nodes), str(megabytes), transforms]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).resolve().parents[2])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _placeholder(graph_def: Any, shape: tuple[int, ...]) -> None:
    node = graph_def.node.add(name="x", op="Placeholder")
    node.attr["dtype"].type = 1
    for size in shape:
        node.attr["shape"].shape.dim.add(size=size)


def _const(graph_def: Any, name: str, value: Any) -> None:
    node = graph_def.node.add(name=name, op="Const")
    node.attr["dtype"].type = 1
    proto = node.attr["value"].tensor
    proto.dtype, proto.tensor_content = 1, value.astype(np.float32).tobytes()
    for size in value.shape:
        proto.tensor_shape.dim.add(size=size)


def _add(graph_def: Any, name: str, op: str, *inputs: str) -> Any:
    node = graph_def.node.add(name=name, op=op, input=inputs)
    node.attr["T"].type = 1
    return node


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _main(which: str, nodes: int, megabytes: int, transforms: str) -> None:
    sys.path.insert(0, str(Path.cwd()))
    from export.graph import Graph
    from export.graph_file import as_graph_def, whole
    from export.pipeline import NAMED, run, without_cycle_collection
    from export.runtime import tf
    content = (heavy(megabytes) if megabytes else synthetic(nodes)).SerializeToString()
    # A small run first: what is imported and cached on the way is not the graph's cost.
    run(Graph.from_graph_def(synthetic(100), ["x"], ["y"]), transforms)
    before, began, figures = _peak_mb(), time.process_time(), {}
    if which == "tool":
        from tensorflow.python.util import _pywrap_transform_graph
        text = " ".join(NAMED.get(transforms, transforms).split())
        _pywrap_transform_graph.TransformGraphWithStringInputs(content, "x", "y", text)
    else:
        with without_cycle_collection():
            graph = Graph.from_graph_def(tf.compat.v1.GraphDef.FromString(content), ["x"], ["y"])
            read = time.process_time()
            graph, _ = run(graph, transforms)
            figures["pipeline_cpu_s"] = round(time.process_time() - read, 4)
            as_graph_def(whole(graph)).SerializeToString()
    print(json.dumps({"cpu_s": round(time.process_time() - began, 3), "peak_mb": round(_peak_mb() - before),
                      "graph_mb": round(len(content) / 2**20, 1), **figures}))


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
