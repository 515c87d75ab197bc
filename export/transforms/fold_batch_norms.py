from export.folding.affine import ARITHMETIC
from export.folding.chains import fold_affines
from export.graph import Graph
from export.transform import Arguments, Record, transform


@transform("fold_batch_norms")
def fold_batch_norms(graph: Graph, args: Arguments, record: Record) -> Graph:
    """Mul, Add, Sub, Div by constants beside a contraction -> other weights and one bias.

    contraction(x, W) * scale + offset -> BiasAdd(contraction(x, W * scale), offset), and
    contraction(x * scale + offset, W) -> BiasAdd(contraction(x, scale * W), offset through W). The result has the
    name of the last node it replaces. Contractions: Conv2D, DepthwiseConv2dNative, Conv2DBackpropInput, Conv3D,
    MatMul, BatchMatMul, V2, V3, with or without a bias in between. The constant is either operand of Mul or Add, of
    shape [C] or [1,1,1,C], or a scalar.

    Safe when: weights and constants are finite float32 or float64; the constant is one number or one per channel of
      the contraction (along the channel axis of its layout); the contraction has no other reader, and neither it nor a
      node in between is a requested output. Before a convolution with SAME padding only the scale is folded, since
      the padded zeros do not get the offset. Weights with other readers are copied for this contraction.
    Source: Graph Transform Tool, fold_batch_norms (stricter, and wider: it knew only Mul of Conv2D, MatMul,
      depthwise).
    """
    return fold_affines(graph, record, ARITHMETIC)
