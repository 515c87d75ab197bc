from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from export.graph import Node, make_const, producer
from export.ops import attribute
from export.pattern import Any, Const, Match, Op, Skip
from export.shapes import Shape
from export.tensors import Array
from export.transform import Arguments, Draft, Rewrite, sole_reader, transform


@transform("flatten_atrous_conv")
class FlattenAtrousConv(Rewrite):  # decision 16
    """BatchToSpaceND(conv(SpaceToBatchND(x, ...), W), ...) -> conv of x with dilations.

    conv is Conv2D or DepthwiseConv2dNative. Conv2D gets the rate as its dilations; its W is not changed and need not be
    constant. The CPU kernel of DepthwiseConv2dNative has no dilations, so there W must be constant, and zeros are
    inserted between its taps.

    Safe when: rate, paddings and crops are constant, with the same rate on both sides, and no crop exceeds its
      padding; conv is VALID, without strides or dilations; only this chain reads conv.
    Source: Graph Transform Tool, flatten_atrous_conv (which spread out every W, failed on one that is not constant,
      took any padding for SAME and any W for float).
    """

    pattern = Op("BatchToSpaceND",
                 Op("Conv2D|DepthwiseConv2dNative",
                    Op("SpaceToBatchND", Any("x"), Const("rate"), Const("paddings")), Any("W"), bind="conv"),
                 Const("rate_after"), Const("crops"))

    def check(self, m: Match, draft: Draft) -> None:
        conv = m["conv"]
        sole_reader(draft, conv, m.root.name)
        m.require(np.array_equal(m["rate"].value, m["rate_after"].value), "it is put together at another rate")
        m.require(attribute(conv, "padding") == "VALID", "the convolution inside pads each part on its own")
        m.require({*attribute(conv, "strides"), *attribute(conv, "dilations")} == {1},
                  "the convolution inside has strides or dilations")

    def rewrite(self, m: Match, draft: Draft, args: Arguments) -> Iterable[Node]:
        conv = m["conv"]
        image = attribute(conv, "data_format").index("H")
        rate, paddings = _over_image(m["rate"].value, m["paddings"].value - m["crops"].value, image)
        controls = dict.fromkeys(ref for item in m.members for ref in item.controls)
        attrs = _padding(paddings, rate, draft.graph.shapes.get(m.refs["W"]), image)
        filters = m.refs["W"]
        if conv.op == "DepthwiseConv2dNative":
            spread = _spread(draft, m.root.name, filters, rate)
            yield spread
            filters, rate = spread.name, [1, 1]
        yield replace(conv.with_attrs(without=("explicit_paddings", "_output_shapes"), **attrs,
                                      dilations=[1] * image + rate + [1] * (2 - image)),
                      name=m.root.name, inputs=(m.refs["x"], filters, *controls))


def _over_image(rate: Array, paddings: Array, image: int) -> tuple[list[int], Array]:
    """Rates and paddings of height and width, from those given for the dimensions from the second on."""
    missing = 3 - len(rate)
    rates = np.concatenate([rate, np.ones(missing, rate.dtype)])
    paddings = np.concatenate([paddings, np.zeros((missing, 2), paddings.dtype)])
    height = image - 1
    channels = 0 if height else 2
    if rates[channels] != 1 or paddings[channels].any():
        raise Skip("it spreads channels")
    if (paddings < 0).any():
        raise Skip("it crops more than it pads")
    return [int(size) for size in rates[height:height + 2]], paddings[height:height + 2]


def _padding(paddings: Array, rate: list[int], filters: Shape, image: int) -> dict[str, object]:
    if not paddings.any():
        return {"padding": "VALID"}
    if filters:
        total = [(size - 1) * step if size else -1 for size, step in zip(filters, rate, strict=False)]
        if [[size // 2, size - size // 2] for size in total] == paddings.tolist():
            return {"padding": "SAME"}
    around = [int(size) for size in paddings.ravel()]
    return {"padding": "EXPLICIT", "explicit_paddings": [0, 0] * image + around + [0, 0] * (2 - image)}


def _spread(draft: Draft, root: str, filters: str, rate: list[int]) -> Node:
    """The filter with rate - 1 zeros between its taps."""
    made = draft.nodes[producer(filters)]
    if made.op != "Const" or made.name in draft.graph.fed:
        raise Skip("the depthwise filter is not constant")
    taps = made.value
    height, width = ((size - 1) * step + 1 for size, step in zip(taps.shape, rate, strict=False))
    spread = np.zeros((height, width, *taps.shape[2:]), taps.dtype)
    spread[::rate[0], ::rate[1]] = taps
    return make_const(draft.unused_name(f"{root}/filter"), spread, made.controls, made.device)
