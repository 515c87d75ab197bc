"""The values that all parts of the server share: a request's model, its signatures, its versions' states.

Plain values and the interface of a loaded version. Nothing here imports TensorFlow, so transports and their tests do
not need it.
"""
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from serving.errors import Code

Array = NDArray[Any]

DEFAULT_SIGNATURE = "serving_default"
PREDICT_METHOD = "tensorflow/serving/predict"
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The servable that a request names: the newest version, or one by number or by label."""

    name: str
    version: int | None = None
    label: str | None = None
    signature_name: str = ""

    def __str__(self) -> str:
        return f"Latest({self.name})" if self.version is None else f"Specific({self.name}, {self.version})"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of a signature: tensor name, DataType number, shape (-1: any; None: any rank)."""

    name: str
    dtype: int
    shape: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Signature:
    """A SignatureDef as values. `text` is its debug string, which some error messages quote."""

    name: str
    method_name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    defaults: Mapping[str, Array] = field(default_factory=dict)
    text: str = ""


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One version as GetModelStatus reports it. `engine`, which that does not report: what runs it, once loaded."""

    version: int
    state: str
    code: Code = Code.OK
    message: str = ""
    engine: str = ""


class Servable(Protocol):
    """One loaded version of a model."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int: ...

    @property
    def engine(self) -> str:
        """What runs it: "tensorflow", "litert" or "openvino"."""

    @property
    def signatures(self) -> Mapping[str, Signature]: ...

    @property
    def metadata(self) -> Any:
        """The SignatureDefMap message that GetModelMetadata answers with."""

    def run(self, feeds: Sequence[str], values: Sequence[Array], fetches: Sequence[str],
            timeout_s: float | None = None, started: Callable[[], None] | None = None) -> list[Array]:
        """Runs the graph: one array for each tensor name in `feeds`; returns the tensors in `fetches`, in that order.

        `started` is called, in any thread, just before the graph runs (after the wait for a batch). Strings are object
        arrays of bytes. With a `timeout_s` of 0 the graph is run, in the calling thread, only if that is known to be
        quick; otherwise DEADLINE_EXCEEDED is raised. Raises ServingError with TensorFlow's own code and message.
        """


class Loaded(Servable, Protocol):
    """A servable as the model store sees it: it can also be asked whether it works, and be unloaded."""

    @property
    def answers(self) -> bool:
        """Whether it can answer requests, as far as is known."""

    def close(self) -> None:
        """Frees it. No request is running."""


def string_array(values: Sequence[bytes]) -> Array:
    """A string tensor of shape [len(values)]."""
    array = np.empty(len(values), object)
    array[:] = values
    return array
