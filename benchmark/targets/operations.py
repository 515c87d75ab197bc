"""The operations of a model version, counted from its SavedModel without TensorFlow."""
from collections import Counter
from pathlib import Path

from benchmark.verdicts.records import OperationsRecord
from serving.protos import saved_model_pb2
from version_directory import read_model


def operations(version: Path) -> OperationsRecord:
    """{"nodes": count, "ops": {type: count}} of the serving graph, including the bodies of its functions.

    A function's body counts once, however often the function is called.
    """
    saved = saved_model_pb2.SavedModel()
    read_model(version, saved)
    served = next((graph for graph in saved.meta_graphs if "serve" in graph.meta_info_def.tags), None)
    if served is None:
        return {"nodes": 0, "ops": {}}
    counts = Counter(node.op for node in served.graph_def.node)
    for function in served.graph_def.library.function:
        counts.update(node.op for node in function.node_def)
    return {"nodes": counts.total(), "ops": dict(counts.most_common())}
