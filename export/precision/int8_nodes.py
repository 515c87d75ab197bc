"""The nodes of TensorFlow 2.21's int8 kernels for CPUs: their inputs in order, attributes and constants.

Source: tensorflow/core/kernels/mkl (oneDNN) of TensorFlow 2.21: mkl_conv_ops.cc and mkl_matmul_op_fused.cc.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from export.graph import Graph, Node, make_attr, make_const, make_node, producer
from export.ops import attribute
from export.precision.blocks import CONVOLUTIONS, Block
from export.precision.encoding import Encoding
from export.precision.form import Form
from export.precision.passing import SAME_BUFFER, TYPE
from export.tensors import FLOAT, INT8, INT32, QINT8, UINT8, Array, DType
from export.transform import Draft

_KERNELS = {"Conv2D": "_FusedQuantizedConv2D", "DepthwiseConv2dNative": "_FusedQuantizedDepthwiseConv2D"}
# QuantizeV2 widens a narrower range to this share of its larger limit, or of 1; Encoding.top is never that small.
_LEAST_RANGE = 1e-6
_LARGEST = 127


class Int8Nodes:
    """Adds int8 nodes to a draft. Equal constants are made once."""

    def __init__(self, draft: Draft, form: Form) -> None:
        self._draft, self._form = draft, form
        self._scalars: dict[float, str] = {}

    # In mode MIN_COMBINED both have kernels that take any offset, rank and number of rows, none included, and that are
    # faster than those of SCALED and MIN_FIRST: the ends of the range are those of all 256 numbers.
    def quantize(self, tensor: str, encoding: Encoding, device: str) -> str:
        """float32 -> eight bits."""
        return self._put(f"{tensor.replace(':', '_')}/quantize", "QuantizeV2", (tensor, *self._ends(encoding)), device,
                         T=encoding.dtype, mode="MIN_COMBINED", round_mode="HALF_AWAY_FROM_ZERO", narrow_range=False,
                         axis=-1, ensure_minimum_range=_LEAST_RANGE)

    def dequantize(self, name: str, tensor: str, encoding: Encoding, like: Node) -> None:
        """Eight bits -> float32, as the node `name`."""
        self._draft.put(make_node(name, "Dequantize", (tensor, *self._ends(encoding)), like.device, T=encoding.dtype,
                                  mode="MIN_COMBINED", narrow_range=False, axis=-1, dtype=FLOAT))

    def _ends(self, encoding: Encoding) -> tuple[str, str]:
        """The real numbers of the smallest and the largest q."""
        low = -128 / 127 * encoding.top if encoding.signed else -encoding.offset
        return self._scalar(low), self._scalar(encoding.top - encoding.offset)

    def contraction(self, block: Block, x: tuple[str, Encoding], summand: tuple[str, Encoding] | None,
                    out: Encoding | None) -> str:
        """The block's result in eight bits as `out` says; as float32 under the block's own name if it is None."""
        whole, largest = per_channel(block, self._form.largest_weight)
        step = largest / _LARGEST
        bias = block.bias.astype(np.float64)
        if x[1].offset:  # taken back through the weights as the kernel has them
            axes = (0, 1) if block.op == "DepthwiseConv2dNative" else tuple(range(whole.ndim - 1))
            bias = bias - x[1].offset * whole.astype(np.float64).sum(axes).ravel() * step
        if self._form.rows and out is not None and _is_product(self._draft.graph, block):
            return self._rows(block, x, out, whole, largest, bias)
        if block.op in CONVOLUTIONS:
            assert out is not None
            bias = bias + out.offset - (summand[1].offset if summand else 0.0)
            return self._convolution(block, x, summand, out, whole, largest, bias)
        return self._product(block, x, out, whole, largest, bias)

    def passing(self, item: Node, tensors: Sequence[str], encoding: Encoding) -> str:
        """A node that moves eight bits as it moved floats: pooling, concatenation, padding, another shape."""
        low, high = self._limits(encoding)
        name = f"{item.name}/int8"
        if item.op in ("MaxPool", "AvgPool"):
            return self._put(name, f"Quantized{item.op}", (tensors[0], low, high, *item.controls), item.device,
                             T=encoding.dtype, **{key: attribute(item, key) for key in ("ksize", "strides", "padding")})
        count = len(tensors)
        if item.op == "ConcatV2":
            return self._put(name, "QuantizedConcatV2", (
                *tensors, item.data[-1], *[low] * count, *[high] * count, *item.controls), item.device,
                N=count, T=encoding.dtype, Tidx=attribute(item, "Tidx"))
        if item.op in SAME_BUFFER:
            return self._moved(name, item, tensors[0], encoding.dtype)
        # Their kernels for quint8 and qint8 do not exist, or take ten times as long as those for plain bytes.
        plain = INT8 if encoding.signed else UINT8
        as_bytes = self._put(f"{item.name}/bytes", "Bitcast", (tensors[0],), item.device, T=encoding.dtype, type=plain)
        moved = self._moved(f"{item.name}/moved", item, as_bytes, plain)
        return self._put(name, "Bitcast", (moved,), item.device, T=plain, type=encoding.dtype)

    def _moved(self, name: str, item: Node, tensor: str, dtype: DType) -> str:
        made = item.with_inputs((tensor, *item.inputs[1:]))
        made = replace(made, attrs={**made.attrs, TYPE.get(item.op, "T"): make_attr(dtype)})
        return self._put_node(replace(made, name=self._draft.unused_name(name)))

    def _convolution(self, block: Block, x: tuple[str, Encoding], summand: tuple[str, Encoding] | None, out: Encoding,
                     whole: Array, largest: Array, bias: Array) -> str:
        node = block.contraction.node
        added = [summand[0]] if summand else []
        ranges = [*self._limits(x[1]), *self._filter_limits(block, largest),
                  *(self._limits(summand[1]) if summand else ()), *self._limits(out)]
        inputs = [x[0], self._weights(block, whole), self._bias(block, bias), *added, *ranges]
        kinds = [x[1].dtype, QINT8, FLOAT, *([summand[1].dtype] if summand else []), *[FLOAT] * len(ranges)]
        fused = ["BiasAdd", *(["Sum"] if summand else []), *(["Relu"] if block.activation or summand else []),
                 "Requantize"]
        return self._put(
            f"{block.name}/int8", _KERNELS[block.op], (*inputs, *self._controls(block)), node.device,
            Tinput=x[1].dtype, Tfilter=QINT8, Tbias=FLOAT, Tsummand=summand[1].dtype if summand else out.dtype,
            out_type=out.dtype, Tdevice_inputs=[], Tdevice_outputs=[], Thost_inputs=kinds,
            Thost_outputs=[out.dtype, FLOAT, FLOAT], data_format="NHWC", is_filter_const=True, is_bias_const=True,
            fused_ops=fused, strides=attribute(node, "strides"), dilations=attribute(node, "dilations"),
            **block.padding)

    def _rows(self, block: Block, x: tuple[str, Encoding], out: Encoding, whole: Array, largest: Array, bias: Array
              ) -> str:
        """A convolution of one pixel as the product of the rows [pixels, channels]."""
        channels, outputs = whole.shape[2:]
        sizes, device = self._draft.graph.shapes[block.x], block.contraction.node.device
        assert sizes is not None
        flat = self._put(f"{block.name}/rows", "Reshape", (x[0], self._shape(-1, channels)), device, T=x[1].dtype,
                         Tshape=INT32)
        made = self._product(block, (flat, x[1]), out, whole.reshape(channels, outputs), largest, bias)
        return self._put(f"{block.name}/image", "Reshape", (made, self._shape(-1, *sizes[1:3], outputs)), device,
                         T=out.dtype, Tshape=INT32)

    def _shape(self, *sizes: int | None) -> str:
        return self._const("int8/shape", np.asarray(sizes, np.int32))

    def _product(self, block: Block, x: tuple[str, Encoding], out: Encoding | None, whole: Array, largest: Array,
                 bias: Array) -> str:
        node = block.contraction.node
        ranges = [*self._limits(x[1]), *self._filter_limits(block, largest)]
        mode = "MIN_FIRST" if out is not None and out.offset else "SCALED"
        if out is not None:
            ranges += [self._scalar(out.bottom - out.offset), self._scalar(out.top - out.offset)]
        kinds: list[DType] = [x[1].dtype, QINT8, FLOAT, *[FLOAT] * len(ranges)]
        result = FLOAT if out is None else out.dtype
        fused = ["BiasAdd", *([block.activation.name] if block.activation else []),
                 "Dequantize" if out is None else "Requantize"]
        inputs = (x[0], self._weights(block, whole), self._bias(block, bias), *ranges, *self._controls(block))
        attrs = {
            "T1": x[1].dtype, "T2": QINT8, "Tbias": FLOAT, "U": FLOAT, "Tout": result, "Tdevice_inputs": [],
            "Tdevice_outputs": [], "Thost_inputs": kinds,
            "Thost_outputs": [FLOAT] if out is None else [result, FLOAT, FLOAT], "transpose_a": False,
            "transpose_b": False, "is_weight_const": True, "is_bias_const": True, "fused_ops": fused,
            "input_quant_mode": "SCALED", "output_quant_mode": mode,
            "leakyrelu_alpha": block.activation.alpha if block.activation else 0.0}
        if out is None:
            self._draft.put(make_node(block.result, "_QuantizedMatMul", inputs, node.device, **attrs))
            return block.result
        return self._put(f"{block.name}/int8", "_QuantizedMatMul", inputs, node.device, **attrs)

    def _weights(self, block: Block, whole: Array) -> str:
        return self._const(f"{block.name}/int8_weights", whole, QINT8)

    def _bias(self, block: Block, bias: Array) -> str:
        return self._const(f"{block.name}/int8_bias", bias.astype(np.float32))

    def _filter_limits(self, block: Block, largest: Array) -> tuple[str, str]:
        limits = largest.astype(np.float32)
        return (self._const(f"{block.name}/int8_weights_min", -limits),
                self._const(f"{block.name}/int8_weights_max", limits))

    def _limits(self, encoding: Encoding) -> tuple[str, str]:
        return self._scalar(encoding.bottom), self._scalar(encoding.top)

    def _controls(self, block: Block) -> tuple[str, ...]:
        """What the nodes and their constants waited for: in a branch of a v1 condition it decides whether they run."""
        nodes = self._draft.graph.nodes
        members = [nodes[name] for name in block.members]
        constants = [source for item in members for ref in item.data
                     if (source := nodes[producer(ref)]).op == "Const"]
        return tuple(dict.fromkeys(control for item in (*members, *constants) for control in item.controls))

    def _scalar(self, value: float) -> str:
        if value not in self._scalars:
            self._scalars[value] = self._const("int8/range", np.asarray(value, np.float32))
        return self._scalars[value]

    def _const(self, name: str, value: Array, dtype: DType | None = None) -> str:
        made = make_const(self._draft.unused_name(name), value, dtype=dtype)
        self._draft.put(made)
        return made.name

    def _put(self, name: str, op: str, inputs: tuple[str, ...], device: str, **attrs: object) -> str:
        return self._put_node(make_node(self._draft.unused_name(name), op, inputs, device, **attrs))

    def _put_node(self, made: Node) -> str:
        self._draft.put(made)
        return made.name


def _is_product(graph: Graph, block: Block) -> bool:
    """Whether it is a convolution of one pixel, without stride, of images of known size, and adds nothing."""
    sizes = graph.shapes.get(block.x)
    return (block.op == "Conv2D" and block.weights.shape[:2] == (1, 1) and not block.pads and not block.summand
            and set(attribute(block.contraction.node, "strides")) == {1} and sizes is not None
            and None not in sizes[1:])


def per_channel(block: Block, largest_weight: int = _LARGEST) -> tuple[Array, Array]:
    """The weights as int8, and the real number [outputs] that 127 stands for in each output channel.

    `largest_weight`: the whole number that a channel's largest weight becomes.
    """
    weights = block.weights.astype(np.float64)
    axes = (0, 1) if block.op == "DepthwiseConv2dNative" else tuple(range(weights.ndim - 1))
    largest = np.abs(weights).max(axes)
    largest = np.where(largest > 0, largest, 1.0)
    whole = np.clip(np.round(weights / largest * largest_weight), -largest_weight, largest_weight).astype(np.int8)
    return whole, largest.ravel() * (_LARGEST / largest_weight)
