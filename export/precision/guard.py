"""A graph that no request can end the server's process with.

    safe = guarded(graph)

TensorFlow 2.21's oneDNN kernels end the process in three cases, which `guarded` makes an answer or INVALID_ARGUMENT:

- Dequantize in mode SCALED of an empty tensor: it becomes mode MIN_COMBINED, which has another kernel, with the range
  for which both compute the same.
- A convolution, float or int8, of a tensor whose rank is not 4: the fed tensors are held to their declared shapes.
- The residual addition inside an int8 convolution (`Sum`) of tensors that differ in size, where it reads and writes
  past their ends: the summand is broadcast as AddV2 would, or refused, unless the graph shows that the sizes agree.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, count

import numpy as np

from export.graph import Graph, Node, make_const, make_node, normal, port, producer
from export.ops import PLACEHOLDERS, attribute, output_dtypes
from export.precision import rows
from export.precision.rows import State
from export.tensors import BFLOAT16, FLOAT, INT32, QUINT8, UINT8

_INT8 = ("_FusedQuantizedConv2D", "_FusedQuantizedDepthwiseConv2D")
# Their kernels look at four dimensions before anything checks that there are four.
_RANK_4 = frozenset((*_INT8, "Conv2D", "DepthwiseConv2dNative"))
_SUMMAND = 3
# qint8 in mode SCALED is -127 to 127, in mode MIN_COMBINED -128 to 127.
_LOWEST = -128 / 127


def guarded(graph: Graph) -> Graph:  # decision 165
    """The same graph with guards, which cost a microsecond or less each; the graph itself if it needs none."""
    bodies = {name: _rewritten(body, _local) for name, body in graph.bodies.items()}
    made = _rewritten(replace(graph, bodies=bodies), _declared, _local)
    return graph if made.nodes == graph.nodes and bodies == dict(graph.bodies) else made.validate("guard")


@dataclass
class _Draft:
    """New nodes, and for each reader the tensors that it reads instead of others."""

    graph: Graph
    nodes: dict[str, Node]
    instead: dict[tuple[str, str], str] = field(default_factory=dict)

    @cached_property
    def has_loops(self) -> bool:
        return any(item.op in ("Enter", "RefEnter") for item in self.graph.nodes.values())

    def add(self, like: str, op: str, inputs: tuple[str, ...], **attrs: object) -> str:
        name = self._unused(f"{like}/guard/{op}")
        self.nodes[name] = make_node(name, op, inputs, self.graph.nodes[like].device, **attrs)
        return name

    def constant(self, like: str, value: object) -> str:
        name = self._unused(f"{like}/guard/const")
        # The control input keeps the constant in the frame of the node, which may be in a v1 loop.
        beside = self.graph.nodes[like].data[:1] if self.has_loops else ()
        self.nodes[name] = make_const(name, np.asarray(value), [f"^{producer(ref)}" for ref in beside])
        return name

    def _unused(self, name: str) -> str:
        return next(one for one in chain([name], (f"{name}_{number}" for number in count(1))) if one not in self.nodes)


def _rewritten(graph: Graph, *steps: Callable[[_Draft], None]) -> Graph:
    for step in steps:
        draft = _Draft(graph, dict(graph.nodes))
        step(draft)
        for reader in {name for name, _ in draft.instead}:
            item = draft.nodes[reader]
            draft.nodes[reader] = item.with_inputs(
                draft.instead.get((item.name, normal(one)), one) for one in item.inputs)
        if len(draft.nodes) > len(graph.nodes) or draft.instead:
            graph = graph.with_nodes(draft.nodes.values())
    return graph


def _declared(draft: _Draft) -> None:
    """The fed tensors that a convolution depends on must have the shapes that their placeholders declare."""
    graph = draft.graph
    fragile = [item.name for item in graph.nodes.values() if item.op in _RANK_4]
    needed = graph.reachable(fragile)
    for ref in graph.inputs:
        item, shape = graph.nodes[producer(ref)], graph.shapes.get(ref)
        if item.op not in PLACEHOLDERS or item.name not in needed or shape is None:
            continue
        dtypes = output_dtypes(item)
        readers = [name for name in graph.consumers.get(item.name, ()) if any(
            normal(one) == ref for one in graph.nodes[name].data)]
        if not dtypes or {graph.nodes[name].op for name in readers} <= {"EnsureShape"}:
            continue
        name = draft.add(item.name, "EnsureShape", (ref,), T=dtypes[0],
                         shape=tuple(-1 if size is None else size for size in shape))
        draft.instead.update({(reader, ref): name for reader in readers})


def _local(draft: _Draft) -> None:
    graph = draft.graph
    states: dict[str, State] = {}
    if any(_has_sum(item) for item in graph.nodes.values()):
        states = rows.follow(graph)
    for item in graph.nodes.values():
        if item.op in _RANK_4 and graph.shapes.get(item.data[0]) is None:
            _four_dimensions(draft, item)
        if _has_sum(item) and not _same_size(graph, states, item):
            _compared_sizes(draft, item)
        if item.op == "Dequantize" and attribute(item, "mode") == "SCALED" and attribute(item, "axis") in (-1, None) \
                and attribute(item, "dtype") in (None, FLOAT, BFLOAT16) and _may_be_empty(graph, item.data[0]):
            _combined(draft, item)


def _may_be_empty(graph: Graph, ref: str) -> bool:
    shape = graph.shapes.get(normal(ref))
    return shape is None or any(not size for size in shape)


def _has_sum(item: Node) -> bool:
    return item.op in _INT8 and "Sum" in (item.get("fused_ops") or ())


def _four_dimensions(draft: _Draft, item: Node) -> None:
    """The shape is not known before the graph runs: four sizes."""
    draft.instead[item.name, normal(item.data[0])] = draft.add(
        item.name, "EnsureShape", (item.data[0],), T=item.attrs["Tinput" if item.op in _INT8 else "T"],
        shape=(-1, -1, -1, -1))


def _same_size(graph: Graph, states: dict[str, State], item: Node) -> bool:
    """Whether the summand certainly has the size of the convolution's result."""
    result, summand = graph.shapes.get(item.name), graph.shapes.get(normal(item.data[_SUMMAND]))
    if not result or not summand or None in result[1:] or result[1:] != summand[1:]:
        return False
    if result[0] is not None or summand[0] is not None:
        return result[0] == summand[0]
    own, other = (states.get(normal(ref)) for ref in (item.data[0], item.data[_SUMMAND]))
    return own is not None and other is not None and own.kind == other.kind == "rows" and own.block == other.block \
        and own.sources == other.sources and len(own.sources) == 1


