"""Float ops and their eight-bit counterparts: which exist, their inputs, and when they compute the same.

The kernels are those of TensorFlow 2.21 for CPUs, which no longer has QuantizedConv2DTranspose: so there is no
counterpart of Conv2DBackpropInput.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from export.graph import Node
from export.ops import attribute
from export.pattern import Skip
from export.tensors import QINT32, QUINT8, DType

Shape = tuple[int | None, ...] | None
Shapes = Mapping[str, Shape]


@dataclass(frozen=True)
class Counterpart:
    """An eight-bit op. Its inputs are those of the float op, then the minimum and maximum of each quantized one."""

    op: str
    types: tuple[str, ...]
    copied: tuple[str, ...] = ()
    # The attribute with the output's type, if the output has 32 bits and must be requantized to 8.
    wide: str = ""
    # How many inputs, counted from the first, are to be quantized; 0: all.
    quantized: int = 0
    check: Callable[[Node, Shapes], None] = lambda item, shapes: None

    def attrs(self, item: Node) -> dict[str, object]:
        types: dict[str, DType] = {**dict.fromkeys(self.types, QUINT8), **({self.wide: QINT32} if self.wide else {})}
        return {**types, **{key: attribute(item, key) for key in self.copied}}


def _nhwc(item: Node, shapes: Shapes) -> None:
    if attribute(item, "data_format") != "NHWC":
        raise Skip("the eight-bit kernel takes NHWC only")
    if attribute(item, "padding") == "EXPLICIT":
        raise Skip("the eight-bit kernel has no explicit paddings")


def _pooling(item: Node, shapes: Shapes) -> None:
    _nhwc(item, shapes)
    for key in ("ksize", "strides"):
        if {attribute(item, key)[0], attribute(item, key)[3]} != {1}:
            raise Skip("the eight-bit kernel pools over height and width only")


def _convolution(item: Node, shapes: Shapes) -> None:
    _nhwc(item, shapes)
    if set(attribute(item, "dilations")) != {1}:
        raise Skip("the eight-bit kernel has no dilations")
    if len(set(attribute(item, "strides")[1:3])) > 1:
        raise Skip("the eight-bit kernel has one stride for height and width")
    image, filters = (shapes.get(ref) for ref in item.data)
    if not image or not filters or image[3] is None or image[3] != filters[2]:
        raise Skip("the convolution may be grouped, which the eight-bit kernel does not know")


def _bias(item: Node, shapes: Shapes) -> None:
    if attribute(item, "data_format") != "NHWC":
        raise Skip("the eight-bit kernel takes NHWC only")


def _broadcast(item: Node, shapes: Shapes) -> None:
    """The kernels repeat the smaller tensor, which is right only if its shape is the end of the larger one's shape."""
    first, second = (shapes.get(ref) for ref in item.data)
    if first is None or second is None:
        raise Skip("the ranks of its inputs are not known")
    rank = max(len(first), len(second))
    pairs = list(zip((1,) * (rank - len(first)) + first, (1,) * (rank - len(second)) + second, strict=True))
    while pairs and pairs[-1][0] == pairs[-1][1] is not None:
        pairs.pop()
    if len(pairs) > 1 and not any(all(sizes[side] == 1 for sizes in pairs) for side in (0, 1)):
        raise Skip("the eight-bit kernel broadcasts over the first dimensions only")


COUNTERPARTS: dict[str, Counterpart] = {
    **dict.fromkeys(("Add", "AddV2"), Counterpart("QuantizedAdd", ("T1", "T2"), wide="Toutput", check=_broadcast)),
    "Mul": Counterpart("QuantizedMul", ("T1", "T2"), wide="Toutput", check=_broadcast),
    "MatMul": Counterpart("QuantizedMatMul", ("T1", "T2"), ("transpose_a", "transpose_b"), "Toutput"),
    "BiasAdd": Counterpart("QuantizedBiasAdd", ("T1", "T2"), wide="out_type", check=_bias),
    "Conv2D": Counterpart("QuantizedConv2D", ("Tinput", "Tfilter"), ("strides", "padding"), "out_type",
                          check=_convolution),
    "AvgPool": Counterpart("QuantizedAvgPool", ("T",), ("ksize", "strides", "padding"), check=_pooling),
    "MaxPool": Counterpart("QuantizedMaxPool", ("T",), ("ksize", "strides", "padding"), check=_pooling),
    "Relu": Counterpart("QuantizedRelu", ("Tinput", "out_type")),
    "Relu6": Counterpart("QuantizedRelu6", ("Tinput", "out_type")),
    "Reshape": Counterpart("QuantizedReshape", ("T",), ("Tshape",), quantized=1),
    "ResizeBilinear": Counterpart("QuantizedResizeBilinear", ("T",), ("align_corners", "half_pixel_centers"),
                                  quantized=1),
    # The axis comes first, and the minima before the maxima: see `quantize_nodes`.
    **dict.fromkeys(("Concat", "ConcatV2"), Counterpart("QuantizedConcat", ("T",), ("N",))),
}
