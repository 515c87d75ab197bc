"""Variables -> constants, in a graph and in every function it calls.

A variable is a VarHandleOp (its handle is followed through calls, branches and loops) or a VariableV2 (a reference).
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from export.functions import ARGUMENT, definitions, to_function, to_graph
from export.graph import Graph, Node, make_attr, make_const, producer, tensor_name
from export.ops import is_pure
from export.tensors import BOOL, INT32, RESOURCE, DType

if TYPE_CHECKING:
    from tensorflow.core.framework.function_pb2 import FunctionDef

HANDLES = frozenset({"VarHandleOp"})
REFERENCES = frozenset({"Variable", "VariableV2"})
READS = frozenset({
    "ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VariableShape", "VarIsInitializedOp",
    "DisableCopyOnRead", "IsVariableInitialized"})
_PASSES = frozenset({"Identity", "Enter", "Exit", "Switch", "Merge", "NextIteration"})
_CALLS = {
    # op: (attributes that hold functions, first input that is an argument)
    "PartitionedCall": (("f",), 0), "StatefulPartitionedCall": (("f",), 0),
    "If": (("then_branch", "else_branch"), 1), "StatelessIf": (("then_branch", "else_branch"), 1),
    "Case": (("branches",), 1), "StatelessCase": (("branches",), 1),
    "While": (("cond", "body"), 0), "StatelessWhile": (("cond", "body"), 0)}
LOOPS = ("While", "StatelessWhile")
# The attributes of a call that list the types of its arguments and results.
_ARGUMENT_TYPES, _RESULT_TYPES = ("Tin", "T"), ("Tout", "T")


def identity(item: Node) -> str:
    """The name that identifies a node's variable: nodes with the same identity are the same variable."""
    return str(item.get("shared_name") or item.name)


def is_variable(item: Node) -> bool:
    return item.op in HANDLES or item.op in REFERENCES


def freeze(graph: Graph, values: Mapping[str, Any]) -> Graph:
    """The graph with the variables in `values` (identity -> AttrValue of the tensor) as constants."""
    return _Freezing(graph, values).run()


def called_by(item: Node, library: Mapping[str, FunctionDef]) -> tuple[list[str], int]:
    """The functions that a node calls (none if it is not a call), and the index of the first input passed to them."""
    if item.op in library:
        return [item.op], 0
    if item.op not in _CALLS:
        return [], 0
    attributes, first = _CALLS[item.op]
    if attributes == ("branches",):
        return [func.name for func in item.attrs["branches"].list.func], first
    return [item.attrs[name].func.name for name in attributes], first


def passed_on(item: Node, index: int) -> list[str] | None:
    """The outputs that are input `index` unchanged; None if the op does not just pass it on."""
    op = item.op.removeprefix("Ref")
    if op == "IdentityN":
        return [tensor_name(item.name, index)]
    if op not in _PASSES:
        return None
    return [item.name, tensor_name(item.name, 1)] if op == "Switch" else [item.name]


