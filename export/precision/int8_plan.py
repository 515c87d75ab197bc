"""Which tensors are in eight bits and with which encoding, so that neighbours share it: no graph is changed here."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from export.graph import Graph, port, producer
from export.precision.blocks import CONVOLUTIONS, Block, residuals, sole_reader, with_residual
from export.precision.encoding import Encoding, encoding_of
from export.precision.passing import PADS, POOLS, SAME_BUFFER, passing_inputs

_LARGEST_RELU6 = 6.0


@dataclass
class Plan:
    """`blocks` by contraction; `encodings` by tensor; `passing`: nodes that move eight bits; `reasons`: by contraction
    that stays float32."""

    blocks: dict[str, Block]
    encodings: dict[str, Encoding] = field(default_factory=dict)
    passing: frozenset[str] = frozenset()
    reasons: dict[str, str] = field(default_factory=dict)


def plan(graph: Graph, blocks: Mapping[str, Block], ranges: Mapping[str, Any]) -> Plan:
    """Residual additions join a block where the encodings allow it; the others stay float32."""
    chosen = dict(blocks)
    taken: set[str] = set()
    for block, addition, summand in residuals(graph, blocks):
        if addition.name in taken or not {summand, addition.name} <= ranges.keys():
            continue
        if not _may_be_overwritten(graph, summand, block):
            continue
        joined = with_residual(graph, block, addition, summand)
        if joined.result not in ranges:
            continue
        attempt = _encoded(graph, {**chosen, block.name: joined}, ranges)
        if attempt is not None:
            chosen = attempt.blocks
            taken.add(addition.name)
    found = _encoded(graph, chosen, ranges)
    assert found is not None  # only residual additions can fail
    return found


def _may_be_overwritten(graph: Graph, summand: str, block: Block) -> bool:
    """Whether the kernel that adds `summand` may write into its buffer: every other reader has run before it.

    The kernel refuses to run otherwise ("Summand cannot be forwarded"), and only at run time.
    """
    name = producer(summand)
    if port(summand) or name in graph.kept or graph.nodes[name].op in SAME_BUFFER:
        return False
    before = graph.reachable([block.name])
    readers = set(graph.consumers.get(name, ())) - set(graph.consumers.get(block.result, ()))
    return readers <= before and name in before | {name}


def _encoded(graph: Graph, blocks: Mapping[str, Block], ranges: Mapping[str, Any]) -> Plan | None:
    """The encodings of these blocks' tensors; None if a residual addition needs one that its tensors cannot have."""
    results = {block.result: block for block in blocks.values()}
    made = _made_in_eight_bits(graph, results)
    groups = _Groups()
    wanted = list(dict.fromkeys(ref for block in blocks.values() for ref in (block.x, block.summand) if ref))
    # A pool in eight bits leaves fewer numbers to bring back to float32.
    wanted += [item.name for item in graph.nodes.values() if item.op in POOLS and item.name not in wanted and any(
        ref in results and sole_reader(graph, ref) is item for ref in passing_inputs(graph, item))]
    passing: set[str] = set()
    seen = set(wanted)
    while wanted:
        ref = wanted.pop()
        groups.find(ref)
        item = graph.nodes[producer(ref)]
        if ref in results or ref not in made:
            continue
        passing.add(item.name)
        for moved in passing_inputs(graph, item):
            groups.join(ref, moved)
            if moved not in seen:
                seen.add(moved)
                wanted.append(moved)
    encodings: dict[str, Encoding] = {}
    for members in groups.all():
        encoding = _encoding(graph, members, blocks, results, made, ranges)
        if encoding is None:
            return None
        encodings |= dict.fromkeys(members, encoding)
    fitting = _within_relu6(blocks, encodings)
    if fitting is not None:
        return _encoded(graph, fitting, ranges)
    for block in blocks.values():
        if block.op in CONVOLUTIONS and block.result not in encodings:
            limits = ranges[block.result]
            encodings[block.result] = encoding_of(limits.low, _capped(block, limits.high), bool(block.activation))
    return Plan(dict(blocks), encodings, frozenset(passing))


def _made_in_eight_bits(graph: Graph, results: Mapping[str, Block]) -> set[str]:
    """The tensors that a block makes, or that are moved from one."""
    found = set(results)
    for item in graph.order():
        if item.name not in found and any(ref in found for ref in passing_inputs(graph, item)):
            found.add(item.name)
    return found


def _encoding(graph: Graph, members: list[str], blocks: Mapping[str, Block], results: Mapping[str, Block],
              made: set[str], ranges: Mapping[str, Any]) -> Encoding | None:
    inside = set(members)
    written = [results[ref] for ref in members if ref in results]
    known = [ranges[ref] for ref in members if ref in ranges]
    low = min(limits.low for limits in known)
    caps = [_capped(results[ref], ranges[ref].high) if ref in results else ranges[ref].high
            for ref in members if ref in ranges]
    pads = any(block.pads for block in blocks.values() if block.x in inside) or any(
        graph.nodes[producer(ref)].op in PADS for ref in members if ref not in results)
    # An offset is added before a convolution's Relu, which would cut at -offset; and QuantizeV2 knows none.
    cut = any(block.activation and block.op in CONVOLUTIONS for block in written)
    encoding = encoding_of(low, max(caps), pads or cut or any(ref not in made for ref in members))
    added = any(block.summand for block in written) or any(block.summand in inside for block in blocks.values())
    return None if added and encoding.signed else encoding


def _within_relu6(blocks: Mapping[str, Block], encodings: Mapping[str, Encoding]) -> dict[str, Block] | None:
    """The blocks, without a convolution's Relu6 where larger values share its encoding; None if there is none.

    The kernel has no Relu6: what cuts at 6 is that the largest number stands for it.
    """
    wrong = {name for name, block in blocks.items() if block.op in CONVOLUTIONS and _is_relu6(block)
             and block.result in encodings and encodings[block.result].top > _LARGEST_RELU6}
    if not wrong:
        return None
    return {name: replace(block, activation=None) if name in wrong else block
            for name, block in blocks.items()}


def _is_relu6(block: Block) -> bool:
    return block.activation is not None and block.activation.name == "Relu6"


def _capped(block: Block, high: float) -> float:
    return min(high, _LARGEST_RELU6) if _is_relu6(block) else high


class _Groups:
    """Tensors that must have one encoding, joined step by step."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def find(self, ref: str) -> str:
        root = self._parent.setdefault(ref, ref)
        while root != self._parent[root]:
            root = self._parent[root]
        self._parent[ref] = root
        return root

    def join(self, a: str, b: str) -> None:
        self._parent[self.find(a)] = self.find(b)

    def all(self) -> list[list[str]]:
        found: dict[str, list[str]] = {}
        for ref in self._parent:
            found.setdefault(self.find(ref), []).append(ref)
        return list(found.values())
