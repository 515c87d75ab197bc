"""Recognizes an LSTM that is written as a loop, as Keras exports it: which While is one, and what its parts are.

    lstm = lstm_of(graph, loop)    # None: not the loop of an LSTM

Per turn, with any order of the gates, one product for x and h or two, with a bias or without:

    input, forget, new, output = split(x[time] @ W + h @ R + bias, 4)
    c = sigmoid(forget) * c + sigmoid(input) * tanh(new)
    h = sigmoid(output) * tanh(c)
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from export.functions import ARGUMENT
from export.graph import Graph, Node, normal, port, producer, tensor_name
from export.ops import IDENTITIES, attribute, is_pure
from export.pattern import Skip
from export.shapes import SAME_AS_FIRST, constant
from export.tensors import FLOAT, Array
from export.variables import LOOPS

_ADDITIONS = frozenset(("Add", "AddV2", "BiasAdd"))
# Of a loop's body these do nothing but compute, though they handle lists.
_LISTS = IDENTITIES | {"TensorListGetItem", "TensorListSetItem", "NoOp", ARGUMENT}


@dataclass(frozen=True)
class Lstm:
    """The parts of an LSTM's loop; tensors are those of the graph that the loop is in.

    x: [steps, rows, inputs]; hidden, cell: the states before the first step, [rows, units]; weights
    [inputs + units, 4 * units] and bias [4 * units], with the gates input, forget, new, output. `steps` is None if a
    request decides. The loop has the last states at its outputs `hidden_at` and `cell_at`, and at `list_at` (None: it
    keeps none) a list of the hidden states of every step, or of the last alone.
    """

    x: str
    hidden: str
    cell: str
    weights: Array
    bias: Array
    steps: int | None
    hidden_at: int
    cell_at: int
    list_at: int | None
    every: bool

    @property
    def units(self) -> int:
        return self.bias.size // 4


@dataclass(frozen=True)
class _Cell:
    """Nodes of a body: the new states, the split of the gates, the old cell's tensor, and the gates' outputs of the
    split: input, forget, new, output."""

    hidden: Node
    cell: Node
    split: Node
    before: str
    gates: tuple[int, ...]


def lstm_of(graph: Graph, loop: Node) -> Lstm | None:
    """The LSTM that a loop computes; None if it has no LSTM's cell. Raises Skip for a loop that has, and does more, or
    of which too little is certain."""
    if loop.op not in LOOPS:
        return None
    body, condition = (graph.bodies.get(loop.attrs[name].func.name) for name in ("body", "cond"))
    if body is None or condition is None:
        return None
    turn = _Body(graph, loop, body)
    cell = next((found for item in body.nodes.values() if (found := turn.cell(item))), None)
    return None if cell is None else _Reading(turn, condition, cell).lstm()


class _Body:
    """The body of a loop, with what is known of its arguments from outside."""

    def __init__(self, graph: Graph, loop: Node, body: Graph) -> None:
        self.graph, self.loop, self.body = graph, loop, body
        self.arguments = {name: index for index, name in enumerate(body.inputs)}

    def source(self, ref: str) -> str:
        """The tensor that this one is, before nodes that pass it on."""
        while (item := self.body.nodes[producer(ref)]).op in IDENTITIES:
            ref = item.data[0]
        return normal(ref)

    def node(self, ref: str) -> Node:
        return self.body.nodes[producer(self.source(ref))]

    def argument(self, ref: str) -> int | None:
        return self.arguments.get(self.source(ref))

    def next(self, index: int) -> str:
        """The tensor that argument `index` is in the next turn."""
        return self.source(self.body.outputs[index])

    def outer(self, ref: str) -> str | None:
        """The tensor outside that this one is in every turn; None if it may change."""
        index = self.argument(ref)
        return self.loop.data[index] if index is not None and self.argument(self.next(index)) == index else None

    def constant(self, ref: str) -> Array | None:
        """The value of a constant, in the body or outside."""
        item, graph = self.node(ref), self.body
        if item.op == ARGUMENT and (outer := self.outer(ref)):
            graph = self.graph
            while (item := graph.nodes[producer(outer)]).op in IDENTITIES and item.name not in graph.fed:
                outer = item.data[0]
        return item.value if item.op == "Const" and item.name not in graph.fed else None

    def pair(self, item: Node, first: str, second: str) -> tuple[Node, str] | None:
        """Of a Mul of `first` and anything, or of `first` and `second`: the node `first` and the other tensor."""
        if item.op != "Mul":
            return None
        for one, other in (item.data, item.data[::-1]):
            if self.node(one).op == first and (not second or self.node(other).op == second):
                return self.node(one), other
        return None

    def cell(self, item: Node) -> _Cell | None:
        """The cell whose new hidden state this node is."""
        outer = self.pair(item, "Sigmoid", "Tanh")
        if not outer:
            return None
        cell = self.node(self.node(outer[1]).data[0])
        if cell.op not in _ADDITIONS or len(cell.data) != 2:
            return None
        for one, other in (cell.data, cell.data[::-1]):
            new, old = self.pair(self.node(one), "Sigmoid", "Tanh"), self.pair(self.node(other), "Sigmoid", "")
            if not new or not old:
                continue
            gates = [self.source(node.data[0]) for node in (new[0], old[0], self.node(new[1]), outer[0])]
            split = self.body.nodes[producer(gates[0])]
            if split.op == "Split" and {producer(ref) for ref in gates} == {split.name} \
                    and split.get("num_split") == 4 and sorted(map(port, gates)) == [0, 1, 2, 3]:
                return _Cell(item, cell, split, old[1], tuple(map(port, gates)))
        return None


class _Reading:
    """Reads a loop with an LSTM's cell; Skip says what else it does."""

    def __init__(self, turn: _Body, condition: Graph, cell: _Cell) -> None:
        self._turn, self._condition, self._cell = turn, condition, cell
        self._graph, self._loop, self._body = turn.graph, turn.loop, turn.body

    def lstm(self) -> Lstm:
        turn, loop = self._turn, self._loop
        if any(item.op not in _LISTS and not is_pure(item)
               for graph in (self._body, self._condition) for item in graph.nodes.values()):
            raise Skip("its loop has effects")
        hidden_at, cell_at = self._state(self._cell.hidden), self._state(self._cell.cell)
        if turn.argument(self._cell.before) != cell_at:
            raise Skip("its cell state is not that of the step before")
        weights, bias, item = self._sums(hidden_at)
        x, time = self._steps_of(item)
        steps = size if isinstance(size := _size(self._graph, x, 0), int) else None
        list_at, every = self._list(time, x)
        for index in range(len(loop.data)):
            known = index in (hidden_at, cell_at, list_at) or self._counts(index)
            if not known and turn.argument(turn.next(index)) != index:
                raise Skip("its loop computes more than an LSTM")
        self._turns(x)
        hidden, cell = (normal(loop.data[at]) for at in (hidden_at, cell_at))
        # A loop would make equal what has other rows or columns than its input, by broadcasting.
        for state in (hidden, cell):
            shape = self._graph.shapes.get(state)
            if shape is None or len(shape) != 2 or _size(self._graph, state, 0) != _size(self._graph, x, 1) \
                    or _size(self._graph, state, 1) != bias.size // 4:
                raise Skip("its first states may have another shape than its later ones")
        return Lstm(x, hidden, cell, weights, bias, steps, hidden_at, cell_at, list_at, every)

    def _state(self, item: Node) -> int:
        """The argument that is this node's result in the next turn."""
        for index in range(len(self._body.outputs)):
            if self._turn.next(index) == item.name:
                return index
        raise Skip("its loop does more with the states than to keep them, such as a mask")

    def _sums(self, hidden_at: int) -> tuple[Array, Array, Node]:
        """The weights of x above those of h, the bias, and the node that reads x of one step."""
        turn, split = self._turn, self._cell.split
        if split.get("T") != FLOAT:
            raise Skip("its type is not float32")
        axis = turn.constant(split.data[0])
        if axis is None or int(axis) not in (1, -1):
            raise Skip("its gates are not split by columns")
        found: dict[str, Array] = {}
        x: Node | None = None
        bias = np.zeros(1, np.float32)
        todo = [split.data[1]]
        while todo:
            ref = todo.pop()
            item = turn.node(ref)
            if item.op in _ADDITIONS:
                todo += item.data
            elif (value := turn.constant(ref)) is not None:
                if value.ndim > 1:
                    raise Skip("what it adds is no bias")
                bias = bias + value
            elif item.op == "MatMul":
                for kind, part, rows in self._factors(item, hidden_at):
                    if kind in found:
                        raise Skip("it multiplies its input or its hidden state twice")
                    found[kind] = rows
                    x = part if kind == "x" else x
            else:
                raise Skip(f"it adds the result of {item.op}")
        if set(found) != {"x", "h"} or x is None:
            raise Skip("it does not multiply both its input and its hidden state")
        units = found["h"].shape[0]
        if found["h"].shape[1] != 4 * units or found["x"].shape[1] != 4 * units or bias.size not in (1, 4 * units):
            raise Skip("its weights do not have four columns per unit")
        columns = np.concatenate([np.arange(gate * units, (gate + 1) * units) for gate in self._cell.gates])
        whole = np.concatenate([found["x"], found["h"]])[:, columns]
        return whole, np.broadcast_to(bias, 4 * units)[columns].astype(np.float32), x

    def _factors(self, product: Node, hidden_at: int) -> list[tuple[str, Node, Array]]:
        """("x" or "h", the node that it is, its weights) of a product; both of a product of x and h side by side."""
        turn = self._turn
        weights = turn.constant(product.data[1])
        if weights is None or weights.ndim != 2:
            raise Skip("its weights are not constant")
        if attribute(product, "transpose_a") or attribute(product, "transpose_b"):
            raise Skip("a factor of its products is transposed")
        left = turn.node(product.data[0])
        parts = [product.data[0]]
        if left.op == "ConcatV2":
            axis = turn.constant(left.data[-1])
            if axis is None or int(axis) not in (1, -1):
                raise Skip("input and hidden state are not side by side")
            parts = list(left.data[:-1])
        kinds = ["h" if turn.argument(ref) == hidden_at else "x" for ref in parts]
        if kinds not in (["x"], ["h"], ["x", "h"]):
            raise Skip("what it multiplies is not its input and its hidden state")
        split = weights.shape[0] - weights.shape[1] // 4
        rows = np.split(weights, [split]) if len(parts) == 2 else [weights]
        return [(kind, turn.node(ref), part) for kind, ref, part in zip(kinds, parts, rows, strict=True)]

    def _steps_of(self, item: Node) -> tuple[str, int]:
        """The tensor outside whose steps are read one per turn, and the argument that counts them."""
        turn = self._turn
        outer = turn.outer(item.data[0]) if item.op == "TensorListGetItem" else None
        made = self._graph.nodes[producer(outer)] if outer else None
        time = turn.argument(item.data[1]) if made else None
        if made is None or time is None or made.op != "TensorListFromTensor" or not self._counts(time):
            raise Skip("it does not read one step of a tensor per turn")
        shape = self._graph.shapes.get(made.data[0])
        if shape is None or len(shape) != 3:
            raise Skip("the rank of its input is not known")
        return normal(made.data[0]), time

    def _counts(self, index: int) -> bool:
        """Whether an argument is 0 in the first turn and one more in each after it."""
        turn, step = self._turn, self._turn.node(self._turn.next(index))
        first = self._graph.nodes[producer(self._loop.data[index])]
        if first.op != "Const" or first.name in self._graph.fed or first.shape or first.value != 0:
            return False
        if step.op not in _ADDITIONS:
            return False
        for one, other in (step.data, step.data[::-1]):
            value = turn.constant(other)
            if turn.argument(one) == index and value is not None and value.shape == () and value == 1:
                return True
        return False

    def _list(self, time: int, x: str) -> tuple[int | None, bool]:
        """The argument that is the list of hidden states, if there is one, and whether it has those of every step."""
        turn = self._turn
        for index in range(len(self._loop.data)):
            item = turn.node(turn.next(index))
            if item.op != "TensorListSetItem":
                continue
            made = self._graph.nodes[producer(self._loop.data[index])]
            if turn.argument(item.data[0]) != index or turn.source(item.data[2]) != self._cell.hidden.name \
                    or made.op != "TensorListReserve":
                raise Skip("it keeps more than its hidden states")
            at = turn.constant(item.data[1])
            every = turn.argument(item.data[1]) == time
            if not every and (at is None or at != 0):
                raise Skip("it keeps its hidden states at other places than their steps")
            if _number(self._graph, made.data[1]) != (_size(self._graph, x, 0) if every else 1):
                raise Skip("its list has other places than for the hidden states")
            return index, every
        return None, False

    def _turns(self, x: str) -> None:
        """Raises Skip unless the loop makes a turn for each step of x."""
        limits, todo = [], [self._condition.outputs[0]]
        while todo:
            item = self._condition.nodes[producer(todo.pop())]
            if item.op in IDENTITIES:
                todo.append(item.data[0])
            elif item.op == "LogicalAnd":
                todo += item.data
            else:
                limits.append(item)
        for item in limits:
            if item.op != "Less":
                raise Skip("its loop may end before the last step")
            counter, limit = (self._outside(ref) for ref in item.data)
            turns = _number(self._graph, limit) if isinstance(limit, str) else self._constant(item.data[1])
            if not isinstance(counter, int) or not self._counts(counter) or turns != _size(self._graph, x, 0):
                raise Skip("the number of its turns is not that of its steps")

    def _outside(self, ref: str) -> str | int | None:
        """Of a tensor of the condition: the tensor outside that it always is, or the argument that changes."""
        while (item := self._condition.nodes[producer(ref)]).op in IDENTITIES:
            ref = item.data[0]
        if item.op != ARGUMENT:
            return None
        index = self._condition.inputs.index(item.name)
        return self._loop.data[index] if self._turn.argument(self._turn.next(index)) == index else index

    def _constant(self, ref: str) -> int | None:
        """The number that a tensor of the condition always is."""
        item = self._condition.nodes[producer(ref)]
        return int(item.value) if item.op == "Const" and item.shape == () else None


