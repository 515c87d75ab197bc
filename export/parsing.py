"""Which features serialized examples have, by the operations that parse them; which inputs are row ends of a tensor."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from export.following import Following, Place
from export.functions import first_ports
from export.graph import Node, tensor_name
from export.hint import Feature, Hint
from export.ops import arg_dtypes, attribute, op_def

Inner = Callable[[Place, str], Hint]

PARSERS = ("ParseExample", "ParseExampleV2", "ParseSingleExample", "ParseSequenceExample", "ParseSequenceExampleV2",
           "ParseSingleSequenceExample")
_ROW_ENDS = ("row_splits", "splits", "rt_nested_splits", "params_nested_splits", "nested_splits")
# For each group of features: the arguments with its keys, and the outputs, types and shapes of their values.
_EXAMPLE = (("sparse_keys", "sparse_values", "sparse_types", ""),
            ("dense_keys", "dense_values", "Tdense", "dense_shapes"),
            ("ragged_keys", "ragged_values", "ragged_value_types", ""))
_CONTEXT = (("context_sparse_keys", "context_sparse_values", "context_sparse_types", ""),
            ("context_dense_keys", "context_dense_values", "Tcontext_dense", "context_dense_shapes"),
            ("context_ragged_keys", "context_ragged_values", "context_ragged_value_types", ""))
_STEPS = (("feature_list_sparse_keys", "feature_list_sparse_values", "feature_list_sparse_types", ""),
          ("feature_list_dense_keys", "feature_list_dense_values", "feature_list_dense_types",
           "feature_list_dense_shapes"),
          ("feature_list_ragged_keys", "feature_list_ragged_values", "feature_list_ragged_value_types", ""))


def features(graph: Following, place: Place, item: Node,
             inner: Inner) -> tuple[dict[str, Feature], dict[str, Feature] | None]:
    """The features that a node parses, by key, and the feature lists if it parses SequenceExamples.

    `inner` returns the hint for a tensor that the node makes.
    """
    if "Sequence" not in item.op:
        return _groups(graph, place, item, inner, _EXAMPLE), None
    return _groups(graph, place, item, inner, _CONTEXT), _groups(graph, place, item, inner, _STEPS)


def _groups(graph: Following, place: Place, item: Node, inner: Inner, groups: Any) -> dict[str, Feature]:
    first, found = first_ports(item, {}), {}
    for keys, values, types, shapes in groups:
        dtypes, known = attribute(item, types) or [], attribute(item, shapes) if shapes else None
        for index, key in enumerate(_keys(graph, place, item, keys)):
            hint = inner(place, tensor_name(item.name, first[values] + index))
            found[key] = Feature(dtypes[index], known[index] if known else None, hint)
    return found


def _keys(graph: Following, place: Place, item: Node, name: str) -> list[str]:
    """Keys in an attribute, or in inputs: one vector of strings, or a scalar string for each key."""
    if any(one.name == name for one in op_def(item.op).attr):
        return [str(one) if not isinstance(one, bytes) else one.decode() for one in attribute(item, name) or []]
    at = 0
    for arg in op_def(item.op).input_arg:
        count = len(arg_dtypes(item, arg))
        if arg.name == name:
            return [key for ref in item.data[at:at + count] for key in graph.strings(place, ref)]
        at += count
    return []


def ends_rows(item: Node, index: int) -> bool:
    """Whether input `index` of a node is the row ends of a ragged tensor."""
    at = 0
    for arg in op_def(item.op).input_arg if op_def(item.op) is not None else ():
        at += len(arg_dtypes(item, arg))
        if index < at:
            return arg.name in _ROW_ENDS
    return False
