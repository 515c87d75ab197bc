import numpy as np

from export.graph import COLOCATION, Graph, Node, const, node
from export.tensors import FLOAT, QUINT8, Array
from export.transform import Arg, Arguments, Draft, Record, transform
from export.weights import approximable, value_range

_STEPS = np.float32(255)


@transform(
    "quantize_weights",
    Arg("minimum_size", "int", 1024, help="leave constants with fewer elements as they are"))
def quantize_weights(graph: Graph, args: Arguments, record: Record) -> Graph:
    """Const(float) -> Dequantize(Const(quint8), min, max): a quarter of the bytes, the same node name.

    A weight moves by at most (max - min) / 255, where min and max are those of its constant, zero included; zero
    stays exact. The new constants are called NAME_quantized_const, NAME_quantized_min and NAME_quantized_max.

    Safe when: the constant is float32, all of it is finite and so is its range; it is not itself a requested input or
      output.
    Source: Graph Transform Tool, quantize_weights.
    """
    draft = Draft(graph)
    for item, values in approximable(graph, args["minimum_size"], record):
        low, high = value_range(values)
        low, high = min(low, np.float32(0)), max(high, np.float32(0))
        if low == high:
            high = np.float32(1)
        _replace(draft, item, values, low, high)
        record.applied += 1
    return draft.result()


def _replace(draft: Draft, item: Node, values: Array, low: np.float32, high: np.float32) -> None:
    parts = (("const", _quantized(values, low, high), QUINT8), ("min", np.asarray(low), FLOAT),
             ("max", np.asarray(high), FLOAT))
    names = []
    for part, array, dtype in parts:
        names.append(draft.unused_name(f"{item.name}_quantized_{part}"))
        draft.put(const(names[-1], array, item.controls, item.device, dtype))
    kept = {COLOCATION: item.attrs[COLOCATION]} if COLOCATION in item.attrs else {}
    draft.put(node(item.name, "Dequantize", names, item.device, T=QUINT8, mode="MIN_FIRST", **kept))


def _quantized(values: Array, low: np.float32, high: np.float32) -> Array:
    """The numbers 0..255 that Dequantize in mode MIN_FIRST turns back: zero is one of the values that it makes."""
    scale = float(_STEPS) / (float(high) - float(low))
    steps = np.floor(values.astype(np.float64) * scale + 0.5) - np.floor(float(low) * scale + 0.5)
    return np.clip(steps, 0, float(_STEPS)).astype(np.uint8)
