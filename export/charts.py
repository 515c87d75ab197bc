"""Charts of a described graph: one HTML file with bars, and an event file for TensorBoard."""
from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import time

from export.graph import Graph, Node
from export.graph_file import as_graph_def, whole

_BIG = 1024
_STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1a1a1a }
h1 { font-size: 1.3rem } table { border-collapse: collapse; margin: 1rem 0 2rem }
td, th { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; overflow-wrap: anywhere }
.bar { height: .75rem; border-radius: 2px; min-width: 1px } .n { text-align: right; font-variant-numeric: tabular-nums }
.c0 { background: #3b6fb6 } .c1 { background: #e0823d } .bars { width: 28rem }
@media (prefers-color-scheme: dark) { body { background: #16181c; color: #e6e6e6 } }
"""

Model = tuple[str, Mapping[str, int], Sequence[tuple[str, str]]]


def page(models: Sequence[Model]) -> str:
    """An HTML page that loads nothing from the network: each model's name, nodes by operation, and figures."""
    title = " and ".join(name for name, _, _ in models)
    most = max((count for _, ops, _ in models for count in ops.values()), default=1)
    figures = "".join(
        f"<tr><th>{html.escape(label)}</th>" + "".join(
            f"<td>{html.escape(dict(rows).get(label, '-'))}</td>" for _, _, rows in models) + "</tr>"
        for label, _ in models[0][2])
    bars = "".join(
        f"<tr><th>{html.escape(op)}</th><td class=bars>" + "".join(
            f'<div class="bar c{index}" style="width:{100 * ops.get(op, 0) / most:.2f}%"></div>'
            for index, (_, ops, _) in enumerate(models)) + "</td>" + "".join(
            f"<td class=n>{ops.get(op, 0)}</td>" for _, ops, _ in models) + "</tr>"
        for op in dict.fromkeys(op for _, ops, _ in models for op in ops))
    head = "".join(f'<th><span class="bar c{index}" style="display:inline-block;width:.75rem"></span> '
                   f"{html.escape(name)}</th>" for index, (name, _, _) in enumerate(models))
    return (f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>"
            f"<h1>Operations of {html.escape(title)}</h1><table><tr><th></th>{head}</tr>{figures}</table>"
            f"<table><tr><th>operation</th><th></th>{head}</tr>{bars}</table>")


def write_event_file(directory: Path, nodes: Sequence[Node]) -> Path:
    """Writes an event file with the nodes' graph, without constants over 1 KB, which TensorBoard does not show."""
    from tensorflow.core.util.event_pb2 import Event

    from export.runtime import tf, writing
    graph = Graph({item.name: item.with_attrs(without=("value",)) if item.op == "Const"
                   and item.attrs["value"].ByteSize() > _BIG else item for item in nodes})
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"events.out.tfevents.{int(time())}.export"
    packed = as_graph_def(whole(graph)).SerializeToString()
    try:
        with writing(path), tf.io.TFRecordWriter(str(path)) as writer:
            writer.write(Event(wall_time=time(), file_version="brain.Event:2").SerializeToString())
            writer.write(Event(wall_time=time(), graph_def=packed).SerializeToString())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path
