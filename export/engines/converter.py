"""python -m export.engines.converter FOLDER: the process in which a converter runs (see export.engines.conversion)."""
from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.engines.conversion import Task

_UNKNOWN = re.compile(r"(?:TF Select ops|Custom ops|No conversion rule found for operations): ([^\n]*)")
# Where in the graph TensorFlow's converter says that something is wrong: operation, node, and what.
_PLACED = re.compile(r'loc\(fused\["([^":]*):", "([^"]*)"\]\): (?!see current)([^\n]*)')
_LONGEST = 300


def main(folder: Path) -> None:
    task = Task(**json.loads((folder / "task.json").read_text()))
    try:
        {"litert": _litert, "openvino": _openvino}[task.kind](folder, task)
    except Exception as error:  # noqa: BLE001 - converters raise errors of many types
        (folder / "reason.json").write_text(json.dumps(_reason(str(error) or type(error).__name__)))


def _litert(folder: Path, task: Task) -> None:
    """graph.pb -> model.tflite"""
    from export.runtime import tf
    graph_def = tf.compat.v1.GraphDef.FromString((folder / "graph.pb").read_bytes())
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(graph_def, name="")
    inputs, outputs = ([graph.get_tensor_by_name(name) for name in names] for names in (task.inputs, task.outputs))
    converter = tf.compat.v1.lite.TFLiteConverter(graph_def, inputs, outputs)
    if task.precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if task.precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if task.precision == "int8":
        converter.representative_dataset = lambda: _requests(folder, task)
        # Operations without an 8-bit form stay in float32.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
    (folder / "model.tflite").write_bytes(converter.convert())


def _openvino(folder: Path, task: Task) -> None:
    """graph.pb -> model.xml and model.bin, with inputs and outputs in the task's order"""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it would send usage data
    import openvino
    model = openvino.Core().read_model(folder / "graph.pb")
    if task.precision == "int8":
        import nncf
        model = nncf.quantize(
            model, nncf.Dataset([dict(zip(task.inputs, request, strict=True)) for request in _requests(folder, task)]),
            subset_size=task.requests, preset=nncf.QuantizationPreset.MIXED,
            model_type=nncf.ModelType.TRANSFORMER if task.transformer else None)
    ports = [_port(model.inputs, name) for name in task.inputs]
    # An output that is an input as it came in has lost the name of its mark; others may have lost their own.
    marks = task.marks or task.outputs
    results = [_port(model.outputs, mark, name) for mark, name in zip(marks, task.outputs, strict=True)]
    ordered = openvino.Model([result.get_node() for result in results], [port.get_node() for port in ports], "model")
    openvino.save_model(ordered, folder / "model.xml", compress_to_fp16=False)


def _port(ports: Sequence[Any], *names: str) -> Any:
    found = next((port for name in names for port in ports if name in port.names), None)
    if found is None:
        raise ValueError(f"tensor '{names[-1]}' is not in the converted graph")
    return found


def _requests(folder: Path, task: Task) -> Iterator[list[Any]]:
    for index in range(task.requests):
        with np.load(folder / f"{index}.npz") as arrays:
            yield [arrays[name] for name in arrays.files]


def _reason(text: str) -> str:
    """What a converter's error says, in one sentence: the operations that it does not know, the node at fault, or its
    first line."""
    if unknown := dict.fromkeys(name.strip() for found in _UNKNOWN.findall(text) for name in found.split(",")):
        return f"it has no {', '.join(unknown)}"
    if placed := _PLACED.search(text):
        return f"'{placed[2]}' ({placed[1]}): {placed[3]}"[:_LONGEST]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # The first lines of OpenVINO's errors say where in its source they were raised.
    said = [line for line in lines if not re.match(r"Exception from |Check '|FrontEnd API failed", line)] or lines
    return said[0][:_LONGEST] if said else "no reason is given"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
