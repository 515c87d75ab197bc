from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from export.graph import Graph, Node, port, producer, tensor_name
from export.lstm_loops import Lstm, lstm_of
from export.ops import attribute
from export.pattern import Skip
from export.shapes import constant
from export.transform import Arguments, Draft, Record, transform
from export.transforms.fork_lstm import CELLS, HIDDEN
from export.variables import LOOPS


@transform("join_lstm", bodies=False)
def join_lstm(graph: Graph, args: Arguments, record: Record) -> Graph:  # decision 236
    """The reverse of fork_lstm: the loop alone where a Switch leads to it or to a BlockLSTMV2

    Transforms, other precisions and other engines know an LSTM by its loop.

    Safe when: the loop without the Switch is an LSTM with the weights, input, steps and states of the block; each Merge
      has the same result of both; none of these nodes is fed or requested but the Merges.
    Source: not in the Graph Transform Tool.
    """
    left = [item.name for item in graph.nodes.values() if item.op == "BlockLSTMV2"]
    joined = True
    while joined:  # one may read another, whose shape is known only when that is a loop again
        joined = False
        for name in left:
            found = _joined(graph, graph.nodes[name])
            if found is not None:
                graph, joined = found, True
                record.applied += 1
                left.remove(name)
                break
    return graph


def _joined(graph: Graph, block: Node) -> Graph | None:
    """The graph with the loop of a block and without its Merges; None if there is no such loop."""
    switch = graph.nodes[producer(block.data[1])]
    if switch.op != "Switch" or block.name in graph.kept:
        return None
    switches = {name: graph.nodes[name].data[0] for name in graph.consumers[producer(switch.data[1])]
                if graph.nodes[name].op == "Switch" and graph.nodes[name].data[1] == switch.data[1]}
    loops = sorted({reader for name in switches for reader in graph.consumers.get(name, ())
                    if graph.nodes[reader].op in LOOPS})
    if switches.keys() & graph.kept:
        return None
    for name in loops:
        draft = _unswitched(graph, name, switches)
        lstm = _lstm(draft.result(), name)
        merges = _merges(graph, block, name, lstm) if lstm and _same(graph, block, lstm, switches) else None
        if merges is not None and name not in graph.kept:
            return _without(draft, name, merges)
    return None


def _unswitched(graph: Graph, name: str, switches: Mapping[str, str]) -> Draft:
    """The graph in which the loop, and the lists that go into it, read what goes into the Switch."""
    draft = Draft(graph)
    for item in (graph.nodes[name], *(graph.nodes[producer(ref)] for ref in graph.nodes[name].data)):
        if item.name == name or item.op == "TensorListFromTensor":
            draft.put(item.with_inputs(
                switches[producer(ref)] if producer(ref) in switches and ref[0] != "^" and not port(ref) else ref
                for ref in item.inputs))
    return draft


def _lstm(graph: Graph, name: str) -> Lstm | None:
    try:
        return lstm_of(graph, graph.nodes[name])
    except Skip:
        return None


def _same(graph: Graph, block: Node, lstm: Lstm, switches: Mapping[str, str]) -> bool:
    """Whether the block computes the LSTM."""
    steps, x = graph.nodes[producer(block.data[0])], block.data[1]
    weights, bias = (graph.nodes[producer(block.data[at])] for at in (4, 8))
    if steps.op == "Const":
        every_step = lstm.steps is not None and np.array_equal(steps.value, lstm.steps)
    else:
        shape = graph.nodes[producer(_part(graph, steps.name, 0) or steps.name)]
        every_step = shape.op == "Shape" and shape.data[0] == x
    return every_step and port(x) == 1 and (switches[producer(x)], *block.data[2:4]) == (
        lstm.x, lstm.cell, lstm.hidden) \
        and not attribute(block, "use_peephole") and not attribute(block, "cell_clip") \
        and weights.op == bias.op == "Const" and np.array_equal(weights.value, lstm.weights) \
        and np.array_equal(bias.value, lstm.bias)


def _part(graph: Graph, ref: str, index: int) -> str | None:
    """The tensor of which this one is the part at an index of the first axis, as fork_lstm takes it."""
    item = graph.nodes[producer(ref)]
    bounds = [[index], [index + 1], [1]]
    if item.op != "StridedSlice" or item.name in graph.kept or [
            constant(item, at, graph.nodes) for at in (1, 2, 3)] != bounds:
        return None
    masks = [attribute(item, name) for name in ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask")]
    return item.data[0] if masks == [0, 0, 0, 0] and attribute(item, "shrink_axis_mask") == 1 else None


def _merges(graph: Graph, block: Node, name: str, lstm: Lstm) -> dict[str, str] | None:
    """By Merge, the tensor of the loop that it may be; None if one has two results, or if anything else reads one."""
    results = {tensor_name(name, lstm.hidden_at): HIDDEN, tensor_name(name, lstm.cell_at): CELLS}
    found, stacks = {}, []
    for reader in (graph.nodes[one] for one in graph.consumers.get(name, ())):
        if reader.op == "TensorListStack" and reader.name not in graph.kept:
            stacks.append(reader.name)
        elif reader.op != "Merge" or name in map(producer, reader.controls):
            return None
    for one in (name, *stacks):
        for merge in (graph.nodes[reader] for reader in graph.consumers.get(one, ()) if reader not in stacks):
            if merge.op != "Merge" or len(merge.data) != 2 or producer(merge.data[0]) != one \
                    or any(tensor_name(merge.name, 1) in graph.nodes[reader].inputs
                           for reader in graph.consumers.get(merge.name, ())):
                return None
            loop, other = merge.data
            if one == name:
                same = loop in results and _part(graph, other, -1) == tensor_name(block.name, results[loop])
                same = same and merge.name not in graph.kept
            else:
                every = tensor_name(block.name, HIDDEN)
                same = other == every if lstm.every else _alone(graph, other) == every
            if not same:
                return None
            found[merge.name] = loop
    return found


def _alone(graph: Graph, ref: str) -> str | None:
    """The tensor whose last part this is, with an axis of one before it."""
    item = graph.nodes[producer(ref)]
    return _part(graph, item.data[0], -1) if item.op == "ExpandDims" and constant(item, 1, graph.nodes) == [0] else None


def _without(draft: Draft, name: str, merges: Mapping[str, str]) -> Graph:
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
