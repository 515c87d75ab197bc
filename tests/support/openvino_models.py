"""SavedModels with assets.extra/openvino/ beside, made by OpenVINO's own reader of TensorFlow graphs.

This is not how `optimize --engine openvino` makes the files; it is the shortest way to files of that form.
"""
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from graph_session import build, seeded, session_run
from saved_models import save_v1, signature

from export.runtime import tf
from serving.engines.openvino import OpenVINOModel, load
from serving.engines.openvino_graph import Resources
from serving.engines.openvino_runtime import openvino
from serving.memory import MemoryLimit

v1 = tf.compat.v1
Signatures = Mapping[str, tuple[Mapping[str, str], Mapping[str, str]]]
ONE: Signatures = {"serving_default": ({"image": "x"}, {"scores": "y"})}


def layers() -> None:
    x = v1.placeholder(tf.float32, (None, 6, 6, 3), "x")
    made = tf.nn.relu(tf.nn.conv2d(x, seeded((3, 3, 3, 4)), 1, "SAME"))
    pooled = tf.nn.max_pool2d(made, 2, 2, "VALID", name="pooled")
    tf.nn.softmax(tf.matmul(tf.reshape(pooled, [-1, 36]), tf.constant(seeded((36, 5)) / 20)), name="y")


def write(path: Path, nodes: Callable[[], None] = layers, signatures: Signatures = ONE, precision: str = "float32",
          left: Collection[str] = ()) -> Path:
    """A version with both; `signatures`: keys of inputs and outputs with the names of their nodes.

    left: signatures that get no graph. Returns `path`.
    """
    graph_def = build(nodes)
    with v1.Graph().as_default() as graph, v1.Session() as session:
        tf.import_graph_def(graph_def, name="")
        save_v1(path, session, {key: signature(*({alias: graph.get_tensor_by_name(f"{name}:0")
                                                  for alias, name in side.items()} for side in sides))
                                for key, sides in signatures.items()})
    folder = path / "assets.extra" / "openvino"
    folder.mkdir(parents=True)
    made: dict[str, dict[str, Any]] = {}
    for key, (inputs, outputs) in signatures.items():
        tensors = tuple(sorted(f"{name}:0" for name in side.values()) for side in (inputs, outputs))
        if key not in left and str(tensors) not in made:
            made[str(tensors)] = _graph(graph_def, *tensors, folder, len(made), precision)
    (folder / "engine.json").write_text(json.dumps({
        "precision": precision, "graphs": list(made.values()), "left": dict.fromkeys(left, "a test leaves it"),
        "sha256": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}}))
    return path


def _graph(graph_def: Any, inputs: list[str], outputs: list[str], folder: Path, number: int,
           precision: str) -> dict[str, Any]:
    part = v1.graph_util.extract_sub_graph(graph_def, [name.partition(":")[0] for name in outputs])
    with tempfile.TemporaryDirectory() as temporary:
        frozen = Path(temporary, "frozen.pb")
        frozen.write_bytes(part.SerializeToString())
        model = openvino.Core().read_model(frozen)
    there = {name for port in model.outputs for name in port.get_names()}
    model.add_outputs([name for name in outputs if name not in there])
    if precision == "int8":
        os.environ["NNCF_CI"] = "1"  # so that it reports to nobody
        import nncf
        nncf.set_log_level(40)
        shape = [size.get_length() if size.is_static else 8 for size in model.inputs[0].get_partial_shape()]
        model = nncf.quantize(model, nncf.Dataset([seeded(shape, seed) for seed in range(4)]), subset_size=4)
    openvino.save_model(model, str(folder / f"{number}.xml"), compress_to_fp16=False)
    return {"model": f"{number}.xml", "weights": f"{number}.bin",
            "inputs": [next(name for name in inputs if name in port.get_names()) for port in model.inputs],
            "outputs": [next(name for name in outputs if name in port.get_names()) for port in model.outputs]}


def answers(x: Any, fetch: str = "y", nodes: Callable[[], None] = layers) -> Any:
    """What TensorFlow answers to `x`."""
    return session_run(build(nodes), [fetch], {"x": x})[fetch]


def loaded(path: Path, streams: int = 1, memory: MemoryLimit | None = None, beside: Any = None,
           threads: int = 2) -> OpenVINOModel:
    """The version as the server has it, in this process; the caller closes it."""
    return load("m", 1, path, ["serve"], Resources(threads, streams, memory or MemoryLimit(-1)), beside)


def images(batch: int, seed: int = 1) -> Any:
    """What `layers` takes."""
    return seeded((batch, 6, 6, 3), seed)


def scores(model: OpenVINOModel, x: Any, timeout_s: float | None = None) -> Any:
    return model.run(["x:0"], [x], ["y:0"], timeout_s)[0]
