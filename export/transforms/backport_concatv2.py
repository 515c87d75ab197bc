from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from export.graph import Node, make_const, make_node, producer
from export.ops import attribute
from export.pattern import Match, Op
from export.tensors import INT32, INT64
from export.transform import Arguments, Draft, Rewrite, transform


@transform("backport_concatv2")
class BackportConcatV2(Rewrite):
    """ConcatV2(values..., axis) -> Concat(axis, values...), which older runtimes know.

    Safe when: always; an int64 axis becomes int32, the only type that Concat takes.
    Source: Graph Transform Tool, backport_concatv2 (which made a broken graph of an int64 axis).
    """

    pattern = Op("ConcatV2")

    def rewrite(self, m: Match, draft: Draft, args: Arguments) -> Iterable[Node]:
        *values, axis = m.root.data
        if attribute(m.root, "Tidx") == INT64:
            yield (narrow := _int32(draft, m.root, axis))
            axis = narrow.name
        root = m.root.with_attrs(without=("Tidx",))
        yield replace(root, op="Concat", inputs=(axis, *values, *m.root.controls))


def _int32(draft: Draft, root: Node, axis: str) -> Node:
    name = draft.unused_name(f"{root.name}/axis")
    made = draft.nodes[producer(axis)]
    if made.op == "Const" and made.name not in draft.graph.fed:
        return make_const(name, np.asarray(made.value, np.int32), made.controls, root.device)
    return make_node(name, "Cast", (axis,), root.device, SrcT=INT64, DstT=INT32)
