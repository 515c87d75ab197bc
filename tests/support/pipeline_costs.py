"""CPU time and memory of our pipeline or the Graph Transform Tool on a synthetic graph, measured in a child process.

    python tests/support/pipeline_costs.py ours 10000 0 default     ->  {"cpu_s": ..., "peak_mb": ...}

`cpu_s` is the time from reading one GraphDef file to writing another, over all threads. `peak_mb` is the peak memory
minus the memory before the file was read. `pipeline_cpu_s` is the part of `cpu_s` that our steps took.
"""
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

_SIDE = 1000  # of the large matrices: 4 MB each
_CHANNELS = 4


def synthetic(nodes: int, seed: int = 0) -> Any:
    """A chain of convolutions, each with a batch norm of Mul and AddV2, and a Relu; no node reads some of the nodes."""
    from tensorflow.core.framework.graph_pb2 import GraphDef
    graph_def, random = GraphDef(), np.random.default_rng(seed)
    _placeholder(graph_def, (-1, 8, 8, _CHANNELS))
    current, block = "x", 0
    while len(graph_def.node) < nodes - 1:
        name = f"block{block}"
        _const(graph_def, f"{name}/W", random.standard_normal((3, 3, _CHANNELS, _CHANNELS)) / 6)
        _add(graph_def, f"{name}/conv", "Conv2D", current, f"{name}/W").attr["padding"].s = b"SAME"
        graph_def.node[-1].attr["strides"].list.i.extend([1] * 4)
        _const(graph_def, f"{name}/scale", random.random(_CHANNELS) + 0.5)
        _add(graph_def, f"{name}/mul", "Mul", f"{name}/conv", f"{name}/scale")
        _const(graph_def, f"{name}/offset", random.standard_normal(_CHANNELS))
        _add(graph_def, f"{name}/add", "AddV2", f"{name}/mul", f"{name}/offset")
        _add(graph_def, f"{name}/read", "Identity", f"{name}/add")
        _add(graph_def, f"{name}/relu", "Relu", f"{name}/read")
        if block % 7 == 0:
            _add(graph_def, f"{name}/unread", "Relu", f"{name}/relu")
        current, block = f"{name}/relu", block + 1
    _add(graph_def, "y", "Identity", current)
    return graph_def


def heavy(megabytes: int, seed: int = 0) -> Any:
    """A chain of dense layers whose matrices take `megabytes` in total, with nothing to fold into them."""
    from tensorflow.core.framework.graph_pb2 import GraphDef
    graph_def, random = GraphDef(), np.random.default_rng(seed)
    _placeholder(graph_def, (-1, _SIDE))
    current = "x"
    for number in range(megabytes // 4):
        _const(graph_def, f"W{number}", random.standard_normal((_SIDE, _SIDE), np.float32))
        _add(graph_def, f"read{number}", "Identity", f"W{number}")
        _add(graph_def, f"dense{number}", "MatMul", current, f"read{number}")
        _add(graph_def, f"relu{number}", "Relu", f"dense{number}")
        current = f"relu{number}"
    _add(graph_def, "y", "Identity", current)
    return graph_def


def measured(tool: bool, nodes: int, megabytes: int, transforms: str) -> dict[str, Any]:
    """Measures one run in a new process; returns its figures."""
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


def _resident_mb(what: str) -> float:
    """Resident memory: VmRSS is the current value, VmHWM the peak since `_reset_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1]) / 1024


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _main(which: str, nodes: int, megabytes: int, transforms: str) -> None:
    sys.path.insert(0, str(Path.cwd()))
    from export.graph import Graph
    from export.graph_file import read_graph_def, whole, write_graph_def
    from export.pipeline import NAMED, run
    from freed_memory import give_back_memory
    # A small run first, so that imports and caches are not counted for the measured graph.
    run(Graph.from_graph_def(synthetic(100), ["x"], ["y"]), transforms)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.pb"), Path(folder, "out.pb")
        source.write_bytes((heavy(megabytes) if megabytes else synthetic(nodes)).SerializeToString())
        give_back_memory()
        _reset_peak()
        before, began, figures = _resident_mb("VmRSS"), time.process_time(), {}
        if which == "tool":
            from tensorflow.python.util import _pywrap_transform_graph
            text = " ".join(NAMED.get(transforms, transforms).split())
            target.write_bytes(_pywrap_transform_graph.TransformGraphWithStringInputs(
                source.read_bytes(), "x", "y", text))
        else:
            graph = Graph.from_graph_def(read_graph_def(source), ["x"], ["y"])
            read = time.process_time()
            graph, _ = run(graph, transforms)
            figures["pipeline_cpu_s"] = round(time.process_time() - read, 4)
            write_graph_def(target, whole(graph))
        print(json.dumps({"cpu_s": round(time.process_time() - began, 3),
                          "peak_mb": round(_resident_mb("VmHWM") - before),
                          "graph_mb": round(source.stat().st_size / 2**20, 1), **figures}))


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
