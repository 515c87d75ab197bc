from collections.abc import Iterable

import numpy as np

from export.convolution import check_fusible, check_resize
from export.graph import Node, make_const, make_node, producer
from export.ops import attribute
from export.pattern import Any, Match, Op
from export.transform import Arguments, Draft, Rewrite, sole_reader, transform


@transform("fuse_resize_and_conv")
class FuseResizeAndConv(Rewrite):  # decision 15
    """Conv2D(ResizeBilinear(x, size), W) -> FusedResizeAndPadConv2D(x, size, no padding, W).

    Safe when: only this convolution reads the resized images; they are float and resized without half_pixel_centers;
      and, since the CPU kernel is wrong otherwise, the batch is one, NHWC, and the convolution has no dilations, groups
      or explicit paddings.
    Source: Graph Transform Tool, fuse_resize_and_conv (which checked none of these).
    """

    pattern = Op("Conv2D", Op("ResizeBilinear", Any("x"), Any("size"), bind="resize"), Any("W"), bind="conv")

    def check(self, m: Match, draft: Draft) -> None:
        sole_reader(draft, m["resize"], m["conv"].name)
        check_resize(m["resize"])
        check_fusible(m["conv"], m.refs["x"], m.refs["W"], draft.graph.shapes)

    def rewrite(self, m: Match, draft: Draft, args: Arguments) -> Iterable[Node]:
        conv, resize = m["conv"], m["resize"]
        # With a control input, since in a v1 loop a constant without inputs would be outside of the loop.
        paddings = make_const(draft.unused_name(f"{conv.name}_dummy_paddings"), np.zeros((4, 2), np.int32),
                         (f"^{producer(m.refs['x'])}",), conv.device)
        controls = dict.fromkeys((*resize.controls, *conv.controls))
        inputs = (m.refs["x"], m.refs["size"], paddings.name, m.refs["W"], *controls)
        return [paddings,
                make_node(conv.name, "FusedResizeAndPadConv2D", inputs, conv.device, T=conv.get("T"), mode="REFLECT",
                     resize_align_corners=attribute(resize, "align_corners"), strides=attribute(conv, "strides"),
                     padding=attribute(conv, "padding"))]
