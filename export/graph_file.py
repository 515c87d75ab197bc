"""Graphs on disk: a GraphDef file, and the one inside saved_model.pb, written node after node.

Serialising a whole GraphDef would hold the weights in memory three times; a stream of nodes holds one of them twice.
"""
from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from google.protobuf import text_format
from google.protobuf.message import DecodeError

from commandline import UserError, umask
from export.functions import called, definitions, reachable, to_function
from export.graph import Graph, Node, into_node_def
from export.ops import defaults, op_def

# A protobuf message of 2 GiB cannot be parsed.
SIZE_LIMIT = 2**31 - 1
# Field numbers of tensorflow/core/protobuf/saved_model.proto, meta_graph.proto and framework/graph.proto.
_SCHEMA_VERSION, _META_GRAPHS, _GRAPH_DEF, _NODE, _LIBRARY, _VERSIONS = 1, 2, 2, 1, 2, 4
_SHAPES = ("_output_shapes",)


def read_graph_def(path: Path) -> Any:
    """A GraphDef from a .pb or .pbtxt file. Raises UserError if it cannot be read."""
    import_module("export.runtime")  # the protos come with TensorFlow; its chatter is held back there
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


def write_graph_def(path: Path, graph: Graph) -> None:
    """Writes a GraphDef file (text for .pbtxt), whole or not at all."""
    _size(graph)
    with _appearing(path) as file:
        if path.suffix == ".pbtxt":
            file.write(text_format.MessageToString(as_graph_def(graph)).encode())
            return
        for number, message in _fields(graph):
            content = message.SerializeToString(deterministic=True)
            file.write(_header(number, len(content)))
            file.write(content)


@contextmanager
def _appearing(path: Path) -> Iterator[BinaryIO]:
    """A file that gets its name by one rename, once it is whole. Raises UserError that names it."""
    try:
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(partial, 0o666 & ~umask())
        os.replace(partial, path)
    except BaseException as error:
        Path(partial).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UserError(f"{path} cannot be written: {error.strerror}") from error
        raise


def as_graph_def(graph: Graph) -> Any:
    """The GraphDef that would be written, as one message."""
    from tensorflow.core.framework.graph_pb2 import GraphDef
    graph_def = GraphDef()
    for kind, message in _fields(graph):
        if kind == _NODE:
            graph_def.node.append(message)
        else:
            getattr(graph_def, "library" if kind == _LIBRARY else "versions").CopyFrom(message)
    return graph_def


def write_graph(path: Path, graph: Graph, meta_graph: Any) -> None:
    """Writes saved_model.pb: `meta_graph` (a MetaGraphDef without its graph) and `graph`."""
    size = _size(graph)
    rest = meta_graph.SerializeToString(deterministic=True)
    header = _header(_GRAPH_DEF, size)
    with path.open("wb") as file:
        file.write(bytes([_SCHEMA_VERSION << 3, 1]))
        file.write(_header(_META_GRAPHS, len(rest) + len(header) + size))
        file.write(rest)
        file.write(header)
        for number, message in _fields(graph):
            content = message.SerializeToString(deterministic=True)
            file.write(_header(number, len(content)))
            file.write(content)


def _size(graph: Graph) -> int:
    """The GraphDef's length in bytes. Raises UserError if no protobuf parser would take it."""
    size = 0
    for number, message in _fields(graph):
        length = message.ByteSize()
        size += len(_header(number, length)) + length
    if size > SIZE_LIMIT:
        raise UserError(f"the graph takes {size / 1e9:.2f} GB, over protobuf's limit of 2 GB; "
                        "`python -m export optimize` keeps weights in a variables file (--graph-limit)")
    return size


def _fields(graph: Graph) -> Iterator[tuple[int, Any]]:
    """The fields of the GraphDef in order, fit for older releases."""
    from tensorflow.core.framework.node_def_pb2 import NodeDef
    for item in graph.nodes.values():
        proto = NodeDef()
        into_node_def(_stripped(item), proto)
        yield _NODE, proto
    library = library_of(graph)
    if library.function:
        yield _LIBRARY, _stripped_library(library)
    if graph.versions is not None:
        yield _VERSIONS, graph.versions


def _stripped(item: Node) -> Node:
    """Without attributes that are at their defaults, since an older release may not know them, nor recorded shapes."""
    if op_def(item.op) is None:
        return item
    there = defaults(item.op)
    idle = [key for key, value in item.attrs.items() if key in _SHAPES or (key in there and there[key] == value)]
    return item.with_attrs(without=idle) if idle else item


def library_of(graph: Graph) -> Any:
    """The functions that the graph calls, as its steps have left them."""
    from tensorflow.core.framework.function_pb2 import FunctionDefLibrary
    functions = definitions(graph.library)
    functions = {name: to_function(graph.bodies[name], function, functions) if name in graph.bodies else function
                 for name, function in functions.items()}
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
