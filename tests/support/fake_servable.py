"""A servable without TensorFlow: for tests of the code around a model."""
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from serving.protos import types_pb2
from serving.servable import Array, Signature, TensorSpec


def double(feeds: Sequence[str], values: Sequence[Array], fetches: Sequence[str]) -> list[Array]:
    """Every output is twice the first input."""
    return [np.asarray(values[0] * 2) for _ in fetches]


class FakeServable:
    """Keeps the inputs of every run in `runs`; `compute` makes the outputs."""

    def __init__(self, name: str = "m", version: int = 1, signatures: Mapping[str, Signature] | None = None,
                 compute: Callable[[Sequence[str], Sequence[Array], Sequence[str]], list[Array]] = double) -> None:
        self.name = name
        self.version = version
        self.engine = "fake"
        self.signatures = signatures or {"serving_default": signature()}
        self.metadata: Any = None
        self.closed = False
        self.answers = True
        self.runs: list[list[Array]] = []
        self.timeouts: list[float | None] = []
        self._compute = compute

    def run(self, feeds: Sequence[str], values: Sequence[Array], fetches: Sequence[str],
            timeout_s: float | None = None, started: Callable[[], None] | None = None) -> list[Array]:
        assert not self.closed
        self.runs.append(list(values))
        self.timeouts.append(timeout_s)
        if started is not None:
            started()
        return self._compute(feeds, values, fetches)

    def close(self) -> None:
        assert not self.closed
        self.closed = True


def signature(inputs: Sequence[str] = ("x",), outputs: Sequence[str] = ("y",), dtype: int = types_pb2.DT_FLOAT,
              method: str = "tensorflow/serving/predict", name: str = "serving_default",
              defaults: Mapping[str, Array] | None = None) -> Signature:
    """A signature whose tensor names are "<alias>:0", with any shape."""
    return Signature(name, method, {i: TensorSpec(f"{i}:0", dtype, None) for i in inputs},
                     {o: TensorSpec(f"{o}:0", dtype, None) for o in outputs}, defaults or {}, "method_name: ...")
