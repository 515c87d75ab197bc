"""remove_dropout, and how it proves that a random tensor adds no size to the tensor that it is combined with."""
import math
from collections.abc import Mapping

from export.graph import Graph, Node, make_const, make_node, port, producer
from export.ops import attribute
from export.pattern import Skip
from export.randomness import SHAPE_INPUT, Range, of_constant, ranges
from export.shapes import SAME_AS_FIRST, constant
from export.transform import Arguments, Draft, Record, transform

_BINARY = frozenset({"Mul", "RealDiv", "Div", "Add", "AddV2", "Sub"})


@transform("remove_dropout")
def remove_dropout(graph: Graph, args: Arguments, record: Record) -> Graph:
    """Where(random >= 0, x / 1, 0) -> x: a dropout whose rate is fixed at 0.

    A tensor that depends on random numbers and constants only, and that has the same value whatever is drawn, is
    certain: random >= 0, floor(random + 1), normal * 0 + 1. SelectV2 and Select become the branch that a certain
    condition chooses; x * 1, x / 1, x + 0 and x - 0 become x; any other certain tensor becomes a Fill with its value,
    and what drew the numbers goes.

    Safe when: the comparison is certain: a rate other than 0 that is constant, or a rate that is not, leaves it random;
      the random tensor adds no size to x by broadcasting (its shape is x's, is read from x, or is known to fit);
      no node in between is fed.
    Source: not in the Graph Transform Tool.
    """
    found, reasons = ranges(graph)
    for name, reason in reasons.items():
        record.skip(name, reason)
    certain = {name: one for name, one in found.items() if one.certain}
    if not any(item.op in ("Select", "SelectV2", *SHAPE_INPUT) for item in graph.nodes.values()):
        return graph
    removal = _Removal(graph, certain, record)
    for item in graph.order():
        if item.name not in certain and item.name not in graph.fed:
            removal.simplify(item.name)
    removal.fill()
    return removal.draft.result()


