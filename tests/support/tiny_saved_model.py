"""A minimal SavedModel, y = x * W, written without TensorFlow."""
from pathlib import Path

import numpy as np

from serving import tensor_proto
from serving.protos import saved_model_pb2, types_pb2


def write_tiny_saved_model(version: Path, scale: float = 1.0) -> None:
    """Writes version/saved_model.pb: float x [-1, 4] -> y [-1, 3]; y is proportional to `scale`."""
    saved = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    meta = saved.meta_graphs.add()
    meta.meta_info_def.tags.append("serve")
    meta.meta_info_def.tensorflow_version = "2.21.0"
    x = meta.graph_def.node.add(name="x", op="Placeholder")
    x.attr["dtype"].type = types_pb2.DT_FLOAT
    for size in (-1, 4):
        x.attr["shape"].shape.dim.add(size=size)
    weights = meta.graph_def.node.add(name="w", op="Const")
    weights.attr["dtype"].type = types_pb2.DT_FLOAT
    values = scale * np.arange(1, 13, dtype=np.float32).reshape(4, 3)
    weights.attr["value"].tensor.CopyFrom(tensor_proto.to_proto(values))
    product = meta.graph_def.node.add(name="y", op="MatMul", input=["x", "w"])
    product.attr["T"].type = types_pb2.DT_FLOAT
    product.attr["transpose_a"].b = product.attr["transpose_b"].b = False
    signature = meta.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    for tensors, name, width in ((signature.inputs, "x", 4), (signature.outputs, "y", 3)):
        tensors[name].name = f"{name}:0"
        tensors[name].dtype = types_pb2.DT_FLOAT
        for size in (-1, width):
            tensors[name].tensor_shape.dim.add(size=size)
    version.mkdir(parents=True, exist_ok=True)
    (version / "saved_model.pb").write_bytes(saved.SerializeToString())
