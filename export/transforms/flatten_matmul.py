import numpy as np

from export.graph import Graph, Node, make_const, make_node, producer
from export.ops import attribute
from export.pattern import Skip
from export.shapes import Shape, constant
from export.tensors import BFLOAT16, DOUBLE, FLOAT, HALF, INT32
from export.transform import Arguments, Draft, Record, transform


@transform("flatten_matmul")
def flatten_matmul(graph: Graph, args: Arguments, record: Record) -> Graph:
    """BatchMatMulV2(x[..., K], W[K, N]) -> Reshape(MatMul(Reshape(x, [-1, K]), W), [..., N])

    A dense layer on sequences: as a MatMul, TensorFlow's optimizer merges it with bias and activation into one kernel.
    A Transpose that moves nothing, as in Keras' Tensordot, goes.

    Safe when: the type is a float; W is a constant matrix that is not fed; x is not transposed; its rank and K are
      known, and no size is 0. With more than one unknown size the result's shape is computed from x's.
    Source: not in the Graph Transform Tool.
    """
    draft = Draft(graph)
    for item in graph.order():
        if item.name in graph.fed:
            continue
        try:
            if item.op in ("BatchMatMulV2", "BatchMatMul") and _is_matrix(graph, item):
                _flatten(draft, item, graph.shapes.get(item.data[0]))
            elif item.op == "Transpose" and _moves_nothing(graph, item) and item.name not in graph.kept \
                    and not item.controls:
                draft.redirect(item.name, item.data[0])
                draft.drop_unused([item.name])
            else:
                continue
        except Skip as skip:
            record.skip(item.name, skip.reason)
            continue
        record.applied += 1
    return draft.result()


def _is_matrix(graph: Graph, item: Node) -> bool:
    weights = graph.nodes[producer(item.data[1])]
    return weights.op == "Const" and len(weights.shape) == 2 and weights.name not in graph.fed


def _flatten(draft: Draft, item: Node, shape: Shape) -> None:
    if item.get("T") not in (FLOAT, DOUBLE, HALF, BFLOAT16):
        raise Skip("its numbers are no floats")  # MatMul does not conjugate, and has fewer types
    if attribute(item, "adj_x"):
        raise Skip("the input is transposed")
    if shape is None or shape[-1] is None:
        raise Skip("the input's rank or last size is unknown")
    if 0 in shape or 0 in draft.nodes[producer(item.data[1])].shape:
        raise Skip("a size is 0")  # beside which a Reshape cannot find another
    if len(shape) == 2:
        draft.put(make_node(item.name, "MatMul", item.inputs, item.device, T=item.get("T"), transpose_a=False,
                            transpose_b=bool(attribute(item, "adj_y"))))
        return
    now = draft.nodes[item.name]
    weights = draft.nodes[producer(item.data[1])]
    outputs = weights.shape[0 if attribute(item, "adj_y") else 1]
    rows = _reshape(draft, f"{item.name}/rows", now.data[0], _sizes(draft, item, [-1, shape[-1]], weights), item)
    product = make_node(draft.unused_name(f"{item.name}/MatMul"), "MatMul", (rows, now.data[1], *item.controls),
                        item.device, T=item.get("T"), transpose_a=False, transpose_b=bool(attribute(item, "adj_y")))
    draft.put(product)
    unknown = [axis for axis, size in enumerate(shape[:-1]) if size is None]
    if len(unknown) < 2:
        whole = _sizes(draft, item, [-1 if size is None else size for size in shape[:-1]] + [outputs], weights)
    else:
        whole = _computed(draft, item, now.data[0], len(shape), weights)
    draft.put(make_node(item.name, "Reshape", (product.name, whole), item.device, T=item.get("T"), Tshape=INT32))


def _reshape(draft: Draft, name: str, ref: str, sizes: str, like: Node) -> str:
    made = make_node(draft.unused_name(name), "Reshape", (ref, sizes), like.device, T=like.get("T"), Tshape=INT32)
    draft.put(made)
    return made.name


def _sizes(draft: Draft, item: Node, sizes: list[int] | int, weights: Node) -> str:
    # In a v1 loop the weights, being a constant, are kept in the loop's frame by their control inputs.
    made = make_const(draft.unused_name(f"{item.name}/shape"), np.array(sizes, np.int32), weights.controls, item.device)
    draft.put(made)
    return made.name


def _computed(draft: Draft, item: Node, ref: str, rank: int, weights: Node) -> str:
    """The sizes of all axes of `ref` but the last, then the number of outputs."""
    whole = make_node(draft.unused_name(f"{item.name}/input_shape"), "Shape", (ref,), item.device, T=item.get("T"),
                      out_type=INT32)
    draft.put(whole)
    begin, end, ones = (_sizes(draft, item, [value], weights) for value in (0, rank - 1, 1))
    front = make_node(draft.unused_name(f"{item.name}/front"), "StridedSlice", (whole.name, begin, end, ones),
                      item.device, T=INT32, Index=INT32, begin_mask=1, end_mask=0, ellipsis_mask=0, new_axis_mask=0,
                      shrink_axis_mask=0)
    draft.put(front)
    outputs = weights.shape[0 if attribute(item, "adj_y") else 1]
    parts = (front.name, _sizes(draft, item, [outputs], weights), _sizes(draft, item, 0, weights))
    made = make_node(draft.unused_name(f"{item.name}/shape"), "ConcatV2", parts, item.device, N=2, T=INT32, Tidx=INT32)
    draft.put(made)
    return made.name


def _moves_nothing(graph: Graph, item: Node) -> bool:
    order = constant(item, 1, graph.nodes)
    return order is not None and order == list(range(len(order)))
