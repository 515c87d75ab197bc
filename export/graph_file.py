"""Graphs on disk: a GraphDef file, and the GraphDef inside saved_model.pb, written node by node.

Serialising a whole GraphDef would hold all weights in memory three times; node by node, only one is held twice.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from google.protobuf import text_format
from google.protobuf.message import DecodeError

from export.functions import called, current, reachable
from export.graph import Graph, Node
from export.node import into_node_def
from export.ops import defaults, op_def
from user_error import UserError
from whole_file import whole_file

# A protobuf message of 2 GiB cannot be parsed.
SIZE_LIMIT = 2**31 - 1
# Field numbers of tensorflow/core/protobuf/saved_model.proto, meta_graph.proto and framework/graph.proto.
_SCHEMA_VERSION, _META_GRAPHS, _GRAPH_DEF, _NODE, _LIBRARY, _VERSIONS = 1, 2, 2, 1, 2, 4
_SHAPES = ("_output_shapes",)

Fields = Iterator[tuple[int, Any]]  # of a GraphDef: field number and message


def read_graph_def(path: Path) -> Any:
    """A GraphDef from a .pb or .pbtxt file. Raises UserError if it cannot be read."""
    import_module("export.runtime")  # imports TensorFlow, which has the protos, without its log output
    from tensorflow.core.framework.graph_pb2 import GraphDef

    graph_def = GraphDef()
    try:
        if path.suffix == ".pbtxt":
            text_format.Parse(path.read_text(), graph_def)
        else:
            graph_def.ParseFromString(path.read_bytes())
    except (DecodeError, text_format.ParseError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be parsed as a GraphDef, so it is truncated, corrupted or something else"
                        ) from error
    if not graph_def.node:
        raise UserError(f"{path} holds no nodes; is it a GraphDef?")
    return graph_def


def write_graph_def(path: Path, fields: Fields, as_text: bool = False) -> None:
    """Writes a GraphDef file (text for .pbtxt) atomically. Raises UserError if it cannot be written."""
    with whole_file(path) as file:
        if as_text or path.suffix == ".pbtxt":
            file.write(text_format.MessageToString(as_graph_def(fields)).encode())
            return
        size = 0
        for number, message in fields:
            size += _write(file, number, message)
            _check(size)


def as_graph_def(fields: Fields) -> Any:
    """The GraphDef of these fields as one message."""
    from tensorflow.core.framework.graph_pb2 import GraphDef
    made = GraphDef()
    for number, message in fields:
        if number == _NODE:
            made.node.append(message)
        else:
            getattr(made, "library" if number == _LIBRARY else "versions").CopyFrom(message)
    return made


def write_graph(path: Path, graph: Graph, meta_graph: Any) -> None:  # decision 22
    """Writes saved_model.pb: `meta_graph` (a MetaGraphDef without its graph) and `graph`."""
    from export.runtime import writing
    size = 0
    for number, message in served(graph):
        length = message.ByteSize()
        size += len(_header(number, length)) + length
    _check(size)
    rest = meta_graph.SerializeToString(deterministic=True)
    header = _header(_GRAPH_DEF, size)
    with writing(path), path.open("wb") as file:
        file.write(bytes([_SCHEMA_VERSION << 3, 1]))
        file.write(_header(_META_GRAPHS, len(rest) + len(header) + size))
        file.write(rest)
        file.write(header)
        for number, message in served(graph):
            _write(file, number, message)


def whole(graph: Graph) -> Fields:
    """The fields of the graph's GraphDef in order, unchanged."""
    yield from _nodes(graph.nodes.values())
    if graph.library is not None:
        functions = current(graph).values()
        yield _LIBRARY, type(graph.library)(function=functions, gradient=graph.library.gradient)
    if graph.versions is not None:
        yield _VERSIONS, graph.versions


def served(graph: Graph) -> Fields:
    """The fields for serving, also by older releases: without functions and attributes that are not needed."""
    yield from _nodes(map(_stripped, graph.nodes.values()))
    library = library_of(graph)
    if library.function:
        yield _LIBRARY, _stripped_library(library)
    if graph.versions is not None:
        yield _VERSIONS, graph.versions


def _nodes(nodes: Iterable[Node]) -> Fields:
    from tensorflow.core.framework.node_def_pb2 import NodeDef
    for item in nodes:
        proto = NodeDef()
        into_node_def(item, proto)
        yield _NODE, proto


def _write(file: BinaryIO, number: int, message: Any) -> int:
    """Writes one field; returns its length."""
    content = message.SerializeToString(deterministic=True)
    header = _header(number, len(content))
    file.write(header)
    file.write(content)
    return len(header) + len(content)


def _check(size: int) -> None:
    if size > SIZE_LIMIT:
        raise UserError("the graph is over protobuf's limit of 2 GB, so nothing could read it; "
                        "`python -m export optimize` keeps weights in a variables file (--graph-limit)")


def _stripped(item: Node) -> Node:
    """The node without recorded shapes and without attributes at their defaults, which older releases may not know."""
    if op_def(item.op) is None:
        return item
    there = defaults(item.op)
    idle = [key for key, value in item.attrs.items() if key in _SHAPES or (key in there and there[key] == value)]
    return item.with_attrs(without=idle) if idle else item


def library_of(graph: Graph) -> Any:
    """The functions that the graph calls, with their current bodies."""
    from tensorflow.core.framework.function_pb2 import FunctionDefLibrary
    functions = current(graph)
    needed = reachable((name for item in graph.nodes.values() for name in (item.op, *called(item.attrs))), functions)
    result = FunctionDefLibrary()
    result.function.extend(functions[name] for name in sorted(needed))
    for gradient in graph.library.gradient if graph.library is not None else ():
        if gradient.function_name in needed and gradient.gradient_func in functions:
            result.gradient.append(gradient)
    return result


def _stripped_library(library: Any) -> Any:
    for function in library.function:
        for proto in function.node_def:
            there = defaults(proto.op) if op_def(proto.op) is not None else {}
            for key in [key for key, value in proto.attr.items()
                        if key in _SHAPES or (key in there and there[key] == value)]:
                del proto.attr[key]
    return library


def _header(number: int, length: int) -> bytes:
    """The key and length of a length-delimited protobuf field."""
    return _varint(number << 3 | 2) + _varint(length)


def _varint(value: int) -> bytes:
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*result, value))
