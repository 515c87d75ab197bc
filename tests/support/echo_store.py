"""A store with one servable that returns its inputs: for tests of transports on the real predictor.

Model `echo`, version 7, label `stable`, has a signature for each type, named after it: output `y` is input `x`.
Signature `pair` takes and returns `a` (float) and `b` (int64); `fails` raises an error of the kind that a graph raises.
"""
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fake_servable import FakeServable

from serving.errors import Code, ServingError, invalid, not_found
from serving.protos import get_model_metadata_pb2, types_pb2
from serving.servable import PREDICT_METHOD, Array, ModelSpec, Signature, TensorSpec, VersionStatus

TYPES = ("float", "double", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool", "string",
         "half")


def data_type(name: str) -> int:
    return int(types_pb2.DataType.Value(f"DT_{name.upper()}"))


def _echo(name: str, dtype: str, output: str = "x:0") -> Signature:
    spec = TensorSpec("x:0", data_type(dtype), (-1,))
    return Signature(name, PREDICT_METHOD, {"x": spec}, {"y": TensorSpec(output, spec.dtype, (-1,))})


_PAIR = {"a": TensorSpec("a:0", data_type("float"), (-1,)), "b": TensorSpec("b:0", data_type("int64"), (-1,))}
SIGNATURES = {**{name: _echo(name, name) for name in TYPES}, "serving_default": _echo("serving_default", "float"),
              "pair": Signature("pair", PREDICT_METHOD, _PAIR, _PAIR), "fails": _echo("fails", "float", "broken:0")}


def _give_back(feeds: Sequence[str], values: Sequence[Array], fetches: Sequence[str]) -> list[Array]:
    fed = dict(zip(feeds, values, strict=True))
    if "broken:0" in fetches:
        raise ServingError(Code.INTERNAL, "the graph is broken")
    return [fed[name] for name in fetches]


class EchoStore:
    """A Store (see serving.predictor) of the model `echo`."""

    def __init__(self) -> None:
        self.servable = FakeServable("echo", 7, SIGNATURES, _give_back)
        self.servable.metadata = get_model_metadata_pb2.SignatureDefMap()

    @contextmanager
    def pin(self, spec: ModelSpec) -> Iterator[Any]:
        if spec.label not in (None, "stable"):
            raise invalid(f"Unrecognized servable version label: {spec.label}")
        if spec.name != "echo" or spec.version not in (None, 7):
            raise not_found(f"Servable not found for request: {spec}")
        self.servable.runs.clear()  # FakeServable keeps every request; fuzzing sends many
        yield self.servable

    def status(self, spec: ModelSpec) -> list[VersionStatus]:
        if spec.name != "echo":
            raise not_found(f"Could not find any versions of model {spec.name}")
        return [VersionStatus(7, "AVAILABLE", engine=self.servable.engine)]

    def models(self) -> list[str]:
        return ["echo"]
