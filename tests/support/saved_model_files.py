"""SavedModels with signatures but without a graph, written without TensorFlow."""
from pathlib import Path

from serving.protos import saved_model_pb2, types_pb2


def save_signature(version: Path, tags: tuple[str, ...] = ("serve",)) -> Path:
    """Writes a version directory: serving_default from `x` to `y`, both float [-1], and TF2's init op."""
    saved = saved_model_pb2.SavedModel()
    graph = saved.meta_graphs.add()
    graph.meta_info_def.tags.extend(tags)
    definition = graph.signature_def["serving_default"]
    definition.method_name = "tensorflow/serving/predict"
    for tensors, name in ((definition.inputs, "x"), (definition.outputs, "y")):
        tensors[name].dtype = types_pb2.DT_FLOAT
        tensors[name].tensor_shape.dim.add(size=-1)
    graph.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = "NoOp"
    version.mkdir(parents=True)
    (version / "saved_model.pb").write_bytes(saved.SerializeToString())
    return version
