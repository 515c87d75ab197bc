from export.graph import COLOCATION, Graph, make_node
from export.tensors import QUINT8
from export.transform import Arg, Arguments, Draft, Record, transform
from export.weights import approximable, eight_bit


@transform(
    "quantize_weights",
    Arg("minimum_size", "int", 1024, help="constants with fewer elements are not changed"))
def quantize_weights(graph: Graph, args: Arguments, record: Record) -> Graph:
    """Const(float) -> Dequantize(Const(quint8), min, max): a quarter of the bytes.

    A weight changes by at most (max - min) / 255, where [min, max] is the range of its constant, extended to contain
    zero; zero stays exact. The Dequantize has the constant's name; its inputs are called
    NAME_quantized_const, NAME_quantized_min and NAME_quantized_max.

    Safe when: the constant is float32; its values and its range are finite; it is not itself a requested input or
      output; and it takes more than a byte per value (a constant of one repeated value takes less).
    Source: Graph Transform Tool, quantize_weights.
    """
    draft = Draft(graph)
    for item, values in approximable(graph, args["minimum_size"], record):
        if item.attrs["value"].ByteSize() < values.size:
            record.skip(item.name, "it takes less than a byte per value already")
            continue
        kept = {COLOCATION: item.attrs[COLOCATION]} if COLOCATION in item.attrs else {}
        draft.put(make_node(item.name, "Dequantize", eight_bit(draft, item, values), item.device, T=QUINT8,
                       mode="MIN_FIRST", **kept))
        record.applied += 1
    return draft.result()
