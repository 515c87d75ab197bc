import math
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from export.graph import Graph, Node, make_const, nearest, producer, tensor_name
from export.pattern import Skip
from export.transform import Arg, Arguments, Draft, Record, TransformError, transform

_LINE = re.compile(r";([^;]*)__print__;__requant_min_max:\[([^\[\]]*)\]\[([^\[\]]*)\]")
_NAME = "freeze_requantization_ranges"
Ranges = dict[str, tuple[float, float]]


@transform(
    _NAME,
    Arg("min_max_log_file", required=True, help="what a graph wrote to standard error after insert_logging("
        "op=RequantizationRange, show_name=true, message=__requant_min_max:)"),
    Arg("min_percentile", "float", 5.0, help="how many percent of the lowest minima to leave out"),
    Arg("max_percentile", "float", 5.0, help="how many percent of the highest maxima to leave out"),
    bodies=False)
def freeze_requantization_ranges(graph: Graph, args: Arguments, record: Record) -> Graph:
    """RequantizationRange -> two constants: its range in a log of its outputs.

    The constants are NAME/frozen_min and NAME/frozen_max. Other lines of the log are ignored. Of all minima and maxima
    that a node logged, the given percentiles are left out.
    It is an error if the log names a node that the graph does not have, or has no range at all.

    Safe when: the logged node is a RequantizationRange and not a requested input or output. Values outside of the
      frozen range are clipped to it.
    Source: Graph Transform Tool, freeze_requantization_ranges.
    """
    ranges = _ranges(args)
    draft = Draft(graph)
    for name, limits in ranges.items():
        if name not in graph.nodes:
            raise TransformError(f"{_NAME}: the log names node '{name}', which is not in the graph"
                                 f"{nearest(name, graph.nodes)}: log the graph that is transformed")
        try:
            _freeze(draft, draft.nodes[name], limits)
            record.applied += 1
        except Skip as skip:
            record.skip(name, skip.reason)
    return draft.result()


def _freeze(draft: Draft, item: Node, limits: tuple[float, float]) -> None:
    if item.op != "RequantizationRange":
        raise TransformError(f"{_NAME}: node '{item.name}' of the log is {item.op}, not RequantizationRange")
    if item.name in draft.kept:
        raise Skip("it is itself a requested input or output")
    # These control inputs keep the constants in the frame of a v1 loop, and in order.
    controls = dict.fromkeys((f"^{producer(item.data[0])}", *item.controls))
    names = []
    for number, part in enumerate(("min", "max")):
        names.append(draft.unused_name(f"{item.name}/frozen_{part}"))
        draft.put(make_const(names[-1], np.asarray(limits[number], np.float32), controls, item.device))
        draft.redirect(tensor_name(item.name, number), names[-1])
    for reader in list(draft.consumers.get(item.name, ())):
        waiting = draft.nodes[reader]
        draft.put(waiting.with_inputs(f"^{names[0]}" if ref == f"^{item.name}" else ref for ref in waiting.inputs))
    draft.drop(item.name)


def _ranges(args: Arguments) -> Ranges:
    path = Path(args["min_max_log_file"]).expanduser()
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise TransformError(f"{_NAME}: min_max_log_file={path}: {error.strerror}") from None
    minima: dict[str, list[float]] = {}
    maxima: dict[str, list[float]] = {}
    for name, low, high in _LINE.findall(text):
        try:
            limits = float(low), float(high)
        except ValueError:
            continue
        if all(map(math.isfinite, limits)):
            minima.setdefault(name, []).append(limits[0])
            maxima.setdefault(name, []).append(limits[1])
    if not minima:
        raise TransformError(f"{_NAME}: no ranges in min_max_log_file={path}: run the graph after insert_logging("
                             'op=RequantizationRange, show_name=true, message="__requant_min_max:")')
    return {name: (_at(minima[name], args["min_percentile"] / 100), _at(maxima[name], 1 - args["max_percentile"] / 100))
            for name in minima}


def _at(values: Iterable[float], share: float) -> float:
    """The value below which this share of the sorted values lies."""
    ordered = sorted(values)
    return ordered[min(max(math.floor(len(ordered) * share + 0.5), 0), len(ordered) - 1)]
