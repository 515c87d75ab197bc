"""Which work is known to be quick, and which graphs never are."""
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from serving.pace import Pace, Steps
from serving.protos import graph_pb2


def note(pace: Pace, size: int, seconds: float, here: bool = False, now: float = 0.0) -> None:
    pace.note(size, now, now + seconds, here)


def learned(*sizes: int) -> Pace:
    """A pace that knows work of these sizes to be quick."""
    pace = Pace(quick_s=0.1, slow_s=1.0)
    for _ in range(3):
        note(pace, 10**9, 0.01)  # does not count: the first run may have initialized something
    for size in sizes:
        note(pace, size, 0.01)
    return pace


def test_work_up_to_the_largest_that_was_quick_is_quick() -> None:
    assert learned().quick_bytes == -1
    assert learned(8, 100, 50).quick_bytes == 100


def test_slow_runs_do_not_change_what_is_known_to_be_quick() -> None:
    pace = learned(8)
    note(pace, 100, 0.5)
    note(pace, 200, 0.01, here=True)
    assert pace.quick_bytes == 8


def test_slow_work_on_the_event_loop_takes_a_twentieth_of_the_time_at_most() -> None:
    pace = learned(8)
    note(pace, 8, 0.9, here=True)
    assert pace.quick_bytes == 8
    note(pace, 8, 2.0, here=True, now=100.0)
    for now in range(102, 142):
        assert pace.quick_bytes == -1
        note(pace, 8, 0.01, now=now - 0.02)
    note(pace, 8, 0.01, now=142.0)
    assert pace.quick_bytes == 8


def test_after_forget_quick_sizes_are_learned_again() -> None:
    pace = learned(8)
    pace.forget()
    for _ in range(3):
        note(pace, 8, 0.01)
        assert pace.quick_bytes == -1
    note(pace, 8, 0.01)
    assert pace.quick_bytes == 8


@dataclass
class Op:
    """An operation of a graph made by hand; its inputs are other such operations."""

    type: str
    takes: list["Op"] = field(default_factory=list)
    control_inputs: list["Op"] = field(default_factory=list)
    calls: str = ""

    @property
    def name(self) -> str:
        return str(id(self))

    @property
    def inputs(self) -> list[Any]:
        return [SimpleNamespace(op=each, name=f"{each.name}:0") for each in self.takes]

    @property
    def node_def(self) -> Any:
        made = graph_pb2.GraphDef().node.add(op=self.type)
        if self.calls:
            made.attr["f"].func.name = self.calls
        return made


X = Op("Placeholder")


def test_a_chain_of_bounded_operations_is_bounded() -> None:
    assert Steps([]).bounded([Op("Softmax", [Op("MatMul", [X, Op("Const")])])], [])


@pytest.mark.parametrize("kind", ["Enter", "While", "StatelessWhile", "PyFunc", "QueueDequeueV2", "Fill", "Range",
                                  "Tile", "DecodeJpeg", "ParseExampleV2", "NoSuchOperationYet"])
def test_an_unbounded_operation_is_found_anywhere_in_the_graph(kind: str) -> None:
    long = Op(kind, [X])
    for fetched in (long, Op("Relu", [Op("Add", [X, long])]), Op("Relu", [X], control_inputs=[long])):
        assert not Steps([]).bounded([Op("Relu", [X]), fetched], [])


def test_operations_before_a_fed_tensor_do_not_count() -> None:
    decoded = Op("DecodeJpeg", [X])
    assert Steps([]).bounded([Op("Relu", [decoded])], [f"{decoded.name}:0"])


def _function(name: str, *ops: str, calls: str = "") -> graph_pb2.GraphDef:
    library = graph_pb2.GraphDef().library.function
    made = library.add()
    made.signature.name = name
    for op in ops:
        made.node_def.add(name=op, op=op)
    if calls:
        made.node_def.add(name="call", op="StatefulPartitionedCall").attr["f"].func.name = calls
    return made


def test_functions_are_searched_through_every_call() -> None:
    steps = Steps([_function("good", "Relu"), _function("outer", "Relu", calls="middle"),
                   _function("middle", calls="bad"), _function("bad", "Relu", "While"),
                   _function("fine", calls="good")])
    for name, bounded in (("good", True), ("fine", True), ("bad", False), ("middle", False), ("outer", False)):
        assert steps.bounded([Op("PartitionedCall", [X], calls=name)], []) == bounded, name
