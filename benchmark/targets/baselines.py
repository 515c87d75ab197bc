"""The baselines that the embedded server is compared with: servers that do nothing, and common alternatives."""
import sys
from pathlib import Path

from benchmark.targets.addresses import Access
from benchmark.targets.target import Target
from serving.protos import saved_model_pb2, tensor_shape_pb2, types_pb2
from whole_file import write_bytes

TRIVIAL = "trivial"
WIDTH = 4


def trivial(folder: Path) -> Path:
    """Writes folder/trivial/identity/1, without TensorFlow: float x [-1, 4] -> the same x. Returns its base path."""
    shape = tensor_shape_pb2.TensorShapeProto(dim=[{"size": -1}, {"size": WIDTH}])
    saved = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    meta = saved.meta_graphs.add()
    meta.meta_info_def.tags.append("serve")
    given = meta.graph_def.node.add(name="given", op="Placeholder")
    given.attr["dtype"].type = types_pb2.DT_FLOAT
    given.attr["shape"].shape.CopyFrom(shape)
    meta.graph_def.node.add(name="same", op="Identity", input=["given"]).attr["T"].type = types_pb2.DT_FLOAT
    signature = meta.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    for tensors, name in ((signature.inputs, "given:0"), (signature.outputs, "same:0")):
        tensors["x"].name, tensors["x"].dtype = name, types_pb2.DT_FLOAT
        tensors["x"].tensor_shape.CopyFrom(shape)
    base = folder / TRIVIAL / "identity"
    (base / "1").mkdir(parents=True)
    write_bytes(base / "1" / "saved_model.pb", saved.SerializeToString())
    return base


def empty(base: Path) -> Target:
    """A server with the embedded server's HTTP and gRPC layers whose handlers run no model; it gives the same answers
    as the trivial model."""
    return _command("empty handler", TRIVIAL, base, "serving.empty", "--port", "{port}", "--rest_api_port",
                    "{rest_port}")


def web_app(kind: str, name: str, target: Target) -> Target:
    """A FastAPI application around the target's newest version; kind: "predict" or "function" (see `web_app.py`)."""
    assert target.base_path is not None
    return _command(name, target.model, target.base_path, "benchmark.targets.in_process.web_app", kind,
                    str(target.version_directory), "--model", target.model, "--port", "{rest_port}",
                    "--signature", target.signature or "serving_default")


def _command(name: str, model: str, base: Path, module: str, *arguments: str) -> Target:
    version = Target(name, model, base_path=base).version_directory
    # The program reports no signatures: clients read them from the version's files.
    return Target(name, model, "command", base, argv=(sys.executable, "-m", module, *arguments),
                  access=Access(saved_model=str(version)))
