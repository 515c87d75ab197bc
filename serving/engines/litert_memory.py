"""How much memory LiteRT takes for each example of a request.

LiteRT keeps a tensor from the operation that makes it to the last one that reads it. So the memory of a run is the most
that is kept at any moment; what that grows by from one example to two is the memory of an example. The sizes are read
from an interpreter without XNNPACK, which does not tell those of its own tensors.
"""
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from serving.memory import FEWEST_EXAMPLES
from serving.servable import Array

# Clients choose the sizes of what they send.
_MOST_SIZES = 1000


class LiteRTMemory:  # decision 207
    """How many bytes each example of a request takes, found once for each size of an example."""

    def __init__(self, content: bytes, threads: int) -> None:
        """`content`: the model.tflite."""
        self._content, self._threads = content, threads
        self._known: dict[tuple[Any, ...], int] = {}

    def of_request(self, values: Mapping[int, Array]) -> tuple[int, int]:
        """The number of examples, and the bytes that each of them takes; (0, 0) for a request of few examples.

        values: by the index of the input; those of the greatest length hold the examples.
        """
        examples = max((len(value) for value in values.values() if value.ndim), default=0)
        if examples < FEWEST_EXAMPLES:
            return 0, 0
        sizes = tuple((index, value.shape[1:] if value.ndim and len(value) == examples else value.shape)
                      for index, value in sorted(values.items()))
        each = self._known.get(sizes)
        if each is None:
            each = self._measured(values, examples)
            if len(self._known) < _MOST_SIZES:
                self._known[sizes] = each
        return examples, each

    def _measured(self, values: Mapping[int, Array], examples: int) -> int:
        """The growth from a run with the first example to one with the first two; 0 if they cannot be run."""
        model = schema.Model.GetRootAs(self._content, 0)
        try:
            interpreter = Interpreter(model_content=self._content, num_threads=self._threads,
                                      experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
            one, two = (_bytes(model, interpreter, {
                index: value[:count] if value.ndim and len(value) == examples else value
                for index, value in values.items()}) for count in (1, 2))
        except (RuntimeError, ValueError):
            return 0
        return max(two - one, 0)


def _bytes(model: Any, interpreter: Any, values: Mapping[int, Array]) -> int:
    """The bytes of all tensors that depend on the inputs, at the moment when they are most."""
    for index, value in values.items():
        interpreter.resize_tensor_input(index, value.shape)
    interpreter.allocate_tensors()
    for index, value in values.items():
        interpreter.set_tensor(index, value)
    interpreter.invoke()
    outputs = sum(_size(one) for one in interpreter.get_output_details())
    # The inputs and outputs exist twice: as tensors, and as the arrays of the request and of its answer.
    return outputs + sum(value.nbytes for value in values.values()) + sum(
        _most_kept(model.Subgraphs(place), interpreter.get_tensor_details(place))
        for place in range(model.SubgraphsLength()))


def _most_kept(subgraph: Any, details: Sequence[Mapping[str, Any]]) -> int:
    sizes = {int(one["index"]): _size(one) for one in details}
    made = list(_steps(subgraph))
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for place, (reads, makes) in enumerate(made):
        for index in makes:
            first[index] = last[index] = place
        for index in reads:
            last[index] = place
    kept = [0] * (len(made) + 1)
    for index, place in first.items():
        kept[place] += sizes.get(index, 0)
        kept[last[index] + 1] -= sizes.get(index, 0)
    most = now = 0
    for change in kept:
        now += change
        most = max(most, now)
    return most


def _steps(subgraph: Any) -> Iterator[tuple[list[int], list[int]]]:
    """What each operation reads and makes; first the inputs are made, and at last the outputs are read."""
    yield [], _indices(subgraph.InputsAsNumpy())
    for place in range(subgraph.OperatorsLength()):
        operator = subgraph.Operators(place)
        yield _indices(operator.InputsAsNumpy()), _indices(operator.OutputsAsNumpy())
    yield _indices(subgraph.OutputsAsNumpy()), []


def _indices(found: Any) -> list[int]:
    return [] if isinstance(found, int) else [int(index) for index in found if index >= 0]


def _size(tensor: Mapping[str, Any]) -> int:
    return math.prod(map(int, tensor["shape"])) * np.dtype(tensor["dtype"]).itemsize