class _Freezing:
    def __init__(self, graph: Graph, values: Mapping[str, Any]) -> None:
        self.graph = graph
        self.values = values
        self.library = definitions(graph.library)
        self.made: dict[tuple[str, tuple[DType | None, ...]], tuple[str, tuple[DType | None, ...]]] = {}

    def run(self) -> Graph:
        from tensorflow.core.framework.function_pb2 import FunctionDefLibrary
        graph, _ = self.body(self.graph, {})
        library = None
        if self.library:
            library = FunctionDefLibrary()
            library.CopyFrom(self.graph.library)
            del library.function[:]
            library.function.extend(self.library.values())
        return replace(graph, library=library)

    def body(self, graph: Graph, arguments: Mapping[str, DType]) -> tuple[Graph, tuple[DType | None, ...]]:
        """The graph with frozen values in place of handles. `arguments`: those that are now values, with their types.

        Also returns for each output its type if it is now a value, else None.
        """
        at: dict[str, DType] = {}
        nodes = dict(graph.nodes)
        extra: dict[str, list[Node]] = {}
        looped = any(item.op in ("Enter", "RefEnter") for item in graph.nodes.values())
        for item in graph.order():
            if item.name in arguments:
                at[item.name] = arguments[item.name]
                nodes[item.name] = item.with_attrs(T=arguments[item.name])
            elif is_variable(item) and identity(item) in self.values:
                value = self.values[identity(item)]
                at[item.name] = DType(value.tensor.dtype)
                nodes[item.name] = Node(item.name, "Const", item.controls,
                                        {"dtype": make_attr(at[item.name]), "value": value}, item.device)
            elif any(ref in at for ref in item.data):
                new = self.reader(item, at, looped) or self.call(item, at) or self.passing(item, at)
                if new:
                    nodes[item.name] = new[0]
                    extra[item.name] = new[1:]
        graph = graph.with_nodes(
            made for name in graph.nodes for made in (*extra.get(name, ()), nodes[name]))
        return _without_idle_controls(graph), tuple(at.get(ref) for ref in graph.outputs)

    def reader(self, item: Node, at: Mapping[str, DType], looped: bool) -> list[Node] | None:
        """The nodes that replace an op that reads a variable: its replacement first, then the nodes that one needs."""
        if item.op not in READS:
            return None
        dtype = at[item.data[0]]
        frame = (f"^{producer(item.data[-1])}",) if looped else ()
        if item.op == "ReadVariableOp":
            return [Node(item.name, "Identity", item.inputs, {"T": make_attr(dtype)}, item.device)]
        if item.op == "VariableShape":
            kept = {"out_type": item.attrs["out_type"]} if "out_type" in item.attrs else {}
            return [Node(item.name, "Shape", item.inputs, {"T": make_attr(dtype), **kept}, item.device)]
        if item.op == "DisableCopyOnRead":
            return [Node(item.name, "NoOp", (f"^{producer(item.data[0])}", *item.controls))]
        if item.op in ("VarIsInitializedOp", "IsVariableInitialized"):
            yes = make_attr(True)
            yes.tensor.dtype = BOOL
            yes.tensor.tensor_shape.SetInParent()
            yes.tensor.bool_val.append(True)
            return [Node(item.name, "Const", (*frame, *item.controls), {"dtype": make_attr(BOOL), "value": yes})]
        types = {"Tparams": make_attr(dtype), "Tindices": item.attrs["Tindices"]}
        if item.op == "ResourceGatherNd":
            return [Node(item.name, "GatherNd", item.inputs, types, item.device)]
        batch_dims = int(item.get("batch_dims", 0))
        axis = make_const(f"{item.name}/frozen_axis", np.asarray(batch_dims, np.int32), frame, item.device)
        return [Node(item.name, "GatherV2", (*item.data, axis.name, *item.controls),
                     {**types, "Taxis": make_attr(INT32), "batch_dims": make_attr(batch_dims)}, item.device), axis]

    def call(self, item: Node, at: dict[str, DType]) -> list[Node] | None:
        functions, first = called_by(item, self.library)
        if not functions:
            return None
        arguments = tuple(at.get(ref) for ref in item.data[first:])
        renamed: dict[str, str] = {}
        results: tuple[DType | None, ...] = ()
        for name in functions:
            renamed[name], results = self.function(name, arguments)
        for index, dtype in enumerate(results):
            if dtype is not None:
                at[tensor_name(item.name, index)] = dtype
        if item.op in self.library:
            return [replace(item, op=renamed[item.op])]
        attrs = {key: _renamed(value, renamed) for key, value in item.attrs.items()}
        loop = item.op in LOOPS
        for names, dtypes in ((_ARGUMENT_TYPES, arguments), (_RESULT_TYPES, arguments if loop else results)):
            for key in names:
                if key in attrs:
                    attrs[key] = _retyped(attrs[key], dtypes)
        if "output_shapes" in attrs:
            attrs["output_shapes"] = _unshaped(attrs["output_shapes"], arguments if loop else results)
        attrs.pop("_output_shapes", None)
        return [replace(item, attrs=attrs, full_type=None)]

    def function(self, name: str, arguments: tuple[DType | None, ...]) -> tuple[str, tuple[DType | None, ...]]:
        key = (name, arguments)
        if key not in self.made:
            frozen = f"{name}_frozen"
            while frozen in self.library:
                frozen += "_"
            body = to_graph(self.library[name], self.library)
            self.made[key] = frozen, (None,) * len(body.outputs)  # the result for a recursive call
            held = {ref: dtype for ref, dtype in zip(body.inputs, arguments, strict=True) if dtype is not None}
            graph, results = self.body(body, held)
            self.library[frozen] = _without_idle_effects(
                to_function(graph, self.library[name], self.library, frozen), graph)
            self.made[key] = frozen, results
        return self.made[key]

    def passing(self, item: Node, at: dict[str, DType]) -> list[Node] | None:
        op = item.op.removeprefix("Ref")
        if op == "IdentityN":
            dtypes = tuple(at.get(ref) for ref in item.data)
            at.update({tensor_name(item.name, index): dtype for index, dtype in enumerate(dtypes) if dtype})
            return [item.with_attrs(without=("_output_shapes",), T=make_attr(_retyped(item.attrs["T"], dtypes)))]
        if op not in _PASSES or (op == item.op and item.get("T") != RESOURCE):
            return None
        dtype = next(at[ref] for ref in item.data if ref in at)
        for ref in passed_on(item, 0) or ():
            at[ref] = dtype
        return [replace(item.with_attrs(without=("_output_shapes",), T=dtype), op=op, full_type=None)]


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    kind = value.WhichOneof("value")
    if kind == "func" and value.func.name in names:
        value = _copy(value)
        value.func.name = names[value.func.name]
    elif kind == "list" and value.list.func:
        value = _copy(value)
        for func in value.list.func:
            func.name = names.get(func.name, func.name)
    return value


