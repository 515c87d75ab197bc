from collections.abc import Iterable
from dataclasses import replace

from export.convolution import check_fusible, merged_padding
from export.graph import Node, make_node
from export.ops import attribute
from export.pattern import Any, Const, Match, Op
from export.transform import Arguments, Draft, Rewrite, sole_reader, transform


@transform("fuse_pad_and_conv")
class FusePadAndConv(Rewrite):  # decision 15
    """Conv2D(MirrorPad(x)) -> FusedPadConv2D(x); Conv2D(Pad(x)) -> Conv2D with explicit paddings.

    Safe when: the paddings are constant and zero for batch and channels, and only this convolution reads the padded
      images. For Pad: the convolution is VALID or EXPLICIT. For MirrorPad, since the CPU kernel of FusedPadConv2D is
      wrong otherwise: a batch of one, NHWC, no dilations, groups or explicit paddings, and float, double or bfloat16.
    Source: Graph Transform Tool, fuse_pad_and_conv (which checked none of these, and did not fuse Pad).
    """

    pattern = Op("Conv2D", Op("MirrorPad|Pad", Any("x"), Const("paddings"), bind="pad"), Any("W"), bind="conv")

    def check(self, m: Match, draft: Draft) -> None:
        sole_reader(draft, m["pad"], m["conv"].name)
        if m["pad"].op == "MirrorPad":
            check_fusible(m["conv"], m.refs["x"], m.refs["W"], draft.graph.shapes)
            m.require(not m["paddings"].value[[0, 3]].any(), "it pads batch or channels")

    def rewrite(self, m: Match, draft: Draft, args: Arguments) -> Iterable[Node]:
        conv, pad = m["conv"], m["pad"]
        controls = dict.fromkeys((*pad.controls, *m["paddings"].controls, *conv.controls))
        if pad.op == "Pad":
            merged = merged_padding(conv, m["paddings"].value)
            return [replace(conv.with_attrs(without=("explicit_paddings",), **merged),
                            inputs=(m.refs["x"], m.refs["W"], *controls))]
        return [make_node(conv.name, "FusedPadConv2D", (m.refs["x"], pad.data[1], m.refs["W"], *controls), conv.device,
                     T=conv.get("T"), mode=attribute(pad, "mode"), strides=attribute(conv, "strides"),
                     padding=attribute(conv, "padding"))]
