"""Graphs with TensorFlow's oneDNN int8 kernels, written node by node.

    made = Int8Graph()
    image = made.image("x", (None, 8, 8, 4))
    graph = made.graph(made.dequantize(made.conv(made.quantize(image), seeded((3, 3, 4, 8))), "y"))
"""
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export import saved_model
from export.graph import Graph, Node, make_const, make_node
from export.saved_model import Content
from export.signatures import signature
from export.tensors import FLOAT, INT32, QINT8, QUINT8, DType


@dataclass(frozen=True)
class Quantized:
    """An eight-bit tensor and the names of the tensors with its range."""

    ref: str
    low: str
    high: str
    dtype: DType = QUINT8


class Int8Graph:
    """Adds nodes and returns the names of their outputs. A range is [0, high] for quint8, [-high, high] for qint8."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.inputs: list[str] = []

    def add(self, name: str, op: str, inputs: Sequence[str], **attrs: Any) -> str:
        self.nodes.append(make_node(name or f"{op.strip('_')}_{len(self.nodes)}", op, inputs, **attrs))
        return self.nodes[-1].name

    def constant(self, value: Any, dtype: int | None = None) -> str:
        self.nodes.append(make_const(f"const_{len(self.nodes)}", np.asarray(value), dtype=dtype))
        return self.nodes[-1].name

    def image(self, name: str, shape: Sequence[int | None] | None) -> str:
        sizes = None if shape is None else tuple(-1 if size is None else size for size in shape)
        self.inputs.append(self.add(name, "Placeholder", (), dtype=FLOAT, **(
            {} if sizes is None else {"shape": sizes})))
        return name

    def number(self, value: float) -> str:
        return self.constant(np.float32(value))

    def quantize(self, ref: str, high: float = 1.0, dtype: DType = QUINT8) -> Quantized:
        low = 0.0 if dtype == QUINT8 else -high
        name = self.add("", "QuantizeV2", (ref, self.number(low), self.number(high)), T=dtype, mode="SCALED",
                        round_mode="HALF_TO_EVEN", narrow_range=False, axis=-1)
        return Quantized(name, f"{name}:1", f"{name}:2", dtype)

    def dequantize(self, quantized: Quantized, name: str = "") -> str:
        return self.add(name, "Dequantize", (quantized.ref, quantized.low, quantized.high), T=quantized.dtype,
                        mode="SCALED", axis=-1)

    def conv(self, x: Quantized, weights: NDArray[Any], *, relu: bool = True, high: float = 1.0,
             depthwise: bool = False, summand: Quantized | None = None, padding: str = "SAME", stride: int = 1,
             dilation: int = 1, pads: Sequence[int] = (), name: str = "") -> Quantized:
        """pads: rows above and below, columns left and right, for the padding EXPLICIT."""
        largest = np.abs(weights).max((0, 1) if depthwise else (0, 1, 2))
        whole = np.clip(np.round(weights / largest * 127), -127, 127).astype(np.int8)
        sides = largest.ravel()
        dtype = QUINT8 if relu else QINT8
        ranges = (-sides, sides, *((summand.low, summand.high) if summand else ()), 0.0 if relu else -high, high)
        data = [x.ref, self.constant(whole, QINT8), self.constant(np.zeros(sides.size, np.float32)),
                *((summand.ref,) if summand else ()), x.low, x.high,
                *(one if isinstance(one, str) else self.constant(np.asarray(one, np.float32)) for one in ranges)]
        types = [x.dtype, QINT8, FLOAT, *((summand.dtype,) if summand else ())]
        layout = {} if depthwise else {"data_format": "NHWC"}
        made = self.add(
            name, "_FusedQuantizedDepthwiseConv2D" if depthwise else "_FusedQuantizedConv2D", data, **layout,
            Tinput=x.dtype, Tfilter=QINT8, Tbias=FLOAT, Tsummand=summand.dtype if summand else dtype, out_type=dtype,
            Tdevice_inputs=[], Tdevice_outputs=[], Thost_inputs=[*types, *[FLOAT] * (len(data) - len(types))],
            Thost_outputs=[dtype, FLOAT, FLOAT], strides=[1, stride, stride, 1],
            dilations=[1, dilation, dilation, 1], padding=padding,
            explicit_paddings=[0, 0, *pads, 0, 0] if pads else [], is_filter_const=True, is_bias_const=True,
            fused_ops=["BiasAdd", *(["Sum"] if summand else []), *(["Relu"] if relu else []), "Requantize"])
        return Quantized(made, f"{made}:1", f"{made}:2", dtype)

    def matmul(self, x: Quantized, weights: NDArray[Any], name: str = "") -> str:
        largest = float(np.abs(weights).max())
        whole = np.clip(np.round(weights / largest * 127), -127, 127).astype(np.int8)
        data = [x.ref, self.constant(whole, QINT8), self.constant(np.zeros(weights.shape[1], np.float32)), x.low,
                x.high, self.number(-largest), self.number(largest)]
        return self.add(
            name, "_QuantizedMatMul", data, T1=x.dtype, T2=QINT8, Tbias=FLOAT, U=FLOAT, Tout=FLOAT, Tdevice_inputs=[],
            Tdevice_outputs=[], Thost_inputs=[x.dtype, QINT8, *[FLOAT] * 5], Thost_outputs=[FLOAT], transpose_a=False,
            transpose_b=False, is_weight_const=True, is_bias_const=True, fused_ops=["BiasAdd", "Dequantize"],
            input_quant_mode="SCALED", output_quant_mode="SCALED")

    def pool(self, x: Quantized, op: str = "QuantizedMaxPool") -> Quantized:
        made = self.add("", op, (x.ref, x.low, x.high), T=x.dtype, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1],
                        padding="VALID")
        return Quantized(made, f"{made}:1", f"{made}:2", x.dtype)

    def concat(self, parts: Sequence[Quantized], axis: int = 3) -> Quantized:
        dtype = parts[0].dtype
        made = self.add("", "QuantizedConcatV2", [
            *(one.ref for one in parts), self.constant(np.int32(axis)), *(one.low for one in parts),
            *(one.high for one in parts)], N=len(parts), T=dtype, Tidx=INT32)
        return Quantized(made, f"{made}:1", f"{made}:2", dtype)

    def graph(self, *outputs: str) -> Graph:
        return Graph({item.name: item for item in self.nodes}, tuple(self.inputs), outputs).validate("test")


def written(graph: Graph, base: Path) -> Path:
    """The graph as a SavedModel: its inputs and outputs by name, in the signature serving_default."""
    base.mkdir(parents=True)
    one = signature(graph, {name: name for name in graph.inputs}, {name: name for name in graph.outputs})
    saved_model.write(base, Content(graph, {"serving_default": one}))
    return base
