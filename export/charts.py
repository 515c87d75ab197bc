"""Charts of a described graph: one HTML file with bars, and an event file for TensorBoard."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from time import time

from export.graph import Graph, Node
from export.graph_file import as_graph_def, whole

_BIG = 1024
# The stylesheet of all reports: read as a file, since export imports nothing of benchmark.
_STYLESHEET = Path(__file__).parents[1] / "benchmark" / "reports" / "page.css"  # decision 124
_OWN_STYLE = """
.break{overflow-wrap:anywhere}th.wrap{text-align:left}
.ops{height:10px;border-radius:2px;min-width:2px;margin:2px 0;background:var(--own)}td.bars{width:45%;min-width:5em}
.ops.none{visibility:hidden}td.text{min-width:9.5em}table.counts th{white-space:nowrap}
.key{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:6px;background:var(--own)}
"""
_COLOURS = 6  # the stylesheet's

Model = tuple[str, Mapping[str, int], Sequence[tuple[str, str]]]


def page(models: Sequence[Model]) -> str:
    """An HTML page that loads nothing from the network: each model's name, nodes by operation, and figures."""
    title = "Operations of " + " and ".join(name for name, _, _ in models)
    key = "".join(f'<span><span class="key {_colour(index)}"></span>{escape(name)}</span>'
                  for index, (name, _, _) in enumerate(models))
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f'<style>{_STYLESHEET.read_text(encoding="utf-8")}{_OWN_STYLE}</style></head>'
            f'<body><header><h1 class="break">{escape(title)}</h1></header><p class="legend">{key}</p>'
            f"<h2>Figures</h2>{_figures(models)}<h2>Nodes by operation</h2>{_operations(models)}</body></html>\n")


def _figures(models: Sequence[Model]) -> str:
    labels = dict.fromkeys(label for _, _, figures in models for label, _ in figures)
    rows = [(label, [dict(figures).get(label, "-") for _, _, figures in models]) for label in labels]
    return _table(models, "", ["".join(f'<td class="wrap">{escape(value)}</td>' for value in values)
                               for _, values in rows], [label for label, _ in rows], "wrap")


def _operations(models: Sequence[Model]) -> str:
    most = max((count for _, ops, _ in models for count in ops.values()), default=1)
    names = list(dict.fromkeys(op for _, ops, _ in models for op in ops))
    rows = []
    for name in names:
        counts = [ops.get(name, 0) for _, ops, _ in models]
        bars = "".join(f'<div class="ops {_colour(index)}{"" if count else " none"}" '
                       f'style="width:{100 * count / most:.2f}%"></div>' for index, count in enumerate(counts))
        rows.append(f'<td class="bars">{bars}</td>' + "".join(f"<td>{count}</td>" for count in counts))
    return _table(models, '<th class="text"></th>', rows, names).replace("<table>", '<table class="counts">')


def _table(models: Sequence[Model], before: str, rows: Sequence[str], labels: Sequence[str], style: str = "") -> str:
    """A table that scrolls within itself, with a column for each model."""
    head = "".join(f'<th class="{style}"><span class="key {_colour(index)}"></span>{escape(Path(name).parent.name)}/'
                   f"{escape(Path(name).name)}</th>" for index, (name, _, _) in enumerate(models))
    body = "".join(f'<tr><td class="text">{escape(label)}</td>{row}</tr>'
                   for label, row in zip(labels, rows, strict=True))
    return f'<div class="scroll"><table><tr><th class="text"></th>{before}{head}</tr>{body}</table></div>'


def _colour(index: int) -> str:
    return f"c{index % _COLOURS}"


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
