import math
from dataclasses import replace
from typing import Any

from export.evaluate import as_tensor, evaluate
from export.graph import Graph, Node, make_node, port, producer, tensor_name
from export.ops import IDENTITIES, is_pure, op_def
from export.tensors import DType
from export.transform import Arg, Arguments, Draft, Record, transform

# The largest constant that the Graph Transform Tool's own constant folding makes.
_MAX_BYTES = 10 * 1024 * 1024
# Ops that make a large tensor from small ones: the size of their result is checked before they run.
_SIZED_BY_INPUT = {"Fill": 0, "BroadcastTo": 1}


@transform(
    "fold_constants",
    Arg("exclude_op", repeated=True, help="an op that is never computed ahead"),
    Arg("exclude_node", repeated=True, help="a node that is never computed ahead"),
    Arg("clear_output_shapes", "bool", True, help="drop the _output_shapes notes, which may be out of date"),
    Arg("max_constant_size_in_bytes", "int", _MAX_BYTES, help="make no constant larger than this"))
def fold_constants(graph: Graph, args: Arguments, record: Record) -> Graph:
    """A node whose inputs are all constant becomes a Const with the result of TensorFlow's kernel.

    An Identity of a constant shares its bytes. Control inputs of the computed nodes move to the new constant, which
    keeps it in its v1 loop.

    Safe when: the op only computes (nothing stateful or random, no control flow, no placeholder: a
      PlaceholderWithDefault can be fed even if it is not listed); the node is not an input; the result is small enough;
      its kernel does not fail.
    Source: Graph Transform Tool, fold_constants.
    """
    if args["clear_output_shapes"] and any("_output_shapes" in item.attrs for item in graph.nodes.values()):
        graph = graph.with_nodes(
            item.with_attrs(without=("_output_shapes",)) if "_output_shapes" in item.attrs else item
            for item in graph.nodes.values())
    folding = _Folding(graph, args, record)
    folding.compute()
    return folding.replaced()


class _Folding:  # decision 14
    def __init__(self, graph: Graph, args: Arguments, record: Record) -> None:
        self.graph, self.record = graph, record
        self.limit: int = args["max_constant_size_in_bytes"]
        self.ops, self.names = frozenset(args["exclude_op"]), frozenset(args["exclude_node"])
        # The outputs of each computed node, as eager tensors, or as the Const node until a kernel needs its bytes.
        self.values: dict[str, list[Any]] = {}
        self.tensors: dict[str, Any] = {}
        # The control inputs of each constant: those of all nodes that were computed into it.
        self.waits: dict[str, tuple[str, ...]] = {}
        self.order: list[Node] = []

    def compute(self) -> None:
        """Computes every node that can be, in execution order."""
        for item in self.graph.order():
            if item.name in self.graph.fed:
                continue
            if item.op == "Const":
                self.values[item.name] = [item]
                self.waits[item.name] = item.controls
            elif item.data and all(producer(ref) in self.values for ref in item.data) and self._foldable(item):
                outputs = self._outputs(item)
                if outputs is not None:
                    self.values[item.name] = outputs
                    self.waits[item.name] = self._waits(item)
                    self.order.append(item)

    def replaced(self) -> Graph:
        """Replaces computed tensors that remaining nodes read by constants, and drops nodes that are then unused."""
        draft = Draft(self.graph)
        computed = {item.name for item in self.order}
        needed = {ref for item in self.graph.nodes.values() if item.name not in computed for ref in item.inputs}
        needed |= set(self.graph.outputs) | {f"^{name}" for name in self.graph.kept}
        for item in reversed(self.order):
            refs = [tensor_name(item.name, number) for number in range(len(self.values[item.name]))]
            wanted = [ref for ref in refs if ref in needed]
            if not wanted and f"^{item.name}" not in needed:
                continue
            large = [ref for ref in wanted if self._bytes(self.values[item.name][port(ref)]) > self.limit]
            if large:
                self.record.skip(item.name, f"its value is larger than {self.limit} bytes")
            elif len(refs) > 1 and (item.name in draft.kept or f"^{item.name}" in needed):
                self.record.skip(item.name, "it has several outputs and must keep its name")
            else:
                needed.update(self._put(draft, item, wanted))
                self.record.applied += 1
                continue
            # The node stays, so its inputs are needed, too.
            needed.update(item.inputs)
        for item in self.order:
            draft.drop_unused([item.name])
        return draft.result()

    def _put(self, draft: Draft, item: Node, wanted: list[str]) -> tuple[str, ...]:
        """Adds the constants that replace a node; returns their control inputs."""
        controls = self.waits[item.name]
        values = self.values[item.name]
        if len(values) == 1:
            made = _constant(item.name, values[0], controls)
            draft.put(replace(made, device=item.device, debug_info=item.debug_info))
        else:
            for ref in wanted:
                name = draft.unused_name(f"{item.name}/output_{port(ref)}")
                draft.put(_constant(name, values[port(ref)], controls))
                draft.redirect(ref, name)
        draft.drop_unused([item.name, *map(producer, item.inputs)])
        return controls

    def _waits(self, item: Node) -> tuple[str, ...]:
        own = [ref for ref in item.controls if producer(ref) not in self.values]
        before = [ref for name in map(producer, item.inputs) for ref in self.waits.get(name, ())]
        return tuple(dict.fromkeys(own + before))

    def _foldable(self, item: Node) -> bool:
        if item.op in self.ops or item.name in self.names or op_def(item.op) is None:
            return False
        return is_pure(item) and not any(value.WhichOneof("value") == "func" for value in item.attrs.values())

    def _outputs(self, item: Node) -> list[Any] | None:
        if item.op in IDENTITIES:
            return [self.values[producer(item.data[0])][port(item.data[0])]]
        try:
            inputs = [self._tensor(ref) for ref in item.data]
            self._check_size(item, inputs)
            return evaluate(item, inputs)
        except Exception as error:  # noqa: BLE001 (a kernel that refuses at build time may never run at serving time)
            self.record.skip(item.name, f"its kernel fails: {' '.join(str(error).split())[:200]}")
            return None

    def _tensor(self, ref: str) -> Any:
        """A computed value as an eager tensor, made once per constant."""
        value = self.values[producer(ref)][port(ref)]
        if not isinstance(value, Node):
            return value
        if value.name not in self.tensors:
            self.tensors[value.name] = as_tensor(value)
        return self.tensors[value.name]

    def _check_size(self, item: Node, inputs: list[Any]) -> None:
        at = _SIZED_BY_INPUT.get(item.op)
        if at is not None and math.prod(int(size) for size in inputs[at].numpy()) * 4 > 64 * self.limit:
            raise ValueError(f"the result would be far larger than {self.limit} bytes")

    def _bytes(self, value: Any) -> int:
        # The bytes of a Const node are shared, not copied.
        return 0 if isinstance(value, Node) else int(value.numpy().nbytes) if value.dtype.is_numpy_compatible else 0


def _constant(name: str, value: Any, controls: tuple[str, ...]) -> Node:
    """A Const of an eager tensor, or of another Const, whose bytes it then shares."""
    if isinstance(value, Node):
        return Node(name, "Const", controls, {key: value.attrs[key] for key in ("dtype", "value")})
    from export.runtime import tf
    dtype = DType(value.dtype.as_datatype_enum)
    return make_node(name, "Const", controls, dtype=dtype, value=tf.make_tensor_proto(value.numpy(), dtype=value.dtype))
