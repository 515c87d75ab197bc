"""A float32 graph in bfloat16: contractions and all between them, conversions at the borders only.

    graph, layers = to_bfloat16(graph, keep=frozenset({"logits/MatMul"}))

Weights are stored as bfloat16 (half the size), rounded to nearest even. What is fed and fetched keeps its name and
type. `regions` decides which nodes are concerned.
"""
from __future__ import annotations

import ml_dtypes
import numpy as np

from export import pipeline
from export.graph import Graph, GraphError, Node, make_const, make_node, nearest, port, producer, tensor_name
from export.ops import SHAPE_OPS
from export.precision.gain import LEAST_WORK
from export.precision.kernels import has_cpu_kernel
from export.precision.layer import Layer
from export.precision.regions import contractions, regions
from export.precision.residuals import with_fused_residuals
from export.precision.retype import data_inputs, data_outputs, lowered
from export.tensors import BFLOAT16, FLOAT
from export.transform import Draft

KEPT = "kept in float32 as asked"


def to_bfloat16(graph: Graph, keep: frozenset[str] = frozenset(), least_work: float = LEAST_WORK
                ) -> tuple[Graph, list[Layer]]:
    """The graph with its contractions in bfloat16, and what became of each.

    `keep`: contractions that stay float32; `least_work`: multiply-adds per element converted at a region's borders,
    below which it stays float32. Raises GraphError for a name in `keep` that is no contraction.
    """
    graph = _prepared(graph)
    there = contractions(graph)
    names = {item.name: item.op for item in there} | {
        f"{name}/{item.name}": item.op for name, body in graph.bodies.items() for item in contractions(body)}
    if unknown := sorted(keep - names.keys()):
        raise GraphError(f"'{unknown[0]}' cannot be kept in float32: it is no contraction{nearest(unknown[0], names)}")
    found = regions(graph, dict.fromkeys(keep, KEPT), least_work)
    layers = [Layer(item.name, item.op, "float32" if item.name in found.reasons else "bfloat16",
                    found.reasons.get(item.name, "")) for item in there]
    layers += [Layer(f"{name}/{item.name}", item.op, "float32", "it is in the body of a function")
               for name, body in graph.bodies.items() for item in contractions(body)]
    if not found.nodes:
        return graph, layers
    return with_fused_residuals(_Lowering(graph, found.nodes).run()).validate("bfloat16"), layers


def _prepared(graph: Graph) -> Graph:
    """The graph with layer norms in the form that stays in bfloat16, where TensorFlow has a kernel for it."""
    if not has_cpu_kernel("_MklLayerNorm", {"T": BFLOAT16}):
        return graph
    return pipeline.run(graph, "fuse_layer_norm sink_reshapes")[0]


class _Lowering:
    """Makes the nodes of `nodes` compute in bfloat16 and puts a Cast wherever a tensor crosses the border."""

    def __init__(self, graph: Graph, nodes: set[str]) -> None:
        self.graph, self.nodes = graph, nodes
        self.draft = Draft(graph)
        # The tensors that are bfloat16, by their names in the float32 graph.
        self.low = {tensor_name(name, number) for name in nodes for number in data_outputs(graph.nodes[name])}
        self.renamed: dict[str, str] = {}
        self.casts: dict[tuple[str, int], str] = {}

    def run(self) -> Graph:
        for name in self.nodes & self.graph.kept:
            # The name stays with the float32 tensor that is fetched.
            self.renamed[name] = self.draft.unused_name(f"{name}/bfloat16")
        for item in self.graph.order():
            if item.name in self.nodes:
                self._lower(item)
            elif any(ref in self.low for ref in item.data):
                self._restore(item)
        for name, inner in self.renamed.items():
            self._keep(self.graph.nodes[name], inner)
        for item in list(self.draft.nodes.values()):
            if item.op == "Const":
                self.draft.drop_unused([item.name])
        return self.draft.result()

    def _lower(self, item: Node) -> None:
        changing = set(data_inputs(item))
        inputs = [self._converted(ref, BFLOAT16) if index in changing and ref not in self.low else self._now(ref)
                  for index, ref in enumerate(item.data)]
        new = lowered(item).with_inputs((*inputs, *item.controls))
        if item.name in self.renamed:
            new = make_node(self.renamed[item.name], item.op, new.inputs, item.device, **new.attrs)
        self.draft.put(new)

    def _restore(self, item: Node) -> None:
        """A node outside that reads tensors of the region."""
        if item.op in SHAPE_OPS:
            self.draft.put(item.with_attrs(T=BFLOAT16).with_inputs(map(self._now, item.inputs)))
            return
        self.draft.put(item.with_inputs(
            self._converted(ref, FLOAT) if ref in self.low else ref for ref in item.inputs))

    def _keep(self, item: Node, inner: str) -> None:
        """Gives a fetched node's name to its value in float32."""
        self.draft.put(make_node(item.name, "Cast", (inner,), item.device, SrcT=BFLOAT16, DstT=FLOAT))

    def _now(self, ref: str) -> str:
        """The name that a tensor of the region has now."""
        name = self.renamed.get(producer(ref))
        return ref if name is None or ref[0] == "^" else tensor_name(name, port(ref))

    def _converted(self, ref: str, dtype: int) -> str:
        """The tensor in the other type, made once: a constant of that type, or a Cast."""
        key = (ref, int(dtype))
        if key not in self.casts:
            self.casts[key] = self._made(ref, dtype)
        return self.casts[key]

    def _made(self, ref: str, dtype: int) -> str:
        source = self.graph.nodes[producer(ref)]
        if dtype == FLOAT and source.name in self.renamed:
            return source.name  # what is fetched is float32
        if source.op == "Const" and source.name not in self.graph.fed:
            value = np.asarray(source.value).astype(ml_dtypes.bfloat16)
            new = make_const(self.draft.unused_name(f"{source.name}/bfloat16"), value, source.controls, source.device)
        else:
            name = f"{source.name}/{'to_bfloat16' if dtype == BFLOAT16 else 'to_float32'}"
            new = make_node(self.draft.unused_name(name), "Cast", (self._now(ref),), source.device,
                            SrcT=FLOAT if dtype == BFLOAT16 else BFLOAT16, DstT=dtype)
        self.draft.put(new)
        return new.name
