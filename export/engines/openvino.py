"""A graph -> assets.extra/openvino/: OpenVINO's own form (IR), a graph for each different set of inputs and outputs."""
from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from export.engines.checks import checks
from export.engines.conversion import ConversionError, converted
from export.engines.convertible import Ends, convertible, index_limits, only, wide_integers
from export.engines.limits import Limits
from export.engines.written import Written, sha256, told
from export.folding.contraction import PRODUCTS
from export.functions import tensor_dtype
from export.graph import Graph, Node, make_node, normal, producer
from export.tensors import Array
from other_engines import OPENVINO


def write(version: Path, graph: Graph, signatures: Mapping[str, Any], precision: str,
          requests: Sequence[Mapping[str, Array]], limits: Limits) -> Written:
    """Writes version/assets.extra/openvino/. Raises ConversionError if no signature can be converted.

    requests: arrays by input tensor, for the ranges of int8; a graph uses those that have its inputs.
    """
    found = convertible(signatures, graph)
    left, taken = dict(found.left), []
    folder = (version / OPENVINO.file).parent
    folder.mkdir(parents=True)
    graphs: dict[Ends, dict[str, Any]] = {}
    for key, ends in found.ends.items():
        part = only(graph, ends)
        if reason := wide_integers(part):
            left[key] = f"{reason}, and OpenVINO computes these with 32 bits"
        elif free := [name for name in part.inputs if part.shapes.get(name) is None]:
            left[key] = f"not even the number of axes of '{free[0]}' is known, and OpenVINO needs it"
        elif ends in graphs:
            taken.append(key)
        else:
            try:
                graphs[ends] = _write(folder, len(graphs), part, ends, precision, requests, limits)
                taken.append(key)
            except ConversionError as error:
                left[key] = str(error)
    if not taken:
        shutil.rmtree(folder)
        raise ConversionError(told(left))
    digests = {file.name: sha256(file) for file in sorted(folder.iterdir())}
    (version / OPENVINO.file).write_text(json.dumps({
        "precision": precision, "graphs": list(graphs.values()), "left": left, "sha256": digests}, indent=2) + "\n")
    return Written("openvino", precision, tuple(taken), left, {}, sum(file.stat().st_size for file in folder.iterdir()),
                   {key: checks(graph, found.ends[key]) for key in taken})


def _write(folder: Path, number: int, part: Graph, ends: Ends, precision: str,
           requests: Sequence[Mapping[str, Array]], limits: Limits) -> dict[str, Any]:
    # For OpenVINO, what nothing reads is an output, and nothing else is.
    marks = [make_node(f"engine_output_{index}", "Identity", [normal(name)],
                       T=tensor_dtype(part, normal(name), {})) for index, name in enumerate(ends.outputs)]
    marked = part.with_nodes([*map(_with_shape, part.nodes.values()), *marks])
    names = [f"{mark.name}:0" for mark in marks]
    home = folder.parents[2]
    with converted(home, "openvino", precision, marked, ends, requests, limits, names, _attends(part)) as made:
        for suffix in ("xml", "bin"):
            shutil.move(made / f"model.{suffix}", folder / f"{number}.{suffix}")
    return {"model": f"{number}.xml", "weights": f"{number}.bin", "inputs": list(ends.inputs),
            "outputs": list(ends.outputs), "limits": index_limits(part)}


def _with_shape(item: Node) -> Node:
    """OpenVINO reads a scalar constant whose message states no shape as 0."""
    if item.op != "Const" or item.attrs["value"].tensor.HasField("tensor_shape"):
        return item
    value = type(item.attrs["value"])()
    value.CopyFrom(item.attrs["value"])
    value.tensor.tensor_shape.SetInParent()
    return replace(item, attrs={**item.attrs, "value": value})


def _attends(graph: Graph) -> bool:
    """Whether it multiplies computed tensors with each other, as attention does: its int8 needs other ranges."""
    return any(item.op in PRODUCTS and all(graph.nodes[producer(ref)].op != "Const" for ref in item.data)
               for item in graph.nodes.values())
