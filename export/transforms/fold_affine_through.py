from export.folding.affine import AFFINE
from export.folding.chains import fold_affines
from export.folding.passage import PASSAGES
from export.graph import Graph
from export.transform import Arguments, Record, transform


@transform("fold_affine_through")
def fold_affine_through(graph: Graph, args: Arguments, record: Record) -> Graph:
    """A constant affine op -> into a contraction beyond relu, pooling, reshape or the like.

    Moves scale and offset back or forth through MaxPool, AvgPool, Relu, LeakyRelu, Reshape, Squeeze, Transpose,
    ConcatV2, Pad, MirrorPad, Mean and Max, into every contraction that reads the result, or into the one that made
    it.

    Safe when: as fold_batch_norms, and each op passes the map on exactly: relu and maximum only a scale that is not
      negative, relu and zero padding no offset, a reshape only whole rows of channels. What cannot move whole is
      split: the scale goes, and one addition stays.
    Source: beyond the Graph Transform Tool.
    """
    return fold_affines(graph, record, AFFINE, through=PASSAGES | {"ConcatV2"})
