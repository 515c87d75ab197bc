import numpy as np

from export.graph import Graph, make_const, producer
from export.ops import attribute
from export.tensors import numpy_dtype
from export.transform import Arguments, Draft, Record, transform
from export.vectors import Vectors


@transform("fix_reshapes")
def fix_reshapes(graph: Graph, args: Arguments, record: Record) -> Graph:
    """Reshape(x, a computed shape) -> Reshape(x, [-1, 7, 64]), where all sizes but one are known

    Up to eight small operations per Reshape compute the batch again and again (Shape, StridedSlice, Pack, Tensordot's
    GatherV2, Prod, ConcatV2); Reshape itself finds the one size that is unknown.

    Safe when: the shape is computed from shapes and constants only; all sizes but one are known and not zero; no node
      waits in between.
    Source: not in the Graph Transform Tool.
    """
    draft = Draft(graph)
    # A fed shape is whatever a request says.
    vectors = Vectors(graph.nodes, graph.shapes, graph.fed)
    for item in graph.order():
        if item.op != "Reshape" or item.name in graph.fed:
            continue
        source = draft.nodes[producer(item.data[1])]
        if source.op == "Const" or source.name in graph.kept:
            continue
        sizes = vectors.of(item.data[1])
        if sizes is None or sizes.count(None) > 1 or 0 in sizes or (None in sizes and -1 in sizes):
            record.skip(item.name, "more than one size of its shape is unknown")
            continue
        kind = attribute(item, "Tshape")
        made = make_const(draft.unused_name(f"{item.name}/shape"),
                          np.array([-1 if size is None else size for size in sizes], numpy_dtype(kind)),
                          vectors.frame(item.data[1]), item.device)
        draft.put(made)
        draft.put(item.with_inputs((item.data[0], made.name, *item.controls)))
        draft.drop_unused([source.name])
        record.applied += 1
    return draft.result()
