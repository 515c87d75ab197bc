"""Runs GraphDefs as TensorFlow Serving does: in a v1 Session, without eager mode or Keras."""
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.graph import Graph
from export.graph_file import as_graph_def, whole
from export.pipeline import Report
from export.pipeline import run as run_pipeline
from export.runtime import tf
from serving.client.answers import Budget, Comparison, compare


def build(make: Any) -> Any:
    """The GraphDef of the nodes that `make()` adds to an empty v1 graph."""
    graph = tf.Graph()
    with graph.as_default():
        make()
    return graph.as_graph_def()


@contextmanager
def v1_control_flow() -> Iterator[None]:
    """Within this context, loops, conditionals and TensorArrays are built as in TensorFlow 1."""
    tf.compat.v1.disable_control_flow_v2()
    try:
        yield
    finally:
        tf.compat.v1.enable_control_flow_v2()


def session_run(graph_def: Any, fetches: Sequence[str], feeds: Mapping[str, Any],
                before: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """The fetched tensors by name. First the nodes `before` (such as an initialiser) run in the same session."""
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(graph_def, name="")
    config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    refs = [_tensor(name) for name in fetches]
    with tf.compat.v1.Session(graph=graph, config=config) as session:
        if before:
            session.run(list(before))
        values = session.run(refs, {_tensor(name): value for name, value in feeds.items()})
    return {name: np.asarray(value) for name, value in zip(fetches, values, strict=True)}


def runtime_graph(graph_def: Any, fetch: str, feeds: Mapping[str, Any]) -> Any:
    """The GraphDef that the session runs, after TensorFlow's own optimizer and its fusions."""
    v1 = tf.compat.v1
    graph, ran = tf.Graph(), v1.RunMetadata()
    with graph.as_default():
        tf.import_graph_def(graph_def, name="")
    with v1.Session(graph=graph) as session:
        session.run(_tensor(fetch), {_tensor(name): value for name, value in feeds.items()},
                    v1.RunOptions(output_partition_graphs=True), ran)
    return ran.partition_graphs[0]


def transformed(graph_def: Any, inputs: Sequence[str], outputs: Sequence[str], transforms: str) -> tuple[Any, Report]:
    """The GraphDef after our pipeline, and the report of its steps."""
    graph, report = run_pipeline(Graph.from_graph_def(graph_def, inputs, outputs), transforms)
    return as_graph_def(whole(graph)), report


def compared(before: Any, after: Any, outputs: Sequence[str], feeds: Mapping[str, Any],
             budget: Budget | None = None) -> Comparison:
    """Runs both graphs on the same feeds and compares their outputs."""
    return compare(session_run(before, outputs, feeds), session_run(after, outputs, feeds), budget)


def ops(graph_def: Any) -> dict[str, int]:
    """How many nodes there are of each op."""
    found: dict[str, int] = {}
    for item in graph_def.node:
        found[item.op] = found.get(item.op, 0) + 1
    return found


def reasons(report: Report) -> list[str]:
    return [reason for step in report.steps for _, reason in step.skipped]


def seeded(shape: Sequence[int], seed: int = 0, dtype: Any = np.float32) -> NDArray[Any]:
    """Standard normal values."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def _tensor(name: str) -> str:
    return name if ":" in name or name.startswith("^") else f"{name}:0"
