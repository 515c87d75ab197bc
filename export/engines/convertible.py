"""Which signatures another engine can have, as tensors that go in and come out; and why not, for the others. Pure."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from export import pipeline
from export.graph import Graph, Node, normal, port, producer, tensor_name
from export.ops import IDENTITIES, SHAPE_OPS, attribute, input_dtypes, output_dtypes
from export.parts import is_composite, kind
from export.tensors import BOOL, INT8, INT16, INT32, INT64, RESOURCE, STRING, UINT8, UINT16, UINT32, UINT64, to_array

_VARIABLES = frozenset(("Variable", "VariableV2"))
_WIDE = (INT64, UINT32, UINT64)
# These move all elements of some inputs, which a slice picks, and do not compute with them; other inputs say how.
_MOVED = {"Concat": slice(1, None), "ConcatV2": slice(-1), "Pack": slice(None), **dict.fromkeys((
    *IDENTITIES, "Reshape", "ExpandDims", "Squeeze", "Transpose", "Tile", "BroadcastTo"), slice(1))}
# These give 64-bit integers that are small: places in a tensor.
_PLACES = frozenset(("ArgMax", "ArgMin", "Where"))
_SMALL = (BOOL, INT8, UINT8, INT16, UINT16, INT32)


@dataclass(frozen=True)
class Ends:
    """What one converted graph takes and gives: tensor names such as "x:0", each once, in order."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Convertible:
    """`ends` by signature; `left`: the signatures that cannot be converted, each with the reason."""

    ends: Mapping[str, Ends]
    left: Mapping[str, str]


def convertible(signatures: Mapping[str, Any], graph: Graph) -> Convertible:
    """The signatures that any engine of tensors of numbers can have, judged by their tensors."""
    found, left = {}, {}
    for key, signature in sorted(signatures.items()):
        if reason := _why_not(signature, graph):
            left[key] = reason
        else:
            found[key] = Ends(*(tuple(dict.fromkeys(_tensor(info) for _, info in sorted(side.items())))
                                for side in (signature.inputs, signature.outputs)))
    return Convertible(found, left)


def _why_not(signature: Any, graph: Graph) -> str:
    if not signature.inputs or not signature.outputs:
        return f"it has no {'inputs' if not signature.inputs else 'outputs'}"
    for what, side in (("input", signature.inputs), ("output", signature.outputs)):
        for alias, info in sorted(side.items()):
            if is_composite(info):
                return f"{what} '{alias}' is a {kind(info)} tensor, and engines have plain ones only"
            if info.dtype == STRING:
                return f"{what} '{alias}' holds strings, and engines compute with numbers only"
    fed = [_tensor(info) for info in signature.inputs.values()]
    if len(set(fed)) < len(fed):
        return "two of its inputs are the same tensor"
    needed = graph.reachable([producer(info.name) for info in signature.outputs.values()],
                             frozenset(map(producer, fed)))
    for alias, info in sorted(signature.inputs.items()):
        if producer(info.name) not in needed:
            return f"input '{alias}' has no effect on its outputs"
    for name in sorted(needed):
        item = graph.nodes[name]
        makes = RESOURCE in (output_dtypes(item) or ()) and RESOURCE not in (input_dtypes(item) or ())
        if item.op in _VARIABLES or (makes and not item.op.startswith("TensorArray")):
            return f"it keeps or looks up values in '{name}' ({item.op}), and engines have no state"
    return ""


def _tensor(info: Any) -> str:
    ref = str(info.name)
    return ref if ":" in ref else f"{ref}:0"


def only(graph: Graph, ends: Ends) -> Graph:
    """The part of the graph that these ends need. An input has no default: the server gives every one a value."""
    fed = {producer(name) for name in ends.inputs}
    nodes = [replace(item, op="Placeholder", inputs=()) if item.name in fed and item.op == "PlaceholderWithDefault"
             else item for item in graph.nodes.values()]
    part = replace(graph.with_nodes(nodes), inputs=tuple(map(normal, ends.inputs)),
                   outputs=tuple(map(normal, ends.outputs)))
    return pipeline.run(part, "strip_unused_nodes")[0]


def index_limits(graph: Graph) -> dict[str, int]:  # decision 212
    """By fed tensor of integers, the size of the smallest table in which all its values are looked up.

    TensorFlow refuses an index that is not in [0, size); OpenVINO answers it with another row, or with zeros.
    """
    found: dict[str, int] = {}
    moved = {ref: {ref} for ref in graph.inputs}  # by tensor, the fed tensors that it holds
    for item in graph.order():
        holds = set().union(*(moved.get(ref, set()) for ref in _moved(item)))
        if holds and item.name not in graph.fed:
            moved[item.name] = holds
        size = _table_size(graph, item)
        for ref in moved.get(item.data[1], set()) if size is not None else ():
            found[ref] = min(size or 0, found.get(ref, size or 0))
    return {tensor_name(producer(ref), port(ref)) if ":" in ref else f"{ref}:0": size for ref, size in found.items()}


def _moved(item: Node) -> tuple[str, ...]:
    return item.data[_MOVED[item.op]] if item.op in _MOVED else ()


def _table_size(graph: Graph, item: Node) -> int | None:
    """How many rows the table of a Gather has; None for another op, and if it is not known."""
    if item.op not in ("Gather", "GatherV2"):
        return None
    shape, axis = graph.shapes.get(item.data[0]), 0
    if item.op == "GatherV2":
        axes = graph.nodes[producer(item.data[2])]
        if axes.op != "Const" or attribute(item, "batch_dims"):
            return None
        axis = int(to_array(axes.attrs["value"].tensor))
    return None if shape is None else shape[axis]


def wide_integers(graph: Graph) -> str:  # decision 212
    """Why a graph needs integers of more than 32 bits, for an engine that computes in 32 bits; "" if it does not.

    Safe when: a 64-bit integer that depends on the value of an input is only moved and then looked up in a table whose
      size is known (see `index_limits`), or is a place in a tensor, or comes from a smaller type.
    """
    depends, wide = set(graph.fed), {name for name in graph.fed if _gives_wide(graph.nodes[name])}
    for item in graph.order():
        if item.name in graph.fed or item.op in SHAPE_OPS or not depends.intersection(map(producer, item.data)):
            continue
        depends.add(item.name)
        taken = [place for place, ref in enumerate(item.data) if producer(ref) in wide]
        if item.op in _MOVED and {item.data[place] for place in taken} <= set(_moved(item)):
            wide |= {item.name} if taken else set()
        elif taken and not (taken == [1] and _table_size(graph, item) is not None):
            return f"'{item.name}' ({item.op}) computes with 64-bit integers"
        elif _gives_wide(item) and item.op not in _PLACES and not (
                item.op == "Cast" and attribute(item, "SrcT") in _SMALL):
            return f"'{item.name}' ({item.op}) makes 64-bit integers"
    given = next((ref for ref in graph.outputs if producer(ref) in wide), None)
    return f"output '{given}' is a 64-bit integer of an input" if given else ""


def _gives_wide(item: Node) -> bool:
    return any(dtype in _WIDE for dtype in output_dtypes(item) or ())
