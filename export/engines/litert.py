"""A graph -> model.tflite, with the signatures that one graph can have.

A .tflite file that TensorFlow Serving runs has one set of inputs: all signatures take these, and each gives some of the
outputs.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from export.engines.checks import checks
from export.engines.conversion import ConversionError, converted
from export.engines.convertible import Ends, convertible, only
from export.engines.limits import Limits
from export.engines.tflite_file import tensor_names, with_signatures
from export.engines.written import Written, sha256, told
from export.graph import Graph
from export.ops import attribute
from export.signatures import main_signature
from export.tensors import FLOAT, Array
from user_error import UserError
from version_directory import TFLITE


def write(version: Path, graph: Graph, signatures: Mapping[str, Any], precision: str,
          requests: Sequence[Mapping[str, Array]], limits: Limits) -> Written:
    """Writes version/model.tflite. Raises ConversionError if no signature can be converted.

    requests: arrays by input tensor, for the ranges of int8; those with other inputs are not used.
    """
    found = convertible(signatures, graph)
    left = dict(found.left)
    if not found.ends:
        raise ConversionError(told(left))
    first = main_signature(found.ends)
    inputs = found.ends[first].inputs
    taken = [key for key, ends in found.ends.items() if set(ends.inputs) == set(inputs)]
    left |= {key: f"it takes other inputs than '{first}', and a .tflite file has one set of inputs"
             for key in found.ends if key not in taken}
    ends = Ends(inputs, tuple(dict.fromkeys(name for key in taken for name in found.ends[key].outputs)))
    known = _in_known_operations(only(graph, ends))
    with converted(version.parent, "litert", precision, known, ends, requests, limits) as folder:
        content = (folder / TFLITE).read_bytes()
    names = dict(zip((*ends.inputs, *ends.outputs), tensor_names(content), strict=True))
    try:
        content = with_signatures(content, {key: _renamed(signatures[key], names) for key in taken})
    except UserError as error:
        raise ConversionError(str(error)) from None
    (version / TFLITE).write_bytes(content)
    return Written("litert", precision, tuple(taken), left, {TFLITE: sha256(version / TFLITE)}, len(content),
                   {key: checks(graph, found.ends[key]) for key in taken})


def _in_known_operations(graph: Graph) -> Graph:
    """BiasAdd as AddV2, but in float32: in other types the converter does not know it, and Keras adds vectors of any
    type by it, such as positions to token ids.

    Safe when: the channels are the last dimension, so that AddV2 broadcasts the vector as BiasAdd does.
    """
    return graph.with_nodes(
        replace(item.with_attrs(without=("data_format",)), op="AddV2")
        if item.op == "BiasAdd" and item.get("T") != FLOAT and attribute(item, "data_format") == "NHWC" else item
        for item in graph.nodes.values())


def _renamed(signature: Any, names: Mapping[str, str]) -> Any:
    """The signature with the tensors' names in the file; servers find "x" under "x:0" too, as clients read it."""
    made = type(signature)()
    made.CopyFrom(signature)
    for info in (*made.inputs.values(), *made.outputs.values()):
        known = info.name if ":" in info.name else f"{info.name}:0"
        if names[known] != known.removesuffix(":0"):
            info.name = names[known]
    return made
