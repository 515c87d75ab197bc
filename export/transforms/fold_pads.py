from collections.abc import Iterable
from dataclasses import replace

from export.convolution import merged_padding
from export.graph import Node
from export.ops import attribute
from export.pattern import Any, Const, Match, Op
from export.shapes import channel_axis
from export.transform import Arguments, Draft, Rewrite, sole_reader, transform


@transform("fold_pads")
class FoldPads(Rewrite):
    """Conv2D(Pad(x), VALID) -> Conv2D(x, SAME), also DepthwiseConv2dNative, where SAME pads as much

    Keras' mobile networks pad by (0, 1) before each convolution with stride 2, which is what SAME does for an even
    size: the padded copy of the image is not made.

    Safe when: the sizes of x's height and width are known and SAME adds exactly the paddings, which are constant and
      zero for batch and channels; the convolution is VALID; only it reads the padded images.
    Source: not in the Graph Transform Tool.
    """

    pattern = Op("Conv2D|DepthwiseConv2dNative", Op("Pad", Any("x"), Const("paddings"), bind="pad"), Any("W"),
                 bind="conv")

    def check(self, m: Match, draft: Draft) -> None:
        conv = m["conv"]
        sole_reader(draft, m["pad"], conv.name)
        m.require(attribute(conv, "padding") == "VALID", "the convolution pads too")
        merged_padding(conv, m["paddings"].value)  # refuses padded batches and channels
        shape, filters = draft.graph.shapes.get(m.refs["x"]), draft.graph.shapes.get(m.refs["W"])
        m.require(shape is not None and filters is not None and len(shape) == len(filters) == 4,
                  "the rank of the images or of the filter is unknown")
        assert shape is not None
        assert filters is not None
        channels = channel_axis(conv, 4)
        places = [axis for axis in (1, 2, 3) if axis != channels]
        wanted = m["paddings"].value.tolist()
        for axis, taps in zip(places, filters[:2], strict=True):
            size = shape[axis]
            m.require(size is not None and taps is not None, "the images' size is unknown")
            assert size is not None
            assert taps is not None
            stride, dilation = attribute(conv, "strides")[axis], (attribute(conv, "dilations") or [1] * 4)[axis]
            total = max((-(-size // stride) - 1) * stride + (taps - 1) * dilation + 1 - size, 0)
            m.require(wanted[axis] == [total // 2, total - total // 2],
                      f"SAME would pad by {[total // 2, total - total // 2]}, not by {wanted[axis]}")

    def rewrite(self, m: Match, draft: Draft, args: Arguments) -> Iterable[Node]:
        conv, pad = m["conv"], m["pad"]
        controls = dict.fromkeys((*pad.controls, *m["paddings"].controls, *conv.controls))
        return [replace(conv.with_attrs(without=("explicit_paddings",), padding="SAME"),
                        inputs=(m.refs["x"], m.refs["W"], *controls))]
