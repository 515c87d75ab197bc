from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from export.graph import Graph, Node, port, producer
from export.lstm_loops import lstm_of
from export.ops import attribute
from export.pattern import Skip
from export.transform import Arguments, Draft, Record, transform
from export.variables import LOOPS

_SHORTENS = frozenset(("StridedSlice", "ExpandDims"))


@transform("join_lstm", bodies=False)
def join_lstm(graph: Graph, args: Arguments, record: Record) -> Graph:  # decision 236
    """The reverse of fork_lstm: the loop alone where a Switch leads to it or to a BlockLSTMV2

    Transforms, other precisions and other engines know an LSTM by its loop.

    Safe when: the loop without the Switch is an LSTM with the weights, input and states of the block, and each Merge
      has a result of the block and one of the loop; none of these nodes is fed or requested but the Merges.
    Source: not in the Graph Transform Tool.
    """
    for block in [item for item in graph.nodes.values() if item.op == "BlockLSTMV2"]:
        joined = _joined(graph, block)
        if joined is not None:
            graph = joined
            record.applied += 1
    return graph


def _joined(graph: Graph, block: Node) -> Graph | None:
    switch = graph.nodes[producer(block.data[1])]
    if switch.op != "Switch" or block.name in graph.kept:
        return None
    switches = {name: graph.nodes[name].data[0] for name in graph.consumers[producer(switch.data[1])]
                if graph.nodes[name].op == "Switch" and graph.nodes[name].data[1] == switch.data[1]}
    loops = {reader for name in switches for reader in graph.consumers.get(name, ())
             if graph.nodes[reader].op in LOOPS}
    if len(loops) != 1 or loops & graph.kept or switches.keys() & graph.kept:
        return None
    (name,) = loops
    draft = Draft(graph)
    for reader in {reader for one in switches for reader in graph.consumers.get(one, ())} - {block.name}:
        item = draft.nodes[reader]
        draft.put(item.with_inputs(_passed(ref, switches) for ref in item.inputs))
    if not _same(draft.result(), name, graph.nodes[block.name], switches):
        return None
    merges = _merges(graph, block.name, name)
    if merges is None:
        return None
    for merge, result in merges.items():
        stack = draft.nodes[producer(result)]
        if stack.op == "TensorListStack":
            draft.drop(stack.name)
            draft.put(replace(stack, name=merge))
        else:
            draft.redirect(merge, result)
            draft.redirect(f"^{merge}", f"^{name}")
            draft.drop(merge)
    return draft.result()


def _passed(ref: str, switches: Mapping[str, str]) -> str:
    """What a tensor is without the Switch: its output 0 is what goes into the loop."""
    return switches[producer(ref)] if ref[0] != "^" and producer(ref) in switches and not port(ref) else ref


def _same(graph: Graph, name: str, block: Node, switches: Mapping[str, str]) -> bool:
    """Whether the loop is the LSTM that the block is."""
    try:
        lstm = lstm_of(graph, graph.nodes[name])
    except Skip:
        return False
    if lstm is None:
        return False
    x, cell, hidden = switches[producer(block.data[1])], *block.data[2:4]
    weights, bias = (graph.nodes[producer(block.data[at])] for at in (4, 8))
    return (x, cell, hidden) == (lstm.x, lstm.cell, lstm.hidden) \
        and not attribute(block, "use_peephole") and not attribute(block, "cell_clip") \
        and weights.op == bias.op == "Const" and np.array_equal(weights.value, lstm.weights) \
        and np.array_equal(bias.value, lstm.bias)


def _merges(graph: Graph, block: str, loop: str) -> dict[str, str] | None:
    """By Merge, the tensor of the loop that it may be; None if something else has a result of the loop or the block."""
    found = {}
    for end, makes in ((loop, frozenset(("TensorListStack",))), (block, _SHORTENS)):
        todo, side = [end], {}
        while todo:
            item = graph.nodes[todo.pop()]
            for reader in (graph.nodes[name] for name in graph.consumers.get(item.name, ())):
                if reader.op == "Merge" and len(reader.data) == 2:
                    side[reader.name] = next(ref for ref in reader.data if producer(ref) == item.name)
                elif reader.op in makes and reader.name not in graph.kept:
                    todo.append(reader.name)
                else:
                    return None
        found[end] = side
    if found[loop].keys() != found[block].keys():
        return None
    stacks = [name for name, ref in found[loop].items() if producer(ref) != loop]
    return None if graph.kept & (found[loop].keys() - set(stacks)) else found[loop]
