from collections.abc import Iterable

from export.convolution import check_fusible, check_resize
from export.graph import Node, make_node
from export.ops import attribute
from export.pattern import Any, Const, Match, Op
from export.transform import Arguments, Draft, Rewrite, sole_reader, transform


@transform("fuse_resize_pad_and_conv")
class FuseResizePadAndConv(Rewrite):  # decision 15
    """Conv2D(MirrorPad(ResizeBilinear(x, size), p)) -> FusedResizeAndPadConv2D.

    Safe when: p is constant and zero for batch and channels; nothing else reads the resized or the padded images; the
      images are float and resized without half_pixel_centers; and, since the CPU kernel is wrong otherwise, the batch
      is one, NHWC, and the convolution has no dilations, groups or explicit paddings.
    Source: Graph Transform Tool, fuse_resize_pad_and_conv (which checked none of these).
    """

    pattern = Op("Conv2D", Op("MirrorPad", Op("ResizeBilinear", Any("x"), Any("size"), bind="resize"),
                              Const("paddings"), bind="pad"), Any("W"), bind="conv")

    def check(self, m: Match, draft: Draft) -> None:
        sole_reader(draft, m["pad"], m["conv"].name)
        sole_reader(draft, m["resize"], m["pad"].name)
        check_resize(m["resize"])
        check_fusible(m["conv"], m.refs["x"], m.refs["W"], draft.graph.shapes)
        m.require(not m["paddings"].value[[0, 3]].any(), "it pads batch or channels")

    def rewrite(self, m: Match, draft: Draft, args: Arguments) -> Iterable[Node]:
        conv, pad, resize = m["conv"], m["pad"], m["resize"]
        controls = dict.fromkeys((*resize.controls, *pad.controls, *m["paddings"].controls, *conv.controls))
        inputs = (m.refs["x"], m.refs["size"], pad.data[1], m.refs["W"], *controls)
        return [make_node(conv.name, "FusedResizeAndPadConv2D", inputs, conv.device, T=conv.get("T"),
                     resize_align_corners=attribute(resize, "align_corners"), mode=attribute(pad, "mode"),
                     strides=attribute(conv, "strides"), padding=attribute(conv, "padding"))]
