from collections.abc import Iterable

from export.graph import Node, make_node
from export.ops import attribute
from export.pattern import Any, Const, Match, Op
from export.tensors import BFLOAT16, DOUBLE, FLOAT, HALF
from export.transform import Arguments, Draft, Rewrite, sole_reader, transform

_PRODUCTS = "BatchMatMul|BatchMatMulV2"


@transform("fold_transposes")
class FoldTransposes(Rewrite):
    """Transpose(BatchMatMulV2(a, b)) -> BatchMatMulV2(b, a) with exchanged, negated adj_x and adj_y

    The Transpose of an attention's scores, the largest tensor there: the product of the exchanged operands is it.

    Safe when: the Transpose exchanges the last two axes and nothing else, only it reads the product, and the type is a
      float.
    Source: not in the Graph Transform Tool.
    """

    pattern = Op("Transpose", Op(_PRODUCTS, Any("a"), Any("b"), bind="product"), Const("order"))

    def check(self, m: Match, draft: Draft) -> None:
        sole_reader(draft, m["product"], m.root.name)
        order = m["order"].value.ravel().tolist()
        rank = len(order)
        m.require(rank >= 2 and order == [*range(rank - 2), rank - 1, rank - 2],
                  "it does not only exchange the last two axes")
        m.require(m.root.get("T") in (FLOAT, DOUBLE, HALF, BFLOAT16),
                  "its numbers are no floats: an adjoint matrix of complex ones is more than transposed")

    def rewrite(self, m: Match, draft: Draft, args: Arguments) -> Iterable[Node]:
        product = m["product"]
        return [make_node(m.root.name, product.op,
                          (m.refs["b"], m.refs["a"], *dict.fromkeys((*product.controls, *m.root.controls))),
                          product.device, T=product.get("T"), adj_x=not attribute(product, "adj_y"),
                          adj_y=not attribute(product, "adj_x"))]
