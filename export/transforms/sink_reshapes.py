import math
from dataclasses import replace

import numpy as np

from export.graph import Graph, Node, make_const, make_node, producer
from export.ops import attribute
from export.sizes import known_sizes
from export.transform import Arguments, Draft, Record, transform

# Of one tensor, element by element.
_UNARY = frozenset({
    "Relu", "Relu6", "Elu", "Selu", "LeakyRelu", "Sigmoid", "Tanh", "Softplus", "Erf", "Erfc", "Neg", "Abs", "Square",
    "Exp", "Sqrt", "Rsqrt", "Identity"})
_BINARY = frozenset({"Add", "AddV2", "Sub", "Mul", "Maximum", "Minimum", "RealDiv", "Pow"})


@transform("sink_reshapes")
def sink_reshapes(graph: Graph, args: Arguments, record: Record) -> Graph:
    """f(Reshape(x, s)) -> Reshape(f(x), s), and Reshape(Reshape(x, r), s) -> Reshape(x, s)

    Brings bias and activation next to the MatMul of a dense layer on sequences, and the Reshapes of two such layers
    next to each other. f is element-wise; its other operand is a single number, the same tensor reshaped the same way,
    a tensor of x's rows that is reshaped to rows already, or (for an addition) a constant for the last axes, which
    becomes a BiasAdd.

    Safe when: nothing is broadcast over the reshaped axes; neither node is fed, and no node waits in between.
    Source: not in the Graph Transform Tool.
    """
    sinking = _Sinking(graph)
    for item in graph.order():
        if item.name not in graph.fed and sinking.sink(item.name):
            record.applied += 1
    return sinking.draft.result()


