from export.folding.affine import AFFINE
from export.folding.chains import fold_affines
from export.folding.passage import PASSAGES
from export.graph import Graph
from export.transform import Arguments, Record, transform


@transform("fold_affine_through")
def fold_affine_through(graph: Graph, args: Arguments, record: Record) -> Graph:
    """A constant affine op -> into a contraction beyond a relu, pooling, reshape or similar op.

    Moves scale and offset backward or forward through MaxPool, AvgPool, Relu, LeakyRelu, Reshape, Squeeze, Transpose,
    ConcatV2, Pad, MirrorPad, Mean and Max, into the contraction that made the result, or into every contraction that
    reads it.

    Safe when: as fold_batch_norms, and each op passes the map on exactly: relu and maximum only a scale that is not
      negative, relu and zero padding no offset, a reshape only whole rows of channels. If scale and offset cannot both
      be moved, the scale is, and one addition stays.
    Source: not in the Graph Transform Tool.
    """
    return fold_affines(graph, record, AFFINE, through=PASSAGES | {"ConcatV2"})
