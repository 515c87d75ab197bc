"""Which tensors are in eight bits and with which encoding, so that neighbours share it: no graph is changed here."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from export.graph import Graph, producer
from export.precision.blocks import CONVOLUTIONS, Block, residuals, sole_reader, with_residual
from export.precision.encoding import Encoding, encoding_of
from export.precision.groups import Groups
from export.precision.passing import PADS, POOLS, passing_inputs
from export.precision.summands import Summands

_LARGEST_RELU6 = 6.0
# Products per example that cost less than the conversions of a few hundred numbers.
_FEW = 1 << 18


@dataclass
class Plan:
    """`blocks` by contraction; `encodings` by tensor; `passing`: nodes that move eight bits; `reasons`: by
    contraction that stays float32; `apart`: by contraction, why the addition after it stays float32."""

    blocks: dict[str, Block]
    encodings: dict[str, Encoding] = field(default_factory=dict)
    passing: frozenset[str] = frozenset()
    reasons: dict[str, str] = field(default_factory=dict)
    apart: dict[str, str] = field(default_factory=dict)


def plan(graph: Graph, blocks: Mapping[str, Block], ranges: Mapping[str, Any]) -> Plan:
    """Residual additions join a block where the encodings allow it; the others stay float32.

    ranges: for each block's input and result at least, and of numbers that eight bits can stand for.
    """
    apart: dict[str, tuple[str, str]] = {}
    choices = _additions(graph, blocks, ranges, apart)
    plain = dict(blocks)
    reasons: dict[str, str] = {}
    while True:
        joined = {options[0].name: options[0] for options in choices.values() if options}
        attempt, failed = _encoded(graph, {**plain, **joined}, ranges)
        over = _over_relu6({**plain, **joined}, attempt.encodings)
        small = {} if failed or over else _small(graph, attempt)
        for name in small:
            del plain[name]
        reasons |= small
        if not failed and not over and not small:
            return replace(attempt, reasons=reasons, apart={block: reason for addition, (block, reason) in apart.items()
                                           if not choices.get(addition)})
        for name in over:
            if name in joined:
                options = choices[_addition_of(joined[name])]
                options[0] = replace(options[0], activation=None)
            else:
                plain[name] = replace(plain[name], activation=None)
        _drop(choices, failed, apart)


def _additions(graph: Graph, blocks: Mapping[str, Block], ranges: Mapping[str, Any],
               apart: dict[str, tuple[str, str]]) -> dict[str, list[Block]]:
    """By residual addition the blocks that can also compute it, the best first.

    `apart` gets, by addition, a block that cannot and why.
    """
    found: dict[str, list[Block]] = {}
    summands = Summands(graph)
    for block, addition, summand in residuals(graph, blocks):
        reason = summands.refusal(block, addition, summand)
        joined = with_residual(graph, block, addition, summand)
        missing = next((ref for ref in (summand, addition.name, joined.result) if ref not in ranges), None)
        if not reason and missing is not None:
            reason = f"no range was measured for '{missing}'"
        if reason:
            apart[addition.name] = block.name, f"its addition '{addition.name}' stays float32: {reason}"
        else:
            found.setdefault(addition.name, []).append(joined)
    return found


def _addition_of(block: Block) -> str:
    return block.linear[-1]


def _drop(choices: dict[str, list[Block]], failed: set[str], apart: dict[str, tuple[str, str]]) -> None:
    """Drops the choices of these blocks."""
    for name, options in choices.items():
        if options and options[0].name in failed:
            apart[name] = options.pop(0).name, (
                f"its addition '{name}' stays float32: its numbers may be negative, which the kernel cannot add where "
                "they are padded or cut off by an activation")


def _encoded(graph: Graph, blocks: dict[str, Block], ranges: Mapping[str, Any]) -> tuple[Plan, set[str]]:
    """The encodings of these blocks' tensors, and the blocks whose addition needs one that its tensors cannot have."""
    results = {block.result: block for block in blocks.values()}
    made = _made_in_eight_bits(graph, results)
    groups = Groups()
    wanted = list(dict.fromkeys(ref for block in blocks.values() for ref in (block.x, block.summand) if ref))
    # A pool in eight bits leaves fewer numbers to bring back to float32.
    seen = set(wanted)
    wanted += [item.name for item in graph.nodes.values() if item.op in POOLS and item.name not in seen and any(
        ref in results and sole_reader(graph, ref) is item for ref in passing_inputs(graph, item))]
    seen.update(wanted)
    passing: set[str] = set()
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
    adders = _adders(blocks)
    padded = {block.x for block in blocks.values() if block.pads}
    failed: set[str] = set()
    for members in groups.all():
        encoding = _encoding(graph, members, results, padded, ranges)
        if encoding.signed:
            failed |= {name for ref in members for name in adders.get(ref, ())}
        encodings |= dict.fromkeys(members, encoding)
    for block in blocks.values():
        if block.op in CONVOLUTIONS and block.result not in encodings:
            limits = ranges[block.result]
            encodings[block.result] = encoding_of(limits.low, _capped(block, limits.high), bool(block.activation))
            if block.summand and encodings[block.result].signed:
                failed.add(block.name)
    return Plan(blocks, encodings, frozenset(passing)), failed


