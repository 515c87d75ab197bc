"""Graphs in int8, and the same arithmetic simulated with float32 nodes.

The simulation rounds weights and tensors to the numbers that eight bits stand for, with plain TensorFlow nodes. The
kernels must give the same, but for numbers that lie between two steps.
"""
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from graph_session import build, ops, session_run, tf
from numpy.typing import NDArray

from export.graph import Graph, make_const, make_node, port, producer
from export.graph_file import as_graph_def, whole
from export.precision.blocks import find
from export.precision.encoding import Encoding
from export.precision.inside import offsets_as_channels
from export.precision.int8 import quantize, wanted_tensors
from export.precision.int8_nodes import per_channel
from export.precision.int8_plan import Plan, plan
from export.precision.layer import Layer
from export.precision.passing import passing_inputs
from export.tensors import FLOAT
from export.transform import Draft


@dataclass(frozen=True)
class Limits:
    low: float
    high: float


@dataclass
class Quantized:
    """A float32 graph, the ranges measured on `feeds`, the int8 graph and its layers."""

    graph: Graph
    ranges: Mapping[str, Limits]
    feeds: Mapping[str, Any]
    result: Graph
    layers: list[Layer]

    @property
    def graph_def(self) -> Any:
        return as_graph_def(whole(self.result))

    @property
    def ops(self) -> dict[str, int]:
        return ops(self.graph_def)

    def reasons(self) -> dict[str, str]:
        return {layer.node: layer.reason for layer in self.layers if layer.reason}

    def run(self, feeds: Mapping[str, Any] | None = None) -> dict[str, NDArray[Any]]:
        return session_run(self.graph_def, self.graph.outputs, self.feeds if feeds is None else feeds)

    def original(self, feeds: Mapping[str, Any] | None = None) -> dict[str, NDArray[Any]]:
        return session_run(as_graph_def(whole(self.graph)), self.graph.outputs, self.feeds if feeds is None else feeds)

    def plan(self) -> tuple[Graph, Plan]:
        graph = offsets_as_channels(self.graph, self.ranges)
        int8 = {layer.node for layer in self.layers if layer.precision == "int8"}
        return graph, plan(graph, {name: block for name, block in find(graph)[0].items() if name in int8}, self.ranges)

    def simulated(self, feeds: Mapping[str, Any] | None = None) -> dict[str, NDArray[Any]]:
        graph_def = as_graph_def(whole(_simulation(*self.plan())))
        return session_run(graph_def, self.graph.outputs, self.feeds if feeds is None else feeds)


def quantized(made: Callable[[], Any] | Any, outputs: Sequence[str] = ("y",), *, feeds: Mapping[str, Any],
              inputs: Sequence[str] = (), keep: frozenset[str] = frozenset(),
              ranges: Mapping[str, Limits] | None = None) -> Quantized:
    """The graph that `made()` builds (or a GraphDef) in int8, with the smallest and largest values as ranges."""
    graph_def = build(made) if callable(made) else made
    graph = Graph.from_graph_def(graph_def, inputs or list(feeds), outputs)
    known = {**measured(graph, feeds), **(ranges or {})}
    return Quantized(graph, known, feeds, *quantize(graph, known, keep))


def measured(graph: Graph, feeds: Mapping[str, Any]) -> dict[str, Limits]:
    # Without TensorFlow's optimizer, which merges a BiasAdd into a swish even if the BiasAdd is fetched.
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    imported = tf.Graph()
    with imported.as_default():
        tf.import_graph_def(as_graph_def(whole(graph)), name="")
    wanted = wanted_tensors(graph)
    with tf.compat.v1.Session(graph=imported, config=config) as session:
        values = session.run([f"{producer(ref)}:{port(ref)}" for ref in wanted],
                             {f"{producer(ref)}:{port(ref)}": value for ref, value in feeds.items()})
    return {ref: Limits(float(value.min()), float(value.max())) for ref, value in zip(wanted, values, strict=True)}