def _retyped(value: Any, dtypes: tuple[DType | None, ...]) -> Any:
    value = _copy(value)
    for index, dtype in enumerate(dtypes):
        if dtype is not None:
            value.list.type[index] = dtype
    return value


def _unshaped(value: Any, dtypes: tuple[DType | None, ...]) -> Any:
    value = _copy(value)
    if value.list.shape:
        for index, dtype in enumerate(dtypes):
            if dtype is not None:
                value.list.shape[index].Clear()
                value.list.shape[index].unknown_rank = True
    return value


def _copy(value: Any) -> Any:
    result = type(value)()
    result.CopyFrom(value)
    return result


def _without_idle_controls(graph: Graph) -> Graph:
    """Drops control inputs that waited for reads of variables that are now constants; those that order effects stay."""
    idle: dict[str, tuple[str, ...]] = {}
    for item in graph.order():
        controls = _settled(item.controls, idle)
        if item.op == "NoOp" and item.name not in graph.kept and not controls:
            idle[item.name] = ()
        elif item.op in ("Identity", "GatherV2", "GatherNd", "Shape", "Const") and not item.data[2:]:
            source = graph.nodes[producer(item.data[0])] if item.data else item
            if source.op in ("Const", ARGUMENT):
                # The source's own control inputs keep it in its loop or branch, so they replace the one to the source.
                idle[item.name] = tuple(dict.fromkeys((*controls, *idle.get(source.name, source.controls))))
    return graph.with_nodes(
        item.with_inputs((*item.data, *_settled(item.controls, idle))) if item.controls else item
        for item in graph.nodes.values())


def _settled(controls: tuple[str, ...], idle: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for ref in controls:
        for one in idle.get(ref[1:], (ref,)):
            found[one] = None
    return tuple(found)


def _without_idle_effects(function: FunctionDef, graph: Graph) -> FunctionDef:
    """The function without control outputs (nodes that must run) that only read a constant."""
    for key, name in list(function.control_ret.items()):
        item = graph.nodes[name]
        if is_pure(item) or (item.op == "NoOp" and not item.controls):
            del function.control_ret[key]
    kept = [key for key in function.signature.control_output if key in function.control_ret]
    del function.signature.control_output[:]
    function.signature.control_output.extend(kept)
    return function
