"""A version with an engine's files: the float32 graph as saved_model.pb, and the same model for the engine."""
from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import cpu_class
from export.engines import litert, openvino
from export.engines.conversion import ConversionError
from export.precision.candidates import CannotBeMadeError, Changes
from export.precision.guard import guarded
from export.precision.layer import FULL
from export.precision.reduction import AUTO, DYNAMIC, ENGINES, FLOAT16
from export.precision.reference import Reference
from export.precision.variant import why_no_examples
from export.prepared import Prepared
from other_engines import OTHER_ENGINES

_WRITE = {"litert": litert.write, "openvino": openvino.write}
# Examples for the ranges of int8: more change them little, and converters are slow.
_EXAMPLES = 128
HOW_TO_SERVE = {
    "litert": "TensorFlow Serving and this project's server run it with --prefer_tflite_model",
    "openvino": "this project's server runs it with --engine=openvino; any other runs saved_model.pb"}


@dataclass
class ForEngine:
    """The model in one precision for one engine."""

    ready: Prepared
    reference: Reference
    engine: str
    kind: str
    precision: str = FULL  # of saved_model.pb
    cpu: cpu_class.CpuClass = field(default_factory=cpu_class.current)

    @property
    def name(self) -> str:
        return f"{self.engine}-{self.kind}"

    def why_not(self) -> str:
        if missing := OTHER_ENGINES[self.engine].why_missing(self.kind == "int8"):
            return missing
        if self.kind == "bfloat16" and not (self.cpu.has_bf16 or self.ready.job.reduction.unmeasured):
            return f"this CPU ({self.cpu}) has no instructions for bfloat16, which is then slower than float32"
        if self.kind == "int8":
            return why_no_examples(self.ready, self.reference)
        if self.kind == DYNAMIC and self.ready.job.reduction.precision == AUTO:
            return why_no_examples(self.ready, self.reference, "what eight bits change is seen with")
        return ""

    def make(self, directory: Path, keep: frozenset[str] = frozenset()) -> Changes:
        graph = self.ready.graph
        requests = self.reference.feeds(1, _EXAMPLES) if self.kind == "int8" else []
        self.ready.write(directory, guarded(graph))
        try:
            written = _WRITE[self.engine](directory, graph, self.reference.signatures, self.kind, requests,
                                          self.ready.job.reduction.limits)
        except ConversionError as error:
            raise CannotBeMadeError(f"{self.engine}: {error}") from None
        if why := written.left.get(self.reference.main):
            raise CannotBeMadeError(f"{self.engine}: signature '{self.reference.main}': {why}")
        return Changes(written=written)

    def ranked(self) -> list[str]:
        return []


def every(ready: Prepared, reference: Reference) -> list[ForEngine]:
    """All that may be faster than TensorFlow. float16 is computed in float32."""
    return [ForEngine(ready, reference, engine, kind) for engine, kinds in ENGINES.items() for kind in kinds
            if kind != FLOAT16]
