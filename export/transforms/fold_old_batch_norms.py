from export.folding.affine import NORMS
from export.folding.chains import fold_affines
from export.graph import Graph
from export.transform import Arguments, Record, transform


@transform("fold_old_batch_norms")
def fold_old_batch_norms(graph: Graph, args: Arguments, record: Record) -> Graph:
    """A batch norm op beside a contraction -> the contraction with other weights and one bias.

    As fold_batch_norms, for the norms that are one op: FusedBatchNorm, V2, V3, BatchNormWithGlobalNormalization.
    Arithmetic by constants next to the norm is folded with it.
    Between the contraction and the norm there may be a ConcatV2 of several contractions, or the BatchToSpaceND of an
    atrous one.

    Safe when: as fold_batch_norms, and the norm is not in training mode, its four statistics are constant, and only
      its first output is used.
    Source: Graph Transform Tool, fold_old_batch_norms (which folded training mode, NCHW and shared weights wrongly).
    """
    return fold_affines(graph, record, NORMS, through=("BatchToSpaceND", "ConcatV2"))