def _fixed(graph: Graph, item: Node, index: int) -> list[int] | None:
    """The integers of a constant input that is not fed."""
    return None if producer(item.data[index]) in graph.fed else constant(item, index, graph.nodes)


def _number(graph: Graph, ref: str) -> tuple[str, int] | int | None:
    """A scalar: its value, or the tensor and the axis whose size it is, as `_size` says it; None: not known."""
    item = graph.nodes[producer(ref)]
    if item.name in graph.fed:
        return None
    if item.op == "Const" and item.shape == ():
        return int(item.value)
    if item.op != "StridedSlice" or attribute(item, "shrink_axis_mask") != 1:
        return None
    shape, at = graph.nodes[producer(item.data[0])], _fixed(graph, item, 1)
    masks = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask")
    if shape.op != "Shape" or shape.name in graph.fed or at is None or len(at) != 1 or any(
            attribute(item, name) for name in masks):
        return None
    known = graph.shapes.get(shape.data[0])
    return _size(graph, shape.data[0], at[0]) if known is not None and -len(known) <= at[0] < len(known) else None


def _size(graph: Graph, ref: str, axis: int) -> tuple[str, int] | int:
    """The size of a tensor along an axis: the number if it is known, else the tensor and the axis that it comes from.

    Two sizes that are equal here are equal in every request.
    """
    while True:
        shape = graph.shapes.get(ref)
        item = graph.nodes[producer(ref)]
        if shape is None or not -len(shape) <= axis < len(shape):
            return (tensor_name(item.name, port(ref)), axis)
        axis %= len(shape)
        size = shape[axis]
        if size is not None:
            return size
        if item.name in graph.fed or port(ref):
            return normal(ref), axis
        order = _fixed(graph, item, 1) if item.op == "Transpose" else None
        if order:
            ref, axis = item.data[0], order[axis]
        elif item.op in SAME_AS_FIRST or item.op == "ReverseV2" or (
                item.op == "ConcatV2" and _fixed(graph, item, len(item.data) - 1) not in (
                    None, [axis], [axis - len(shape)])):
            ref = item.data[0]
        elif item.op == "GatherV2" and not attribute(item, "batch_dims") and _fixed(graph, item, 2) == [0] \
                and axis < len(graph.shapes.get(item.data[1]) or ()):
            ref = item.data[1]
        elif item.op == "Fill" and (made := graph.nodes[producer(item.data[0])]).op == "Pack" \
                and made.name not in graph.fed and (found := _number(graph, made.data[axis])) is not None:
            return found
        else:
            return normal(ref), axis
