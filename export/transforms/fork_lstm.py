from dataclasses import replace

import numpy as np

from export.control_flow import within_control_flow
from export.graph import Graph, Node, make_const, make_node, port, producer, tensor_name
from export.lstm_loops import Lstm, lstm_of
from export.pattern import Skip
from export.tensors import FLOAT, INT32, INT64, DType
from export.transform import Arg, Arguments, Draft, Record, transform
from export.transforms.inline_partitionedcall import COMPILED
from export.variables import LOOPS

# Of one request, as far as it was measured; the block keeps seven numbers for each row, unit and step.
ROWS = 64
# With more multiplications in a step the loop is as fast or faster: it multiplies with oneDNN, the block with Eigen,
# which does better with few weights.
MOST, FEW, MOST_OF_FEW = 500_000, 1 << 15, 1 << 20
INSIDE = "it is in a branch or another loop, or is forked already"
# Outputs of BlockLSTMV2.
CELLS, HIDDEN = 1, 6


@transform("fork_lstm",
           Arg("most", "int", 0, help="rows times weights up to which the block is used; 0: as was measured"),
           bodies=False)
def fork_lstm(graph: Graph, args: Arguments, record: Record) -> Graph:  # decision 236
    """An LSTM written as a loop -> one BlockLSTMV2 for few rows, and the loop for more, behind a Switch

    A loop's turn is some twenty operations, each started by the executor; the block computes all steps in one.

    Safe when: the loop computes a float32 LSTM with constant weights and sigmoid and tanh, nothing more, one turn per
      step; its first states certainly have the shape of the later ones; nothing of it is fed or requested, nothing
      reads what else it counts, and it is in no branch and no other loop. An input without steps takes the loop.
    Source: not in the Graph Transform Tool.
    """
    loops = [item for item in graph.nodes.values() if item.op in LOOPS]
    if not loops:
        return graph
    draft, inside = Draft(graph), within_control_flow(graph)
    for loop in loops:
        try:
            lstm = lstm_of(graph, loop)
            if lstm is None:
                continue
            most = args["most"] or (MOST_OF_FEW if lstm.weights.size <= FEW else MOST)
            _refuse(loop, lstm, most, inside)
            _Fork(draft, loop, lstm, min(ROWS, most // lstm.weights.size))
            record.applied += 1
        except Skip as skip:
            record.skip(loop.name, INSIDE if loop.name in inside else skip.reason)
    return draft.result()


def _refuse(loop: Node, lstm: Lstm, most: int, inside: frozenset[str]) -> None:
    if loop.name in inside:
        raise Skip(INSIDE)
    if any(loop.get(mark) for mark in COMPILED):
        raise Skip("XLA compiles it")
    if "GPU" in loop.device.upper():
        raise Skip("it is not on a CPU")
    if lstm.steps == 0:
        raise Skip("its input has no steps")
    if most < lstm.weights.size:
        raise Skip(f"it has {lstm.weights.size} weights, and the block is for up to {most} (most)")


class _Fork:
    def __init__(self, draft: Draft, loop: Node, lstm: Lstm, rows: int) -> None:
        self._draft, self._loop, self._lstm = draft, loop, lstm
        self._switches: dict[str, str] = {}
        stacks = self._stacks()
        self._choice = self._chosen(rows)
        hidden = self._block()
        last = self._at("last", tensor_name(hidden, HIDDEN), -1, FLOAT)
        merged = self._either(lstm.hidden_at, last)
        draft.redirect(f"^{loop.name}", f"^{merged}")
        if draft.readers(tensor_name(loop.name, lstm.cell_at)):
            self._either(lstm.cell_at, self._at("cell", tensor_name(hidden, CELLS), -1, FLOAT))
        for stack in stacks:
            self._stacked(stack, tensor_name(hidden, HIDDEN), last)
        self._loop_for_many()

    def _stacks(self) -> list[Node]:
        """What reads the list of hidden states. Raises Skip if the loop is read in a way that two forms cannot have."""
        draft, loop, lstm = self._draft, self._loop, self._lstm
        if loop.name in draft.kept:
            raise Skip("it is itself a requested input or output")
        known = {tensor_name(loop.name, at) for at in (lstm.hidden_at, lstm.cell_at)}
        stacks = []
        for item in (draft.nodes[name] for name in draft.consumers.get(loop.name, ())):
            for ref in item.data:
                if producer(ref) != loop.name or ref in known:
                    continue
                if port(ref) != lstm.list_at or item.op != "TensorListStack" or item.name in draft.graph.fed:
                    raise Skip(f"'{item.name}' reads another of its results")
                stacks.append(item)
        return stacks

    def _chosen(self, rows: int) -> str:
        """Whether the input has at most `rows` rows, and steps."""
        shape = self._put("shape", "Shape", (self._lstm.x,), T=FLOAT, out_type=INT32)
        few = self._put("few", "LessEqual", (self._at("rows", shape, 1, INT32), self._const("most", rows)), T=INT32)
        if self._lstm.steps is not None:
            return few
        some = self._put("some", "Greater", (self._at("steps", shape, 0, INT32), self._const("none", 0)), T=INT32)
        return self._put("few_and_some", "LogicalAnd", (few, some))

    def _block(self) -> str:
        # Of the loop as it is now: what it waits for may have been another loop.
        lstm, controls = self._lstm, self._draft.nodes[self._loop.name].controls
        x = tensor_name(self._switch(lstm.x, FLOAT), 1)
        if lstm.steps is None:
            steps = self._at("block", self._put("block", "Shape", (x,), T=FLOAT, out_type=INT64), 0, INT64)
        else:
            steps = self._const("block/steps", np.array(lstm.steps, np.int64))
        unused = self._const("block/no_peephole", np.zeros(lstm.units, np.float32))
        weights, bias = self._const("block/weights", lstm.weights), self._const("block/bias", lstm.bias)
        inputs = steps, x, lstm.cell, lstm.hidden, weights, *(unused,) * 3, bias
        return self._put("block", "BlockLSTMV2", (*inputs, *controls), T=FLOAT, cell_clip=0.0, use_peephole=False)

    def _stacked(self, stack: Node, every: str, last: str) -> None:
        """What was the stack of the list is either, under the name of the stack."""
        draft = self._draft
        stack = draft.nodes[stack.name]  # what it waits for may be another node by now
        if self._lstm.every:
            block = every
        else:
            block = self._put("last_alone", "ExpandDims", (last, self._const("axis", 0)), T=FLOAT, Tdim=INT32)
        moved = replace(stack, name=draft.unused_name(f"{self._loop.name}/loop/{stack.op}"))
        draft.put(moved)
        draft.put(make_node(stack.name, "Merge", (moved.name, block, *stack.controls), stack.device, T=FLOAT, N=2))

    def _loop_for_many(self) -> None:
        """The counters come through the Switch, without which the loop would begin its turns, and the list of steps.

        The weights do not: TensorFlow's optimizer makes constants that go into a loop constants in it.
        """
        draft, loop = self._draft, self._draft.nodes[self._loop.name]
        inputs = []
        for ref in loop.data:
            item = draft.nodes[producer(ref)]
            counter = item.op == "Const" and not item.shape
            inputs.append(self._switch(ref, item.get("dtype")) if counter else ref)
            if item.op == "TensorListFromTensor" and item.data[0] == self._lstm.x \
                    and set(draft.consumers[item.name]) == {loop.name}:
                draft.put(item.with_inputs((self._switch(self._lstm.x, FLOAT), *item.inputs[1:])))
        draft.put(loop.with_inputs((*inputs, *loop.controls)))

    def _switch(self, ref: str, dtype: DType) -> str:
        if ref not in self._switches:
            self._switches[ref] = self._put("by_rows", "Switch", (ref, self._choice), T=dtype)
        return self._switches[ref]

    def _either(self, output: int, block: str) -> str:
        """What reads an output of the loop reads what is there: it, or that of the block."""
        loop = tensor_name(self._loop.name, output)
        merged = self._put("either", "Merge", (loop, block), T=FLOAT, N=2)
        self._draft.redirect(loop, merged, frozenset((merged,)))
        return merged

    def _at(self, name: str, ref: str, index: int, dtype: DType) -> str:
        """The part of a tensor at an index of its first axis."""
        bounds = (self._const(f"{name}/{end}", [value]) for end, value in (
            ("from", index), ("to", index + 1), ("step", 1)))
        return self._put(name, "StridedSlice", (ref, *bounds), T=dtype, Index=INT32, shrink_axis_mask=1)

    def _const(self, name: str, value: object) -> str:
        array = np.array(value, np.int32) if not isinstance(value, np.ndarray) else value
        made = make_const(self._draft.unused_name(f"{self._loop.name}/{name}"), array, (), self._loop.device)
        self._draft.put(made)
        return made.name

    def _put(self, name: str, op: str, inputs: tuple[str, ...], **attrs: object) -> str:
        loop = self._loop
        made = make_node(self._draft.unused_name(f"{loop.name}/{name}/{op}"), op, inputs, loop.device, **attrs)
        self._draft.put(made)
        return made.name
