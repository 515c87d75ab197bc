"""Function bodies as graphs: FunctionDef <-> Graph, so that transforms of graphs work on bodies too.

In a body graph each argument is a node of op "_Arg" with the argument's name; `inputs` are the arguments and `outputs`
the returned tensors, both in order. A tensor is named "node:output_name:index" in a FunctionDef and "node:index" here,
as everywhere else in this package.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from export.effects import functions_of
from export.graph import Graph, GraphError, Node, from_node_def, make_node, normal, port, producer, tensor_name
from export.node import into_node_def
from export.ops import arg_dtypes, op_def, output_dtypes
from export.tensors import DType

if TYPE_CHECKING:
    from tensorflow.core.framework.function_pb2 import FunctionDef

ARGUMENT = "_Arg"


def definitions(library: Any) -> dict[str, FunctionDef]:
    """The functions of a library by name; none for None."""
    return {item.signature.name: item for item in library.function} if library is not None else {}


def current(graph: Graph) -> dict[str, FunctionDef]:
    """The functions of the graph's library by name, with their current bodies."""
    before = definitions(graph.library)
    return {name: to_function(graph.bodies[name], function, before) if name in graph.bodies else function
            for name, function in before.items()}


def called(attrs: Mapping[str, Any]) -> list[str]:
    """The names of the functions in a node's attributes, including those in the attributes of functions."""
    return list(functions_of(attrs))


def to_graph(function: FunctionDef, library: Mapping[str, FunctionDef]) -> Graph:
    """The body as a graph. `library` has the functions that are used as ops in it.

    Raises GraphError for an op that is not registered, and for a function whose types depend on its caller.
    """
    signature = function.signature
    nodes: dict[str, Node] = {}
    for index, arg in enumerate(signature.input_arg):
        if not arg.type:
            raise GraphError(f"function '{signature.name}': the type of argument '{arg.name}' depends on the caller")
        nodes[arg.name] = make_node(arg.name, ARGUMENT, T=DType(arg.type), index=index)
    bodies = [from_node_def(proto) for proto in function.node_def]
    first = {item.name: first_ports(item, library) for item in bodies}

    def flat(ref: str) -> str:
        name, *output = ref.split(":")
        if ref.startswith("^") or not output or name not in first:
            return normal(ref)
        if output[0] not in first[name]:
            raise GraphError(f"function '{signature.name}' reads '{ref}', which its node does not have")
        return tensor_name(name, first[name][output[0]] + int(output[1] if len(output) > 1 else 0))

    for item in bodies:
        # from_node_def drops a trailing ":0", also from "node:output_name:0".
        nodes[item.name] = item.with_inputs(map(flat, item.inputs))
    return Graph(nodes, tuple(arg.name for arg in signature.input_arg),
                 tuple(flat(function.ret[arg.name]) for arg in signature.output_arg))


def to_function(graph: Graph, like: FunctionDef, library: Mapping[str, FunctionDef], name: str = "") -> FunctionDef:
    """The FunctionDef of a body graph, with the names and attributes of `like`, and the types of `graph`.

    Arguments and returned tensors may have other types than in `like`, but must be as many. Control outputs whose nodes
    no longer exist are dropped.
    """
    from tensorflow.core.framework.function_pb2 import FunctionDef
    result = FunctionDef()
    result.signature.CopyFrom(like.signature)
    result.signature.name = name or like.signature.name
    for key, value in like.attr.items():
        result.attr[key].CopyFrom(value)
    for index, (ref, arg) in enumerate(zip(graph.inputs, result.signature.input_arg, strict=True)):
        changed = arg.type != graph.nodes[ref].get("T")
        arg.type = graph.nodes[ref].get("T")
        if index in like.arg_attr:
            result.arg_attr[index].CopyFrom(like.arg_attr[index])
            if changed:
                # The recorded shape belongs to the tensor of the old type.
                result.arg_attr[index].attr.pop("_output_shapes", None)
                result.attr.pop("_input_shapes", None)
        elif changed:
            result.attr.pop("_input_shapes", None)
    outputs = {item.name: _port_names(item, library) for item in graph.nodes.values() if item.op != ARGUMENT}

    def named(ref: str) -> str:
        return ref if ref.startswith("^") or producer(ref) not in outputs else outputs[producer(ref)][port(ref)]

    for item in graph.nodes.values():
        if item.op != ARGUMENT:
            into_node_def(item.with_inputs(map(named, item.inputs)), result.node_def.add())
    for ref, arg in zip(graph.outputs, result.signature.output_arg, strict=True):
        result.ret[arg.name] = named(ref)
        arg.type = tensor_dtype(graph, ref, library)
    kept = [key for key, target in like.control_ret.items() if target in graph.nodes]
    for key in kept:
        result.control_ret[key] = like.control_ret[key]
    del result.signature.control_output[:]
    result.signature.control_output.extend(item for item in like.signature.control_output if item in kept)
    return result


def tensor_dtype(graph: Graph, ref: str, library: Mapping[str, FunctionDef]) -> DType:
    item = graph.nodes[producer(ref)]
    if item.op == ARGUMENT:
        return DType(item.get("T"))
    if item.op in library:
        return DType(library[item.op].signature.output_arg[port(ref)].type)
    dtypes = output_dtypes(item)
    assert dtypes is not None, item.op
    return dtypes[port(ref)]


def reachable(names: Iterable[str], library: Mapping[str, FunctionDef]) -> set[str]:
    """The functions `names` and all functions that they call, directly or indirectly."""
    found: set[str] = set()
    todo = [name for name in names if name in library]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        for proto in library[name].node_def:
            todo.extend(other for other in (proto.op, *called(proto.attr)) if other in library)
    return found


def _outputs(item: Node, library: Mapping[str, FunctionDef]) -> list[tuple[str, int]]:
    """The named outputs of a node in order, each with its number of tensors."""
    if item.op in library:
        return [(arg.name, 1) for arg in library[item.op].signature.output_arg]
    definition = op_def(item.op)
    if definition is None:
        raise GraphError(f"node '{item.name}' has op '{item.op}', which this TensorFlow does not know")
    return [(arg.name, len(arg_dtypes(item, arg))) for arg in definition.output_arg]


def first_ports(item: Node, library: Mapping[str, FunctionDef]) -> dict[str, int]:
    """The index of the first tensor of each named output of a node."""
    found, total = {}, 0
    for name, count in _outputs(item, library):
        found[name] = total
        total += count
    return found


def _port_names(item: Node, library: Mapping[str, FunctionDef]) -> list[str]:
    return [f"{item.name}:{name}:{index}" for name, count in _outputs(item, library) for index in range(count)]
