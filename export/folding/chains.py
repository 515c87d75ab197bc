"""Folds constant affine maps into the contractions around them. All batch norm transforms use this.

A chain of affine nodes y = x * scale + offset is folded as a whole into the contraction before it. If that is not
possible, it is folded as a whole into the contractions after it; or else the scale into one side and the offset into
the other; or else only the scale is folded, and one addition stays.
"""
from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from export.folding.affine import AFFINE, NORMS, Affine, read
from export.folding.contraction import CONTRACTIONS
from export.folding.plan import Plan
from export.graph import Graph, Node, make_node, port, producer
from export.pattern import Skip
from export.shapes import Shapes
from export.transform import Draft, Record

_ADDITIONS = frozenset({"Add", "AddV2", "BiasAdd", "BiasAddV1"})


# decision 11
def fold_affines(graph: Graph, record: Record, starts: Collection[str], through: Collection[str] = ()) -> Graph:
    """Folds every chain of affine nodes that holds an op in `starts`.

    `through`: the ops (of PASSAGES, and ConcatV2) that may stand between a chain and its contraction.
    """
    fed = {name: graph.nodes[name] for name in graph.fed if graph.nodes[name].op == "Const"}
    if fed:
        # A fed node does not count as a constant, even if it is a Const.
        graph = graph.with_nodes(
            make_node(item.name, "Placeholder", item.inputs, dtype=item.get("dtype"), shape=item.shape)
            if item.name in fed else item for item in graph.nodes.values())
    folding = _Folding(graph, record, frozenset(starts), frozenset(through))
    for item in reversed(graph.order()):
        if item.op in AFFINE:
            folding.todo.append(item.name)
            folding.work()
    if not fed:
        return folding.draft.result()
    return graph.with_nodes(fed.get(item.name, item) for item in folding.draft.nodes.values())


@dataclass(frozen=True)
class _Chain:
    """Consecutive affine nodes, the first node's source, and their combined map."""

    nodes: tuple[Node, ...]
    source: str
    affine: Affine

    @property
    def first(self) -> str:
        return self.nodes[0].name

    @property
    def tail(self) -> Node:
        return self.nodes[-1]


class _Folding:
    def __init__(self, graph: Graph, record: Record, starts: frozenset[str], through: frozenset[str]) -> None:
        self.draft = Draft(graph)
        self.record, self.starts, self.through = record, starts, through
        self.shapes: Shapes = dict(graph.shapes)
        self.todo: list[str] = []
        self.seen: set[str] = set()

    def work(self) -> None:
        while self.todo:
            name = self.todo.pop()
            if name not in self.draft.nodes or name in self.seen:
                continue
            chain = self._chain(name)
            if chain is not None and any(item.op in self.starts for item in chain.nodes):
                self.seen.update(item.name for item in chain.nodes)
                self._fold(chain)

    def _chain(self, name: str) -> _Chain | None:
        """The longest chain of affine nodes that contains `name`."""
        if self._affine(name) is None:
            return None
        while True:
            readers = self.draft.consumers.get(name, {})
            if name in self.draft.kept or len(readers) != 1:
                break
            reader = next(iter(readers))
            following = self._affine(reader) if self.draft.nodes[reader].op in AFFINE else None
            if following is None or following[0] != name:
                break
            name = reader
        found = self._affine(name)
        assert found is not None
        row, (source, affine) = [self.draft.nodes[name]], found
        while self._alone(source, row[0].name):
            previous = self._affine(producer(source))
            if previous is None:
                break
            try:
                affine = previous[1].then(affine)
            except Skip:
                break
            row.insert(0, self.draft.nodes[producer(source)])
            source = previous[0]
        return _Chain(tuple(row), source, affine)

    def _affine(self, name: str) -> tuple[str, Affine] | None:
        item = self.draft.nodes[name]
        try:
            found = read(item, self.draft.nodes, self.shapes)
            if found and item.controls:
                raise Skip("it has control inputs")
            if found and name in self.draft.graph.fed:
                raise Skip("it is fed from outside")
            if found and item.op in NORMS and self._further_output_used(name):
                raise Skip("a further output of it is used")
        except Skip as skip:
            if item.op in self.starts and name not in self.seen:
                self.seen.add(name)
                self.record.skip(name, skip.reason)
            return None
        return found

    def _further_output_used(self, name: str) -> bool:
        refs = [ref for reader in self.draft.consumers.get(name, ()) for ref in self.draft.nodes[reader].inputs]
        return any(ref.startswith(f"{name}:") for ref in (*refs, *self.draft.graph.outputs))

    def _alone(self, ref: str, reader: str) -> bool:
        """Whether only `reader` reads an affine node's output, so that the node can be merged into a chain."""
        item = self.draft.nodes[producer(ref)]
        return (item.op in AFFINE and port(ref) == 0 and item.name not in self.draft.kept
                and self.draft.consumers[item.name].keys() == {reader})

    def _fold(self, chain: _Chain) -> None:
        affine, source, tail = chain.affine, chain.source, chain.tail.name
        addition = len(chain.nodes) == 1 and chain.tail.op in _ADDITIONS
        if addition and self.draft.nodes[producer(source)].op in CONTRACTIONS:
            return  # a contraction and its bias, which is the form that folding aims at

        def back(plan: Plan) -> None:
            plan.end(plan.back(source, affine, chain.first), tail)

        def forward(plan: Plan) -> None:
            plan.forward(tail, affine, source)

        def part(plan: Plan) -> None:
            plan.forward(tail, affine.only_offset(), plan.back(source, affine.only_scale(), chain.first))

        def scale_back(plan: Plan) -> None:
            plan.add(plan.back(source, affine.only_scale(), chain.first), affine.only_offset(), chain.tail)

        def scale_forward(plan: Plan) -> None:
            plan.add(source, affine.offset_first(), chain.tail)
            plan.forward(tail, affine.only_scale(), tail)

        def add(plan: Plan) -> None:
            plan.add(source, affine, chain.tail)

        if not affine.has_scale and not affine.has_offset:
            self._vanish(chain)
            return
        ways: list[Callable[[Plan], None]] = [back, forward]
        if affine.has_scale and affine.has_offset:
            ways += [part, scale_back, scale_forward]
        elif not affine.has_scale and not addition:
            ways.append(add)
        reasons = []
        for way in ways:
            plan = Plan(self.draft, self.shapes, self.through, self._affine)
            try:
                way(plan)
            except Skip as skip:
                reasons.append(skip.reason)
                continue
            self._carry_out(plan, chain)
            return
        self.record.skip(tail, f"before it: {reasons[0]}; after it: {reasons[1]}")

    def _vanish(self, chain: _Chain) -> None:
        """Removes a chain that changes nothing, such as the multiplication by 1 in a swish: readers read its source."""
        tail = chain.tail
        self.draft.redirect(tail.name, chain.source)
        self.draft.put(make_node(tail.name, "Identity", (chain.source,), tail.device, T=tail.get("T")))
        self.draft.drop_unused([tail.name, *(item.name for item in reversed(chain.nodes))])
        self.record.applied += 1

    def _carry_out(self, plan: Plan, chain: _Chain) -> None:
        for item in plan.new.values():
            self.draft.put(item)
        self.shapes.update(plan.shapes)
        self.draft.drop_unused([item.name for item in reversed(chain.nodes)] + list(plan.replaced))
        self.record.applied += 1
        self.todo += plan.biased
