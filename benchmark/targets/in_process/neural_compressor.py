"""Intel Neural Compressor makes a frozen graph int8; runs in an environment that has neural-compressor-tf.

    python -m benchmark.targets.in_process.neural_compressor FROZEN.pb SIGNATURE SAMPLES.npz --to DIRECTORY
        [--name NAME]

SIGNATURE is a serialized SignatureDef, NAME its key. Writes DIRECTORY/saved_model.pb with this one signature, and
DIRECTORY/int8.json: {"layers": how many operations it made int8, "operations": by type, "errors": {output: max|a-b| on
the samples}, "scales": {output: max|a|}}. Weights have a scale for each channel, as this project's own int8, and ranges
are those of the samples; all else is its default.
"""
import argparse
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

# Examples at once, in calibration and in the comparison with the frozen graph.
_BATCHES = (1, 8)
_MADE_INT8 = ("Quantized", "_Quantized", "_FusedQuantized")
_VARIABLES = ("VarHandleOp", "VariableV2")
Arrays = Mapping[str, Any]


class _Examples:
    """The samples one by one, with their tensors' names, in the form that Neural Compressor reads."""

    batch_size = 1

    def __init__(self, feeds: Arrays) -> None:
        self._feeds = feeds

    def __iter__(self) -> Iterator[tuple[dict[str, Any], None]]:
        for index in range(min(map(len, self._feeds.values()))):
            yield {name.removesuffix(":0"): array[index:index + 1] for name, array in self._feeds.items()}, None


def refuse_initialised(graph_def: Any) -> None:
    """Raises SystemExit for a graph with tables or variables: Neural Compressor runs it without filling them."""
    found = next((node for node in graph_def.node if "HashTable" in node.op or node.op in _VARIABLES), None)
    if found is not None:
        raise SystemExit(f"it takes no graph with tables or variables, and '{found.name}' is a {found.op}")


def quantized(frozen: Path, feeds: Arrays, fetches: list[str]) -> Any:
    """The graph in int8. Raises SystemExit with what Neural Compressor raised."""
    from neural_compressor.tensorflow import StaticQuantConfig, quantize_model
    from neural_compressor.tensorflow.utils import Model

    model = Model(str(frozen))
    model.input_tensor_names, model.output_tensor_names = list(feeds), fetches
    count = min(map(len, feeds.values()))
    config = StaticQuantConfig(weight_granularity="per_channel")
    try:
        return quantize_model(model, config, _Examples(feeds), count).graph_def
    except Exception as error:  # noqa: BLE001 - whatever its passes raise
        raise SystemExit(f"its quantize_model fails: {type(error).__name__}: {' '.join(str(error).split())}") from None


def answers(graph_def: Any, feeds: Arrays, fetches: list[str]) -> list[list[Any]]:
    """The outputs for the samples in batches of one and of eight."""
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        tf.import_graph_def(graph_def, name="")
        return [session.run(fetches, dict(part)) for batch in _BATCHES for part in _parts(feeds, batch)]


def _parts(feeds: Arrays, batch: int) -> Iterator[Arrays]:
    """Batches of the samples; the last one is filled up with the first samples."""
    for first in range(0, min(map(len, feeds.values())), batch):
        yield {name: array[np.arange(first, first + batch) % len(array)] for name, array in feeds.items()}


def difference(before: list[list[Any]], after: list[list[Any]], keys: list[str]) -> dict[str, dict[str, float]]:
    """{"errors": {output: max|a-b|}, "scales": {output: max|a|}} of the numbers among the outputs."""
    errors, scales = dict.fromkeys(keys, 0.0), dict.fromkeys(keys, 0.0)
    for first, second in zip(before, after, strict=True):
        for key, a, b in zip(keys, first, second, strict=True):
            if a.dtype.kind == "f" and a.size:
                if not np.isfinite(b).all():
                    raise SystemExit(f"output '{key}' of what it made is not a finite number")
                errors[key] = max(errors[key], float(np.abs(a - b).max()))
                scales[key] = max(scales[key], float(np.abs(a).max()))
    return {"errors": errors, "scales": scales}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmark.targets.in_process.neural_compressor")
    parser.add_argument("frozen", type=Path)
    parser.add_argument("signature", type=Path)
    parser.add_argument("samples", type=Path)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--name", default="serving_default")
    options = parser.parse_args()
    signature = meta_graph_pb2.SignatureDef.FromString(options.signature.read_bytes())
    with np.load(options.samples) as file:
        feeds = {tensor.name: file[key] for key, tensor in signature.inputs.items()}
    keys = sorted(key for key, tensor in signature.outputs.items() if tensor.dtype)
    fetches = [signature.outputs[key].name for key in keys]
    before = tf.compat.v1.GraphDef.FromString(options.frozen.read_bytes())
    refuse_initialised(before)
    made = quantized(options.frozen, feeds, list(dict.fromkeys(fetches)))
    operations = Counter(node.op for node in made.node)
    layers = sum(count for op, count in operations.items() if op.startswith(_MADE_INT8))
    if not layers:
        raise SystemExit("it made no operation of this model int8")
    found = difference(answers(before, feeds, fetches), answers(made, feeds, fetches), keys)
    written = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    meta = written.meta_graphs.add()
    meta.meta_info_def.tags.append("serve")
    meta.meta_info_def.tensorflow_version = tf.__version__
    meta.graph_def.CopyFrom(made)
    meta.signature_def[options.name].CopyFrom(signature)
    (options.to / "saved_model.pb").write_bytes(written.SerializeToString())
    (options.to / "int8.json").write_text(json.dumps({"layers": layers, "operations": dict(operations), **found}))


if __name__ == "__main__":
    main()
