"""One precision's graph, made from the float32 graph: calibrate -> quantize -> guard; and why one cannot be made."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import cpu_class
from export import manifest, samples
from export.folding.contraction import CONTRACTIONS
from export.graph import Graph, Node, nearest, producer
from export.ops import attribute
from export.precision import calibration, noise, ranges, shift
from export.precision.bfloat16 import to_bfloat16
from export.precision.form import form_for
from export.precision.guard import guarded
from export.precision.int8 import quantize, wanted_tensors
from export.precision.layer import Layer
from export.precision.reference import Reference
from export.prepared import Prepared, content
from export.saved_model import Content
from export.tensors import FLOAT, NAMES, Array, DType
from user_error import UserError

# mixed: int8, and what cannot be int8 in bfloat16.
Kind = Literal["bfloat16", "int8", "mixed"]
KINDS: tuple[Kind, ...] = ("bfloat16", "int8", "mixed")
EXAMPLES = 512  # for the ranges; more change them little
_SHIFTS = 2  # examples at once when mean errors are measured: every layer is computed twice


class Variants:
    """Makes the float32 graph of a source in lower precisions. Ranges are measured once, when first needed."""

    def __init__(self, ready: Prepared, reference: Reference) -> None:
        self._ready, self._reference = ready, reference
        self._form = form_for(cpu_class.current())
        self.kept = frozenset(ready.job.reduction.keep or ())

    def graph(self, kind: Kind, keep: frozenset[str] = frozenset(), rows: bool = False) -> tuple[Graph, list[Layer]]:
        """The guarded graph, and what became of each contraction. `keep` goes back besides what the user keeps.

        rows: int8 convolutions of one pixel are products of rows.
        """
        source, held = self._ready.graph, keep | self.kept
        if kind == "bfloat16":
            made, layers = to_bfloat16(source, held)
        else:
            made, layers = quantize(source, self._ranges, held, replace(self._form, rows=rows))
            made = shift.corrected(made, self._shifts)
        if kind == "mixed":
            made, lower = to_bfloat16(made, self.kept)
            found = {layer.node: layer for layer in lower if layer.precision == "bfloat16"}
            layers = [Layer(layer.node, layer.op, "bfloat16", layer.reason) if layer.node in found else layer
                      for layer in layers]
        return guarded(made), layers

    def ranked(self, kind: Kind) -> list[str]:
        """The contractions in the lower precision, the one whose rounding loses most first."""
        graph = self._ready.graph
        rounded = noise.rounded_to_bfloat16(graph, self.kept) if kind == "bfloat16" else noise.rounded_to_int8(
            graph, self._ranges, self.kept, self._form)
        return noise.ranked(noise.measure(self._content, self._feeds(1), rounded))

    @cached_property
    def _ranges(self) -> Mapping[str, Any]:
        wanted = wanted_tensors(self._ready.graph)
        asked = self._feeds(calibration.piece(self._ready.graph, wanted))
        found = calibration.calibrate(self._content, asked, wanted)
        method = self._ready.job.reduction.ranges
        return ranges.ranges(found, method) if method else ranges.ranges(found)

    @cached_property
    def _shifts(self) -> Mapping[str, Array]:
        rounded = noise.rounded_to_int8(self._ready.graph, self._ranges, self.kept, self._form)
        return shift.measure(self._content, self._feeds(_SHIFTS), rounded)

    @property
    def _content(self) -> Content:
        ready = self._ready
        return content(ready.model, ready.frozen, ready.graph, ready.job.graph_limit)

    def _feeds(self, piece: int) -> list[dict[str, Array]]:
        return self._reference.feeds(piece, EXAMPLES)


def kind(precision: str) -> Kind:
    return next(one for one in KINDS if one == precision)


def refuse_unknown_names(ready: Prepared) -> None:
    """Raises UserError for a name in --keep-float32 that is no contraction."""
    names = {item.name for item in contractions(ready.graph)}
    for name in ready.job.reduction.keep or ():
        if name not in names:
            raise UserError(f"--keep-float32 {name}: the optimized graph has no contraction of that name"
                            f"{nearest(name, names)}; its report (--json) lists them")


def refuse(ready: Prepared) -> None:
    """Raises UserError for a graph that has nothing to reduce, and for a name in --keep-float32 that is no layer."""
    refuse_unknown_names(ready)
    if why := nothing_to_reduce(ready.graph, contractions(ready.graph)):
        raise UserError(f"{ready.name} has nothing to reduce: {why}")


def nothing_to_reduce(graph: Graph, there: list[Node]) -> str:
    """Why no contraction can be made in a lower precision, and the way on; "" if some can."""
    found = [item for item in there if _dtype(item) == FLOAT]
    if not found and there:
        other = NAMES[_dtype(there[0])]
        return (f"its {len(there)} contractions are {other} (such as '{there[0].name}'), and kernels of lower "
                "precision take the place of float32 ones only; convert the model to float32 before it is exported")
    if found:
        return ""
    inside = sum(len(contractions(body)) for body in graph.bodies.values())
    if inside:
        return (f"its {inside} contractions are in the bodies of loops and branches, which stay as they are; "
                "--precision float32 optimizes it")
    return ("it has no contraction (convolution or matrix product) with constant weights; --precision float32 "
            "optimizes it")


def contractions(graph: Graph) -> list[Node]:
    """The contractions of the graph's own nodes whose weights are constant, in order."""
    return [item for item in graph.order() if item.op in CONTRACTIONS and any(
        graph.nodes[producer(ref)].op == "Const" for ref in item.data)]


def why_no_examples(ready: Prepared, reference: Reference, needs: str = "int8 measures ranges from") -> str:
    """Why there are no real examples, which something `needs`, and the way on; "" if there are some."""
    if reference.some_real or manifest.weights_are_random(ready.path):
        return ""
    inputs = ", ".join(dict.fromkeys(name for one in reference.signatures.values() for name in samples.specs(one)))
    return (f"{needs} real examples, and there are none: give them with --samples X.npz (arrays named "
            f"as the inputs: {inputs})")


def _dtype(item: Node) -> DType:
    return DType(attribute(item, "T"))
