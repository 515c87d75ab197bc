import math

import numpy as np

from export.graph import Graph, make_const, producer
from export.ops import attribute
from export.sizes import Sizes, known_sizes
from export.tensors import numpy_dtype
from export.transform import Arguments, Draft, Record, transform
from export.vectors import Vector, Vectors


@transform("fix_reshapes")
def fix_reshapes(graph: Graph, args: Arguments, record: Record) -> Graph:
    """Reshape(x, a computed shape) -> Reshape(x, [-1, 7, 64]), where all sizes but one are known

    Up to eight small operations per Reshape compute the batch again and again (Shape, StridedSlice, Pack, Tensordot's
    GatherV2, Prod, ConcatV2); Reshape itself finds the one size that is unknown.

    Safe when: the shape is computed from shapes and constants only; all sizes but one are known and not zero; and they
      are certainly as many elements as x has, since a Reshape to [-1, ...] accepts others.
    Source: not in the Graph Transform Tool.
    """
    draft = Draft(graph)
    # A fed shape is whatever a request says.
    known = known_sizes(graph)
    vectors = Vectors(graph.nodes, graph.shapes, graph.fed, known)
    for item in graph.order():
        if item.op != "Reshape" or item.name in graph.fed:
            continue
        source = draft.nodes[producer(item.data[1])]
        if source.op == "Const" or source.name in graph.kept:
            continue
        sizes = vectors.of(item.data[1])
        if why := _why_not(sizes, known.get(item.data[0])):
            record.skip(item.name, why)
            continue
        assert sizes is not None
        kind = attribute(item, "Tshape")
        made = make_const(draft.unused_name(f"{item.name}/shape"),
                          np.array([size if isinstance(size, int) else -1 for size in sizes], numpy_dtype(kind)),
                          vectors.frame(item.data[1]), item.device)
        draft.put(made)
        draft.put(item.with_inputs((item.data[0], made.name, *item.controls)))
        draft.drop_unused([source.name])
        record.applied += 1
    return draft.result()


def _why_not(sizes: Vector | None, source: Sizes) -> str:
    """Why a Reshape of a tensor of `source` sizes to the computed `sizes` stays; "" if it can be [-1, ...]."""
    if sizes is None or None in sizes:
        return "its shape is not computed from shapes and constants"
    if 0 in sizes:
        return "a size is 0"
    unknown = [size for size in sizes if not isinstance(size, int) or size == -1]
    if len(unknown) > 1:
        return "more than one size of its shape is unknown"
    if unknown and unknown != [-1] and (source is None or math.prod(sizes) != math.prod(source)):
        return "its input may have another number of elements"
    return ""