class _Sinking:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.draft = Draft(graph)
        self.shapes = dict(graph.shapes)
        self.sizes = known_sizes(graph)

    def sink(self, name: str) -> bool:
        item = self.draft.nodes[name]
        if item.controls:
            return False
        if item.op == "Reshape":
            return self._merge(item)
        if item.op in _UNARY and len(item.data) == 1:
            inner = self._reshaped(item.data[0])
            return inner is not None and self._put(item, inner, [inner.data[0]])
        if item.op == "_MklLayerNorm":
            return self._norm(item)
        if item.op in _BINARY or item.op == "BiasAdd":
            return self._binary(item)
        return False

    def _reshaped(self, ref: str) -> Node | None:
        """The Reshape to a known shape that makes a tensor, if it can be moved."""
        found = self.draft.nodes[producer(ref)]
        fits = found.op == "Reshape" and found.name not in self.graph.fed and not found.controls
        return found if fits and self.shapes.get(found.name) is not None else None

    def _merge(self, item: Node) -> bool:
        inner = self._reshaped(item.data[0])
        if inner is None:
            return False
        base = inner.data[0]
        if self._same(item.name, base) and item.name not in self.graph.kept and self._nothing_waits_for(item.name):
            self.draft.redirect(item.name, base)
            self.draft.drop_unused([item.name])
        else:
            self.draft.put(item.with_inputs((base, item.data[1])))
        self.draft.drop_unused([inner.name])
        return True

    def _norm(self, item: Node) -> bool:
        """A layer norm, which works on the last axis."""
        inner = self._reshaped(item.data[0])
        if inner is None:
            return False
        shape, base = self.shapes[inner.name], self.shapes.get(inner.data[0])
        fits = shape and base and len(base) in (2, 3) and base[-1] is not None and base[-1] == shape[-1]
        return bool(fits) and self._put(item, inner, [inner.data[0], *item.data[1:]])

    def _nothing_waits_for(self, name: str) -> bool:
        return not any(f"^{name}" in self.draft.nodes[reader].inputs for reader in self.draft.consumers.get(name, ()))

    def _binary(self, item: Node) -> bool:
        sides = [self._reshaped(ref) for ref in item.data]
        if sides[0] is None and sides[1] is None:
            return False
        if sides[0] is not None and sides[1] is not None:
            first, second = sides[0], sides[1]
            same = self._same(first.name, second.name) and self._same(first.data[0], second.data[0])
            return same and item.op != "BiasAdd" and self._put(item, first, [first.data[0], second.data[0]])
        at = 0 if sides[0] is not None else 1
        inner = sides[at]
        assert inner is not None
        other = self.draft.nodes[producer(item.data[1 - at])]
        rest: list[str] | None = None
        is_constant = other.op == "Const" and other.name not in self.graph.fed
        if is_constant and math.prod(other.shape) == 1 and item.op != "BiasAdd":
            rank = min(len(self.shapes.get(ref) or ()) for ref in (inner.name, inner.data[0]))
            rest = [item.data[1 - at]] if len(other.shape) <= rank else None
        elif is_constant and item.op in ("Add", "AddV2", "BiasAdd"):
            return self._bias(item, inner, other)
        elif item.op in ("Add", "AddV2") and self._same(inner.name, item.data[1 - at]):
            rest = self._rows(item.data[1 - at], inner.data[0])
        if rest is None:
            return False
        return self._put(item, inner, [inner.data[0], *rest] if at == 0 else [*rest, inner.data[0]])

    def _rows(self, ref: str, base: str) -> list[str] | None:
        """The tensor reshaped like `base`, if that is computed in any case."""
        return next(([reader.name] for reader in self.draft.readers(ref) if reader.op == "Reshape"
                     and reader.data[0] == ref and self._same(reader.name, base) and not reader.controls), None)

    def _bias(self, item: Node, inner: Node, constants: Node) -> bool:
        """An addition of one number per element of the last axes, which are the columns of the rows."""
        shape, rows = self.shapes[inner.name], self.shapes.get(inner.data[0])
        if shape is None or rows is None or len(rows) != 2 or rows[1] is None:
            return False
        sizes = tuple(constants.shape)
        while sizes and sizes[0] == 1 and math.prod(sizes[1:]) == rows[1]:
            sizes = sizes[1:]
        if not sizes or math.prod(sizes) != rows[1] or shape[len(shape) - len(sizes):] != sizes:
            return False
        if len(constants.shape) > len(shape) or (item.op == "BiasAdd" and attribute(item, "data_format") != "NHWC"):
            return False
        value = make_const(self.draft.unused_name(f"{item.name}/bias"), np.array(constants.value).reshape(rows[1]),
                           constants.controls, constants.device)
        self.draft.put(value)
        added = make_node(self.draft.unused_name(f"{item.name}/rows"), "BiasAdd", (inner.data[0], value.name),
                          item.device, T=item.get("T"), data_format="NHWC")
        return self._outside(item, inner, added, [constants.name])

    def _put(self, item: Node, inner: Node, refs: list[str]) -> bool:
        moved = replace(item, name=self.draft.unused_name(f"{item.name}/rows")).with_inputs(refs)
        return self._outside(item, inner, moved.with_attrs(without=("_output_shapes",)), list(item.data))

    def _outside(self, item: Node, inner: Node, moved: Node, unused: list[str]) -> bool:
        """Puts `moved` before the Reshape, which takes the name of the operation that it came before."""
        self.draft.put(moved)
        self.shapes[moved.name] = self.shapes.get(inner.data[0])
        self.sizes[moved.name] = self.sizes.get(inner.data[0])
        self.draft.put(make_node(item.name, "Reshape", (moved.name, inner.data[1]), item.device, T=item.get("T"),
                                 Tshape=attribute(inner, "Tshape")))
        self.draft.drop_unused([inner.name, *map(producer, unused)])
        return True

    def _same(self, a: str, b: str) -> bool:
        """Whether two tensors certainly have the same shape."""
        return self.sizes.get(a) is not None and self.sizes.get(a) == self.sizes.get(b)
