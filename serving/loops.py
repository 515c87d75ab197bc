"""Loops whose number of turns is known before they run, as `tf.while_loop(..., maximum_iterations=20)` makes them.

A loop is examined as the graph has it: While(counter, limit, ...) with the functions of its condition and its body. It
is known to end if the condition needs `counter < limit`, the body adds a constant to the counter and leaves the limit
as it is, and both begin as constants.
"""
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any

LOOPS = frozenset(("While", "StatelessWhile"))
MOST_TURNS = 100
_BYTES = {3: "<i", 9: "<q"}  # DT_INT32, DT_INT64


def ends_soon(node: Any, functions: Mapping[str, Any], given: Callable[[int], Any]) -> bool:  # decision 225
    """Whether the loop `node` (a NodeDef) takes MOST_TURNS turns at most.

    functions: FunctionDefs by name; given(i): the NodeDef of the loop's i-th input, None if there is none.
    """
    condition, body = (functions.get(node.attr[key].func.name) for key in ("cond", "body"))
    if condition is None or body is None:
        return False
    test, turn = _Function(condition), _Function(body)
    for less in _needed(test, test.returned(0)):
        counter, limit = (test.argument(name) for name in less.input[:2])
        if counter is None:
            continue
        if limit is None:
            last = _integer(test.node(less.input[1]))
        else:
            last = _integer(given(limit)) if turn.argument(turn.returned(limit)) == limit else None
        first, each = _integer(given(counter)), _added(turn, counter)
        if first is not None and last is not None and each and each > 0 and (last - first) / each <= MOST_TURNS:
            return True
    return False


class _Function:
    """A FunctionDef whose tensors are found by their names ("add:z:0"), behind the Identity nodes between."""

    def __init__(self, definition: Any) -> None:
        self._arguments = [argument.name for argument in definition.signature.input_arg]
        self._results = [definition.ret[result.name] for result in definition.signature.output_arg]
        self._nodes = {node.name: node for node in definition.node_def}

    def returned(self, number: int) -> str:
        return self._results[number] if number < len(self._results) else ""

    def node(self, tensor: str) -> Any:
        """The node that gives a tensor; None for an argument."""
        return self._nodes.get(self._behind(tensor).partition(":")[0])

    def argument(self, tensor: str) -> int | None:
        """The number of the argument that a tensor is; None for another tensor."""
        name = self._behind(tensor)
        return self._arguments.index(name) if name in self._arguments else None

    def _behind(self, tensor: str) -> str:
        while (found := self._nodes.get(tensor.partition(":")[0])) is not None and found.op == "Identity":
            tensor = found.input[0]
        return tensor


def _needed(function: _Function, tensor: str) -> Iterator[Any]:
    """The Less nodes without which `tensor` is false."""
    node = function.node(tensor)
    if node is not None and node.op == "Less":
        yield node
    elif node is not None and node.op == "LogicalAnd":
        for side in node.input[:2]:
            yield from _needed(function, side)


def _added(body: _Function, counter: int) -> int | None:
    """What a turn adds to the argument `counter`; None if it does anything else to it."""
    node = body.node(body.returned(counter))
    if node is None or node.op not in ("Add", "AddV2"):
        return None
    one, other = node.input[:2]
    if body.argument(one) != counter:
        one, other = other, one
    return _integer(body.node(other)) if body.argument(one) == counter else None


def _integer(node: Any) -> int | None:
    """The value of a constant with one integer; None for anything else."""
    if node is None or node.op != "Const":
        return None
    value = node.attr["value"].tensor
    if value.tensor_shape.dim or value.dtype not in _BYTES:
        return None
    if value.tensor_content:
        return int(struct.unpack(_BYTES[value.dtype], value.tensor_content)[0])
    # A tensor's message leaves zeros out.
    return int((*value.int_val, *value.int64_val, 0)[0])