def _small(graph: Graph, made: Plan) -> dict[str, str]:
    """Why a convolution of a single pixel stays float32: nothing beside it is in eight bits, and it computes little.

    Such is each "squeeze and excitation" in EfficientNet; quantized they made it slower than in float32.
    """
    inner = {ref for block in made.blocks.values() for ref in (block.x, block.summand)} | {
        ref for name in made.passing for ref in passing_inputs(graph, graph.nodes[name])}
    produced = {block.result for block in made.blocks.values()} | made.passing
    return {name: "it computes too little to pay for the conversions before and after it"
            for name, block in made.blocks.items()
            if block.op in CONVOLUTIONS and not block.summand and block.x not in produced and block.result not in inner
            and (graph.shapes.get(block.x) or ())[1:3] == (1, 1) and block.weights.size <= _FEW}


def _adders(blocks: Mapping[str, Block]) -> dict[str, list[str]]:
    """By tensor the blocks that add it, or that make it by adding another."""
    found: dict[str, list[str]] = {}
    for block in blocks.values():
        for ref in (block.summand, block.result) if block.summand else ():
            found.setdefault(ref, []).append(block.name)
    return found


def _made_in_eight_bits(graph: Graph, results: Mapping[str, Block]) -> set[str]:
    """The tensors that a block makes, or that are moved from one."""
    found = set(results)
    for item in graph.order():
        if item.name not in found and any(ref in found for ref in passing_inputs(graph, item)):
            found.add(item.name)
    return found


def _encoding(graph: Graph, members: list[str], results: Mapping[str, Block], padded: set[str],
              ranges: Mapping[str, Any]) -> Encoding:
    known = [ranges[ref] for ref in members if ref in ranges]
    low = min(limits.low for limits in known)
    high = max(_capped(results[ref], ranges[ref].high) if ref in results else ranges[ref].high
               for ref in members if ref in ranges)
    pads = any(ref in padded or (ref not in results and graph.nodes[producer(ref)].op in PADS) for ref in members)
    # An offset is added before a convolution's Relu, which would cut at -offset.
    cut = any(ref in results and results[ref].activation and results[ref].op in CONVOLUTIONS for ref in members)
    return encoding_of(low, high, pads or cut)


def _over_relu6(blocks: Mapping[str, Block], encodings: Mapping[str, Encoding]) -> list[str]:
    """The convolutions whose Relu6 does not fit, because larger values share its encoding.

    The kernel has no Relu6: what cuts at 6 is that the largest number stands for it.
    """
    return [name for name, block in blocks.items() if block.op in CONVOLUTIONS and _is_relu6(block)
            and encodings[block.result].top > _LARGEST_RELU6]


def _is_relu6(block: Block) -> bool:
    return block.activation is not None and block.activation.name == "Relu6"


def _capped(block: Block, high: float) -> float:
    return min(high, _LARGEST_RELU6) if _is_relu6(block) else high
