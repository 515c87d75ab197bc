"""Conv2D: merging a padding into it, and the limits of the fused CPU kernels."""
from __future__ import annotations

from collections.abc import Mapping

from export.graph import Node
from export.ops import attribute
from export.pattern import Skip
from export.tensors import BFLOAT16, DOUBLE, FLOAT, Array

# Not half: FusedPadConv2D adds half floats in half precision.
_FUSED_TYPES = (FLOAT, DOUBLE, BFLOAT16)
Shapes = Mapping[str, tuple[int | None, ...] | None]


def check_fusible(conv: Node, x: str, filters: str, shapes: Shapes) -> None:
    """Raises Skip unless FusedPadConv2D and FusedResizeAndPadConv2D compute what `conv` does, for images like `x`.

    In TensorFlow 2.21 they support neither NCHW, dilations, groups nor explicit paddings, exist only for CPUs, and
    return the first example's result for every example of a batch.
    """
    if conv.get("T") not in _FUSED_TYPES:
        raise Skip(f"the fused kernel rounds {conv.get('T')!r} differently")
    if attribute(conv, "data_format") != "NHWC":
        raise Skip("the fused kernel takes NHWC only")
    if set(attribute(conv, "dilations")) != {1}:
        raise Skip("the fused kernel has no dilations")
    if attribute(conv, "padding") == "EXPLICIT":
        raise Skip("the fused kernel has no explicit paddings")
    if "GPU" in conv.device.upper():
        raise Skip("the fused kernel exists for CPUs only")
    image, weights = shapes.get(x), shapes.get(filters)
    if not image or image[0] != 1:
        raise Skip("the batch is not known to be 1, and the fused kernel is wrong for any other")
    if image[-1] is None or not weights or weights[2] != image[-1]:
        raise Skip("the convolution may be grouped, which the fused kernel does not know")


def merged_padding(conv: Node, paddings: Array) -> dict[str, object]:
    """The attributes with which `conv` also pads with zeros by `paddings` ([4, 2], in its data format's order).

    Raises Skip if it cannot.
    """
    data_format = attribute(conv, "data_format")
    if data_format not in ("NHWC", "NCHW") or paddings.shape != (4, 2):
        raise Skip("the padding is not that of a batch of images")
    if paddings[[0, data_format.index("C")]].any():
        raise Skip("it pads batch or channels")
    if (paddings < 0).any():
        raise Skip("a padding is negative")
    if attribute(conv, "padding") == "SAME":
        raise Skip("the convolution pads too, by an amount that depends on the image's size")
    own = attribute(conv, "explicit_paddings") if attribute(conv, "padding") == "EXPLICIT" else [0] * 8
    total = [int(more) + before for more, before in zip(paddings.ravel(), own, strict=True)]
    return {"padding": "EXPLICIT", "explicit_paddings": total} if any(total) else {"padding": "VALID"}


def check_resize(resize: Node) -> None:
    """Raises Skip unless FusedResizeAndPadConv2D resizes as this ResizeBilinear does."""
    if attribute(resize, "half_pixel_centers"):
        raise Skip("the fused kernel does not know half_pixel_centers")
    if attribute(resize, "T") != FLOAT:
        raise Skip(f"it makes float images of {resize.get('T')!r} ones, which the fused kernel does not")