def _compared_sizes(draft: _Draft, item: Node) -> None:
    """Broadcasts the summand to the size of the convolution's result: no copy if it has that size already."""
    filters = draft.graph.shapes.get(normal(item.data[1]))
    if not filters or len(filters) != 4 or None in filters:
        return  # a kernel of this kind takes constant filters only
    taps, depthwise = filters[:2], item.op != _INT8[0]
    channels = (filters[2] or 0) * (filters[3] or 0) if depthwise else filters[3]
    strides, dilations = attribute(item, "strides"), attribute(item, "dilations")
    padded = attribute(item, "explicit_paddings") or [0] * 8
    # Rows, height and width of the result: (size + added) // stride.
    added = [0, *(strides[at] - 1 if attribute(item, "padding") == "SAME" else
                  strides[at] - 1 - ((taps[at - 1] or 0) - 1) * dilations[at] + sum(padded[2 * at:2 * at + 2])
                  for at in (1, 2))]

    def made(op: str, *data: object, **attrs: object) -> str:
        return draft.add(item.name, op, tuple(one if isinstance(one, str) else draft.constant(
            item.name, np.asarray(one, np.int32)) for one in data), **attrs)
    sizes = made("StridedSlice", made("Shape", item.data[0], T=item.attrs["Tinput"], out_type=INT32), [0], [3], [1],
                 T=INT32, Index=INT32)
    sizes = made("FloorDiv", made("AddV2", sizes, added, T=INT32), list(strides[:3]), T=INT32)
    sizes = made("ConcatV2", sizes, [channels], 0, N=2, T=INT32, Tidx=INT32)
    # BroadcastTo has no kernel for quantized types.
    plain = made("Bitcast", item.data[_SUMMAND], T=item.attrs["Tsummand"], type=UINT8)
    whole = made("BroadcastTo", plain, sizes, T=UINT8, Tidx=INT32)
    draft.instead[item.name, normal(item.data[_SUMMAND])] = made("Bitcast", whole, T=UINT8, type=item.attrs["Tsummand"])


def _combined(draft: _Draft, item: Node) -> None:
    """Dequantize in mode MIN_COMBINED, with the range that gives each number the value it has in mode SCALED."""
    signed = item.get("T") != QUINT8
    limits = [_origin(draft.graph, ref) for ref in item.data[1:3]]
    low, high = (_scalar(draft.graph.nodes[producer(ref)]) for ref in limits)
    if low is not None and high is not None:
        largest = max(abs(low), abs(high))
        ends = [draft.constant(item.name, np.float32(largest * factor)) for factor in (_LOWEST if signed else 0, 1)]
    else:
        sides = [draft.add(item.name, "Abs", (ref,), T=FLOAT) for ref in limits]
        top = draft.add(item.name, "Maximum", tuple(sides), T=FLOAT)
        factor = draft.constant(item.name, np.float32(_LOWEST if signed else 0))
        ends = [draft.add(item.name, "Mul", (top, factor), T=FLOAT), top]
    draft.nodes[item.name] = replace(item, inputs=(item.data[0], *ends, *item.controls)).with_attrs(mode="MIN_COMBINED")


def _origin(graph: Graph, ref: str) -> str:
    """The tensor from which an end of a range comes. (Of an empty tensor pooling makes no range.)"""
    item, output = graph.nodes[producer(ref)], port(ref)
    if output in (1, 2) and item.op in ("QuantizedMaxPool", "QuantizedAvgPool"):
        return _origin(graph, item.data[output])
    if output in (1, 2) and item.op in _INT8 and "Requantize" in (item.get("fused_ops") or ()):
        return _origin(graph, item.data[output - 3])  # the range that it was given: its last two inputs
    return ref


def _scalar(item: Node) -> float | None:
    return float(item.value) if item.op == "Const" and not item.shape else None