class _Removal:
    def __init__(self, graph: Graph, certain: dict[str, Range], record: Record) -> None:
        self.graph, self.certain, self.record = graph, certain, record
        self.draft = Draft(graph)
        self.shapes = graph.shapes

    def simplify(self, name: str) -> None:
        """Makes the readers of a node that passes one of its inputs on read that input."""
        item = self.draft.nodes.get(name)
        sure = {index: one for index, ref in enumerate(item.data) if (one := self._sure(ref, item))} if item else {}
        if item is None or not sure:
            return
        try:
            source = self._passed_on(item, sure)
        except Skip as skip:
            self.record.skip(name, skip.reason)
            return
        if source is None:
            return
        source, scales = self._unscaled(source)
        waits = dict.fromkeys((*item.controls, *self._branch([*sure.values(), *scales], name)))
        if waits or name in self.draft.kept or any(
                f"^{name}" in self.draft.nodes[reader].inputs for reader in self.draft.consumers.get(name, ())):
            self.draft.put(make_node(name, "Identity", (source, *waits), item.device, T=item.get("T")))
        else:
            self.draft.redirect(name, source)
        self.draft.drop_unused([name, *map(producer, item.data)])
        self.record.applied += 1

    def fill(self) -> None:
        """Replaces certain tensors that are still read by their value, and drops what drew the numbers."""
        drawing = {name: (one, one.drawn) for name, one in self.certain.items() if one.drawn}
        for name, (one, drawn) in drawing.items():
            readers = [self.draft.nodes[reader] for reader in self.draft.consumers.get(name, ())]
            if name not in self.draft.nodes or not (
                    name in self.draft.kept or any(reader.name not in self.certain for reader in readers)):
                continue
            item = self.draft.nodes[name]
            if any(math.prod(const.shape) != 1 for const in one.constants):
                self.record.skip(name, "it stays random, since a constant gives it another shape than what was drawn")
                continue
            shape = drawn.data[SHAPE_INPUT[drawn.op]]
            # In a v1 loop a constant is kept in the loop's frame by a control input.
            in_loop = any(part.controls for part in one.constants) or one.branches or self._enters(one)
            value = make_const(self.draft.unused_name(f"{name}/value"), one.high,
                               [f"^{producer(shape)}"] if in_loop else [])
            self.draft.put(value)
            waits = dict.fromkeys((*item.controls, *self._branch([one], name)))
            self.draft.put(make_node(name, "Fill", (shape, value.name, *waits), item.device,
                                     T=value.get("dtype"), index_type=next(
                                         found for key in ("T", "Tshape", "shape_dtype")
                                         if (found := attribute(drawn, key)) is not None)))
            self.draft.drop_unused(map(producer, item.data))
            self.record.applied += 1
        for name, (_, drawn) in reversed(drawing.items()):
            self.draft.drop_unused([name])
            # Drawing is an effect only on the generator of the operation itself, which nothing else reads.
            if drawn.name in self.draft.nodes and drawn.name not in self.draft.kept \
                    and not self.draft.consumers.get(drawn.name) and not drawn.op.startswith("Stateful"):
                self.draft.drop(drawn.name)
                self.draft.drop_unused(map(producer, drawn.inputs))

    def _sure(self, ref: str, reader: Node) -> Range | None:
        """The certain value of a tensor; a condition may also have become a constant, drawn with a constant seed."""
        item = self.draft.nodes[producer(ref)]
        if item.op == "Const" and reader.op in ("Select", "SelectV2") and ref == reader.data[0]:
            found = of_constant(item, self.graph)
            return found if found and found.certain else None
        one = self.certain.get(item.name) if port(ref) == 0 else None
        return one if one and one.drawn else None

    def _passed_on(self, item: Node, sure: Mapping[int, Range]) -> str | None:
        """The tensor that a node's output equals; None if the certain tensor does not decide it."""
        data = item.data
        if item.op in ("Select", "SelectV2") and 0 in sure and len(data) == 3:
            chosen, other = (data[1], data[2]) if sure[0].high else (data[2], data[1])
            if item.op == "SelectV2":
                self._fits(sure[0], chosen)
                if not self._ref_fits(other, chosen):
                    raise Skip(f"'{producer(other)}' may be larger than '{producer(chosen)}'")
            return chosen
        if item.op not in _BINARY or len(data) != 2 or len(sure) != 1:
            return None
        at, one = next(iter(sure.items()))
        neutral = 1 if item.op in ("Mul", "RealDiv", "Div") else 0
        if float(one.high) != neutral or (at == 0 and item.op in ("RealDiv", "Div", "Sub")):
            return None
        self._fits(one, data[1 - at])
        return data[1 - at]

    def _unscaled(self, ref: str) -> tuple[str, list[Range]]:
        """The tensor before multiplications by 1 and divisions by 1, which are what is left of the scale
        1 / (1 - rate); and these scales."""
        item, scales = self.draft.nodes[producer(ref)], []
        while item.op in ("Mul", "RealDiv", "Div") and item.name not in self.draft.kept and not item.controls:
            by = self.draft.nodes[producer(item.data[1])]
            one = self.certain.get(by.name) or of_constant(by, self.graph)
            if one is None or one.drawn or not one.certain or one.high != 1 or any(
                    part.shape != () for part in one.constants):
                break
            scales.append(one)
            ref = item.data[0]
            item = self.draft.nodes[producer(ref)]
        return ref, scales

    def _is_scalar(self, ref: str) -> bool:
        one = self.certain.get(producer(ref))
        return self.shapes.get(ref) == () or (
            one is not None and not one.drawn and all(part.shape == () for part in one.constants))

    def _branch(self, values: list[Range], name: str) -> list[str]:
        """The control inputs that keep a result in the v1 branch or loop of what it no longer reads."""
        waits = [ref for one in values for part in (one.drawn, *one.constants) if part for ref in part.controls]
        for ref in dict.fromkeys(ref for one in values for ref in one.branches):
            taken = make_node(self.draft.unused_name(f"{name}/branch"), "Identity", [ref],
                              T=self.draft.nodes[producer(ref)].get("T"))
            self.draft.put(taken)
            waits.append(f"^{taken.name}")
        return waits

    def _enters(self, one: Range) -> bool:
        return any(self.draft.nodes[reader].op == "Enter" for part in one.constants
                   for reader in self.draft.consumers.get(part.name, ()))

    def _fits(self, one: Range, into: str) -> None:
        """Raises Skip unless a tensor of this range, broadcast against tensor `into`, leaves its shape as it is."""
        for const in one.constants:
            if not self._sizes_fit(const.shape, into):
                raise Skip(f"'{const.name}' may be larger than '{producer(into)}'")
        if one.drawn and not self._drawn_fits(one.drawn.data[SHAPE_INPUT[one.drawn.op]], into):
            raise Skip(f"the shape of '{one.drawn.name}' is not known to fit that of '{producer(into)}'")

    def _drawn_fits(self, shape: str, into: str) -> bool:
        item = self.draft.nodes[producer(shape)]
        while item.op in ("Identity", "Cast"):
            item = self.draft.nodes[producer(item.data[0])]
        if item.op == "Const":
            return self._sizes_fit(tuple(int(size) for size in item.value.ravel()), into)
        if item.op in ("Shape", "ShapeN"):
            return self._ref_fits(item.data[port(shape)], into)
        if item.op != "Pack":
            return False
        wanted = self.shapes.get(into)
        if wanted is None or len(item.data) > len(wanted):
            return False
        first = len(wanted) - len(item.data)
        return all(self._size_fits(item, index, first + index, into) for index in range(len(item.data)))

    def _size_fits(self, pack: Node, index: int, axis: int, into: str) -> bool:
        """Whether one size of a shape put together size by size is 1 or that of `into` along `axis`."""
        value = constant(pack, index, self.draft.nodes)
        wanted = self.shapes.get(into)
        assert wanted is not None
        if value is not None:
            return value[0] in (1, wanted[axis])
        part = self.draft.nodes[producer(pack.data[index])]
        if part.op == "Cast":
            part = self.draft.nodes[producer(part.data[0])]
        if part.op != "StridedSlice" or part.get("shrink_axis_mask") != 1:
            return False
        whole, begin = self.draft.nodes[producer(part.data[0])], constant(part, 1, self.draft.nodes)
        return (whole.op == "Shape" and begin is not None and len(begin) == 1 and begin[0] % len(wanted) == axis
                and self._origin(whole.data[0]) == self._origin(into))

    def _ref_fits(self, ref: str, into: str) -> bool:
        if self._origin(ref) == self._origin(into):
            return True
        return self._sizes_fit(self.shapes.get(ref), into)

    def _sizes_fit(self, sizes: tuple[int | None, ...] | None, into: str) -> bool:
        if sizes == ():
            return True
        wanted = self.shapes.get(into)
        if sizes is None or wanted is None or len(sizes) > len(wanted):
            return False
        return all(size == 1 or (size is not None and size == there)
                   for size, there in zip(reversed(sizes), reversed(wanted), strict=False))

    def _origin(self, ref: str) -> str:
        """The first tensor before `ref` with the same shape, beyond operations that work element by element."""
        while True:
            item = self.draft.nodes[producer(ref)]
            if port(ref) or not item.data:
                return ref
            if item.op in SAME_AS_FIRST or item.op == "ZerosLike":
                ref = item.data[0]
                continue
            scalar = [self._is_scalar(one) for one in item.data]
            if item.op not in _BINARY or scalar[0] == scalar[1]:
                return ref
            ref = item.data[1] if scalar[0] else item.data[0]
