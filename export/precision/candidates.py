"""What may become the published version: a protocol, so that other engines can be further candidates, and stock ops."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cpu_class
from export.engines.written import Written
from export.graph import Graph
from export.precision.choice import FLOAT32
from export.precision.guard import guarded
from export.precision.layer import FULL, Layer, counted
from export.precision.reference import Reference
from export.precision.storage import Kind as StoredAs
from export.precision.storage import stored_as
from export.precision.towers import NotSplitError, ends_of, two_towers
from export.precision.variant import Kind, Variants, why_no_examples
from export.prepared import Prepared


@dataclass(frozen=True)
class Changes:
    """What became of each contraction, `facts` for the manifest besides, and what was written for another engine."""

    layers: Sequence[Layer] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    written: Written | None = None


class Candidate(Protocol):
    """A way to make the model faster. `name` is unique and names a folder; `precision` is what manifests call it."""

    @property
    def name(self) -> str: ...

    @property
    def precision(self) -> str: ...

    def why_not(self) -> str:
        """Why it cannot be tried here, in one sentence; "" if it can."""

    def make(self, directory: Path, keep: frozenset[str] = frozenset()) -> Changes:
        """Fills an empty directory with a version.

        keep: contractions that must stay in a higher precision. Raises CannotBeMadeError with the reason if this model
        has nothing for it.
        """

    def ranked(self) -> list[str]:
        """The contractions that can go back to a higher precision, the one that loses most first; it may be none."""


class CannotBeMadeError(Exception):
    """The model has nothing that the candidate could change; the message is the reason."""


@dataclass
class Float32:
    """The optimized graph in full precision, as `optimize` without a precision publishes it."""

    ready: Prepared
    name: str = FLOAT32
    precision: str = FULL

    def why_not(self) -> str:
        return ""

    def make(self, directory: Path, keep: frozenset[str] = frozenset()) -> Changes:
        graph, steps = self.ready.for_tensorflow()
        self.ready.write(directory, guarded(graph))
        return Changes(facts={"steps_for_tensorflow": [step.to_json() for step in steps]})

    def ranked(self) -> list[str]:
        return []


@dataclass
class Lower:
    """Contractions in bfloat16 or int8, or in both, with TensorFlow's own kernels."""

    ready: Prepared
    reference: Reference
    variants: Variants
    precision: Kind
    cpu: cpu_class.CpuClass = field(default_factory=cpu_class.current)

    @property
    def name(self) -> str:
        return self.precision

    def why_not(self) -> str:
        if self.precision != "int8" and not self.cpu.runs_bf16:
            return f"this CPU ({self.cpu}) cannot run bfloat16"
        if self.precision != "int8" and not (self.cpu.has_bf16 or self.ready.job.reduction.unmeasured):
            return f"this CPU ({self.cpu}) has no instructions for bfloat16, which is then slower than float32"
        if self.precision == "bfloat16":
            return ""
        if not self.cpu.runs_int8:
            return f"this CPU ({self.cpu}) cannot run the 8-bit kernels"
        return why_no_examples(self.ready, self.reference)

    def make(self, directory: Path, keep: frozenset[str] = frozenset()) -> Changes:
        graph, layers = self.variants.graph(self.precision, keep)
        found = counted(layers)
        wanted = ("int8", "bfloat16") if self.precision == "mixed" else (self.precision,)
        for one in wanted:
            if one not in found:
                if self.precision == "mixed" and one == "bfloat16":
                    raise CannotBeMadeError("int8 leaves nothing for bfloat16")
                why = next((f"'{layer.node}' and all others: {layer.reason}" for layer in layers), "no contraction")
                raise CannotBeMadeError(f"nothing can be {one} ({why})")
        return _written(self.ready, directory, graph, layers)

    def ranked(self) -> list[str]:
        return self.variants.ranked(self.precision)


@dataclass
class Storage:
    """float32 weights stored in float16 or int8, for size alone."""

    ready: Prepared
    kind: StoredAs
    precision: str = FULL

    @property
    def name(self) -> str:
        return f"storage-{self.kind}"

    def why_not(self) -> str:
        return ""

    def make(self, directory: Path, keep: frozenset[str] = frozenset()) -> Changes:
        graph, stored = stored_as(self.ready.graph, self.kind)
        if not stored.constants:
            raise CannotBeMadeError(next((f"'{name}': {why}" for name, why in stored.left.items()),
                                         "no constant of float32 is large enough to be stored in less"))
        self.ready.write(directory, guarded(graph))
        return Changes(facts={"storage": stored.to_json()})

    def ranked(self) -> list[str]:
        return []


@dataclass
class _FormOf:
    """Another candidate in another form. `keep`: the layers that the other had to keep in a higher precision."""

    ready: Prepared
    of: Lower | Float32
    keep: frozenset[str]

    @property
    def precision(self) -> str:
        return self.of.precision

    def why_not(self) -> str:
        return ""

    def ranked(self) -> list[str]:
        return []

    def _graph(self, rows: bool = False) -> tuple[Graph, list[Layer]]:
        if isinstance(self.of, Lower):
            return self.of.variants.graph(self.of.precision, self.keep, rows)
        return self.ready.graph, []


class Rows(_FormOf):
    """Its int8 convolutions of one pixel as products of rows: may be faster for single images."""

    @property
    def name(self) -> str:
        return f"{self.of.name}-rows"

    def make(self, directory: Path, keep: frozenset[str] = frozenset()) -> Changes:
        graph, layers = self._graph(rows=True)
        usual = sum(layer.op == "Conv2D" and layer.precision == "int8" for layer in layers)
        if usual == sum(item.op == "_FusedQuantizedConv2D" for item in graph.nodes.values()):
            raise CannotBeMadeError("no int8 convolution is of one pixel")
        return _written(self.ready, directory, graph, layers)


def _written(ready: Prepared, directory: Path, graph: Graph, layers: Sequence[Layer]) -> Changes:
    """Writes a graph in reduced precision, with blocks beside the LSTMs that are still in float32."""
    graph, steps = ready.with_blocks(graph)
    ready.write(directory, graph)
    return Changes(layers, {"steps_for_tensorflow": [step.to_json() for step in steps]})


def towers_of(name: str) -> str:
    return f"{name}-towers"


class Towers(_FormOf):
    """Its batch split in two halves that run at the same time."""

    @property
    def name(self) -> str:
        return towers_of(self.of.name)

    def make(self, directory: Path, keep: frozenset[str] = frozenset()) -> Changes:
        graph, layers = self._graph()
        try:
            towers = two_towers(graph, ends_of(self.ready.frozen.signatures.values()))
        except NotSplitError as error:
            raise CannotBeMadeError(str(error)) from None
        self.ready.write(directory, guarded(towers))
        return Changes(layers)
