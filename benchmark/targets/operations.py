"""What a model version consists of, read from its SavedModel without TensorFlow."""
from collections import Counter
from pathlib import Path

from google.protobuf import text_format
from google.protobuf.message import DecodeError

from benchmark.verdicts.records import OperationsRecord
from serving.protos import saved_model_pb2
from user_error import UserError


def operations(version: Path) -> OperationsRecord:
    """{"nodes": how many, "ops": {type: count}} of the serving graph, the bodies of its functions included.

    A body counts once however often it is called, as it does in the file.
    """
    saved = saved_model_pb2.SavedModel()
    try:
        if (version / "saved_model.pb").is_file():
            saved.ParseFromString((version / "saved_model.pb").read_bytes())
        else:
            text_format.Parse((version / "saved_model.pbtxt").read_text(encoding="utf-8"), saved)
    except (DecodeError, text_format.ParseError, UnicodeDecodeError):
        raise UserError(f"{version}: its saved_model.pb is damaged, or none: export the model again") from None
    served = next((graph for graph in saved.meta_graphs if "serve" in graph.meta_info_def.tags), None)
    if served is None:
        return {"nodes": 0, "ops": {}}
    counts = Counter(node.op for node in served.graph_def.node)
    for function in served.graph_def.library.function:
        counts.update(node.op for node in function.node_def)
    return {"nodes": counts.total(), "ops": dict(counts.most_common())}