def assert_as_simulated(it: Quantized, steps: float = 1.01, share: float = 0.02,
                        feeds: Mapping[str, Any] | None = None) -> None:
    """Every output is at most `steps` of its own encoding from the simulation, and most are equal to it.

    share: the part of the numbers that may be a step away. An output in float32 is held against its largest value.
    """
    graph, made = it.plan()
    found, wanted = it.run(feeds), it.simulated(feeds)
    for ref in it.graph.outputs:
        error = np.abs(found[ref] - wanted[ref])
        source = ref
        while source not in made.encodings and graph.nodes[source].op == "Identity":
            source = graph.nodes[source].data[0]
        step = made.encodings[source].step if source in made.encodings else np.abs(wanted[ref]).max() / 255
        assert error.max() <= steps * step, (ref, error.max() / step)
        assert (error > 0.01 * step).mean() <= share, (ref, (error > 0.01 * step).mean())


def assert_near_float(it: Quantized, budget: float = 0.05, feeds: Mapping[str, Any] | None = None) -> None:
    """The root mean square of the error is within `budget` of that of the float32 answers around their mean."""
    found, wanted = it.run(feeds), it.original(feeds)
    for ref, value in wanted.items():
        assert found[ref].shape == value.shape
        error = np.sqrt(np.mean((found[ref].astype(np.float64) - value) ** 2))
        assert error <= budget * max(float(np.std(value)), 1e-12), (ref, error, np.std(value))


def eight_bit_gaps(graph: Graph) -> list[str]:
    """Each QuantizeV2 of what a Dequantize made: eight bits that became float32 for nothing."""
    return [item.name for item in graph.nodes.values()
            if item.op == "QuantizeV2" and graph.nodes[producer(item.data[0])].op == "Dequantize"]


def _simulation(graph: Graph, made: Plan) -> Graph:
    """The float32 graph with weights and tensors rounded as `made` says."""
    draft = Draft(graph)
    results = {block.result for block in made.blocks.values()}
    for block in made.blocks.values():
        whole_numbers, largest = per_channel(block)
        shape = block.weights.shape[2:] if block.op == "DepthwiseConv2dNative" else (-1,)
        weights = (whole_numbers.astype(np.float64) * (largest / 127).reshape(shape)).astype(np.float32)
        item = block.contraction.node
        constant = make_const(draft.unused_name(f"{item.name}/rounded"), weights)
        draft.put(constant)
        item = item.with_inputs((item.data[0], constant.name, *item.controls))
        draft.put(item.with_attrs(transpose_b=False) if item.op == "MatMul" else item)
    for ref, encoding in made.encodings.items():
        if ref in results or ref in made.passing:
            exact = draft.unused_name(f"{ref}/exact")
            draft.put(replace(draft.nodes[ref], name=exact))
            _rounded(draft, exact, encoding, ref)
            continue
        readers = [block.pad or block.name for block in made.blocks.values() if block.x == ref]
        readers += [block.linear[-1] for block in made.blocks.values() if block.summand == ref]
        readers += [name for name in made.passing if ref in passing_inputs(graph, graph.nodes[name])]
        rounded = _rounded(draft, ref, encoding, draft.unused_name(f"{producer(ref)}/{port(ref)}/rounded"))
        for name in dict.fromkeys(readers):
            item = draft.nodes.get(f"{name}/exact") or draft.nodes[name]
            draft.put(item.with_inputs(rounded if each == ref else each for each in item.inputs))
    return draft.result()


def _rounded(draft: Draft, ref: str, encoding: Encoding, name: str) -> str:
    low = -128 if encoding.signed else 0
    high = 127 if encoding.signed else 255
    step = np.float32(encoding.step)
    current = ref
    steps = [("AddV2", encoding.offset), ("RealDiv", step), ("Round", None), ("Maximum", low), ("Minimum", high),
             ("Mul", step), ("Sub", encoding.offset)]
    for number, (op, value) in enumerate(steps):
        inputs = [current]
        if value is not None:
            constant = make_const(draft.unused_name(f"{name}/{op}/by"), np.asarray(value, np.float32))
            draft.put(constant)
            inputs.append(constant.name)
        current = name if number == len(steps) - 1 else draft.unused_name(f"{name}/{op}")
        draft.put(make_node(current, op, inputs, T=FLOAT))
    return current
