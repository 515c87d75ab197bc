from collections.abc import Iterable

import numpy as np

from export.graph import Node, make_const, make_node, producer
from export.pattern import Any, Const, Match, Op
from export.tensors import FLOAT
from export.transform import Arguments, Draft, Rewrite, transform


@transform("restore_gelu")
class RestoreGelu(Rewrite):
    """x / 2 * erfc(-x / sqrt(2)) -> (erf(x / sqrt(2)) + 1) / 2 * x

    The form of an exact GELU that TensorFlow's optimizer merges into the MatMul and BiasAdd before it.

    Safe when: x is float32 and a BiasAdd of a MatMul that nothing else reads: elsewhere the form with erfc is the more
      exact one for very negative x. The difference is below 1e-7 of the largest x.
    Source: not in the Graph Transform Tool; Keras 3's gelu writes the form with erfc.
    """

    pattern = Op("Mul", Op("Mul", Any("x"), Const("half"), either_way=True, bind="halved"),
                 Op("Erfc", Op("Mul", Op("Neg", Any("again"), bind="neg"), Const("root"), either_way=True,
                               bind="scaled"), bind="erfc"), either_way=True)

    def check(self, m: Match, draft: Draft) -> None:
        m.require(m.root.get("T") == FLOAT, "its type is not float32")
        m.require(m.refs["x"] == m.refs["again"], "the two factors are of different tensors")
        for bind, wanted in (("half", 0.5), ("root", np.sqrt(0.5))):
            value = m[bind].value
            m.require(value.size == 1 and abs(value.item() - wanted) < 1e-6, f"a factor is not {wanted:.4f}")
        bias = draft.nodes[producer(m.refs["x"])]
        before = draft.nodes[producer(bias.data[0])] if bias.op == "BiasAdd" else None
        m.require(before is not None and before.op == "MatMul", "it does not follow a MatMul and its bias")
        inner = {m[bind].name for bind in ("halved", "neg", "scaled", "erfc")}
        for name in (*inner, bias.name):
            readers = set(draft.consumers.get(name, ()))
            m.require(name not in draft.kept and readers <= inner | {m.root.name}, f"'{name}' is also used elsewhere")

    def rewrite(self, m: Match, draft: Draft, args: Arguments) -> Iterable[Node]:
        root = m.root
        numbers = [make_const(draft.unused_name(f"{root.name}/{name}"), np.array(value, np.float32),
                              m["half"].controls, root.device)
                   for name, value in (("root", np.sqrt(0.5)), ("one", 1.0), ("half", 0.5))]

        def step(name: str, op: str, *refs: str) -> Node:
            return make_node(draft.unused_name(f"{root.name}/{name}"), op, refs, root.device, T=FLOAT)
        scaled = step("scaled", "Mul", m.refs["x"], numbers[0].name)
        erf = step("erf", "Erf", scaled.name)
        added = step("added", "AddV2", erf.name, numbers[1].name)
        halved = step("halved", "Mul", added.name, numbers[2].name)
        return [*numbers, scaled, erf, added, halved,
                make_node(root.name, "Mul", (halved.name, m.refs["x"], *root.controls), root.device, T=FLOAT)]
