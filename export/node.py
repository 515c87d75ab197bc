"""Nodes and the names of tensors.

A tensor is named "node" (first output), "node:1" (second output) or "^node" (a control input); "node:0" is normalised
to "node", so equal tensors have equal names. Constants stay inside the AttrValue messages they came in; a node made
from another shares them.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from export.tensors import Array, DType, dtype_of, shape_of, to_array, to_proto
from user_error import UserError

if TYPE_CHECKING:
    from tensorflow.core.framework.attr_value_pb2 import AttrValue

COLOCATION = "_class"
_COLOCATED_WITH = b"loc:@"


class GraphError(UserError):
    """A graph that cannot be read, or that a step left broken."""


def normal(ref: str) -> str:
    return ref[:-2] if ref.endswith(":0") else ref


def producer(ref: str) -> str:
    """The name of the node that makes a tensor, or that a control input waits for."""
    if ref.startswith("^"):
        return ref[1:]
    return ref.rpartition(":")[0] if ":" in ref else ref


def port(ref: str) -> int:
    """The output number of a tensor's name; -1 for a control input."""
    if ref.startswith("^"):
        return -1
    return int(ref.rpartition(":")[2]) if ":" in ref else 0


def tensor_name(name: str, output: int) -> str:
    return f"{name}:{output}" if output else name


@dataclass(frozen=True, slots=True)
class Node:
    """One operation. `attrs` are shared between graphs: make a new node (`with_...`), never change one in place."""

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    attrs: Mapping[str, AttrValue] = field(default_factory=dict)
    device: str = ""
    debug_info: Any = None
    full_type: Any = None

    @property
    def data(self) -> tuple[str, ...]:
        """Its data inputs, as tensor names."""
        return tuple(ref for ref in self.inputs if ref[0] != "^")

    @property
    def controls(self) -> tuple[str, ...]:
        """Its control inputs: the nodes it waits for, as "^name"."""
        return tuple(ref for ref in self.inputs if ref[0] == "^")

    def get(self, attr: str, default: Any = None) -> Any:
        """The plain value of an attribute: bool, int, float, str, DType, shape (None: unknown rank), list,
        or proto."""
        value = self.attrs.get(attr)
        return default if value is None else plain(value)

    @property
    def value(self) -> Array:
        """A Const's value."""
        return to_array(self.attrs["value"].tensor)

    @property
    def shape(self) -> tuple[int, ...]:
        """A Const's shape, without touching its bytes."""
        return shape_of(self.attrs["value"].tensor)

    def with_inputs(self, inputs: Iterable[str]) -> Node:
        return replace(self, inputs=tuple(inputs))

    def with_attrs(self, without: Iterable[str] = (), **values: Any) -> Node:
        attrs = {key: value for key, value in self.attrs.items() if key not in without}
        return replace(self, attrs=attrs | {key: make_attr(value) for key, value in values.items()})


def make_node(name: str, op: str, inputs: Iterable[str] = (), device: str = "", **attrs: Any) -> Node:
    return Node(name, op, tuple(inputs), {key: make_attr(value) for key, value in attrs.items()}, device)


def make_const(name: str, value: Array, controls: Iterable[str] = (), device: str = "",
               dtype: int | None = None) -> Node:
    """A Const node. In a v1 while loop it needs `controls`, which keep it in the loop's frame."""
    kind = DType(dtype_of(value) if dtype is None else dtype)
    attrs = {"dtype": make_attr(kind), "value": make_attr(to_proto(value, dtype))}
    return Node(name, "Const", tuple(controls), attrs, device)


def plain(value: AttrValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "s":
        return value.s.decode("utf-8", "surrogateescape")
    if kind == "type":
        return DType(value.type)
    if kind == "shape":
        return None if value.shape.unknown_rank else tuple(dim.size for dim in value.shape.dim)
    if kind == "list":
        items = value.list
        if items.type:
            return [DType(item) for item in items.type]
        if items.shape:
            return [None if item.unknown_rank else tuple(dim.size for dim in item.dim) for item in items.shape]
        if items.s:
            return [item.decode("utf-8", "surrogateescape") for item in items.s]
        return list(items.i) or list(items.f) or list(items.b) or list(items.tensor) or list(items.func)
    return getattr(value, kind) if kind else None


def make_attr(value: Any) -> AttrValue:
    """An AttrValue of a plain value (see `plain`); a shape is a tuple, any other sequence a list."""
    from tensorflow.core.framework.attr_value_pb2 import AttrValue
    from tensorflow.core.framework.tensor_pb2 import TensorProto
    if isinstance(value, AttrValue):
        return value
    result = AttrValue()
    if isinstance(value, bool):
        result.b = value
    elif isinstance(value, DType):
        result.type = value
    elif isinstance(value, int):
        result.i = value
    elif isinstance(value, float):
        result.f = value
    elif isinstance(value, str | bytes):
        result.s = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
    elif isinstance(value, TensorProto):
        result.tensor.CopyFrom(value)
    elif isinstance(value, tuple):
        result.shape.SetInParent()
        for size in value:
            result.shape.dim.add(size=size)
    else:
        result.list.SetInParent()
        for item in value:
            single = make_attr(item)
            kind = single.WhichOneof("value")
            getattr(result.list, kind).append(getattr(single, kind))
    return result


def colocated(item: Node, where: Any) -> Node:
    """The node with the name in each colocation constraint ("loc:@name") mapped by `where`; None drops it."""
    kept = []
    for entry in item.attrs[COLOCATION].list.s:
        if entry.startswith(_COLOCATED_WITH):
            target = where(entry[len(_COLOCATED_WITH):].decode())
            if target is None:
                continue
            entry = _COLOCATED_WITH + target.encode()
        kept.append(entry)
    return item.with_attrs(**{COLOCATION: kept}) if kept else item.with_attrs(without=(COLOCATION,))


def from_node_def(proto: Any) -> Node:
    return Node(
        proto.name, proto.op, tuple(map(normal, proto.input)), dict(proto.attr), proto.device,
        proto.experimental_debug_info if proto.HasField("experimental_debug_info") else None,
        proto.experimental_type if proto.HasField("experimental_type") else None)


def into_node_def(item: Node, proto: Any) -> None:
    proto.name, proto.op, proto.device = item.name, item.op, item.device
    proto.input.extend(item.inputs)
    for key, value in item.attrs.items():
        proto.attr[key].CopyFrom(value)
    if item.debug_info is not None:
        proto.experimental_debug_info.CopyFrom(item.debug_info)
    if item.full_type is not None:
        proto.experimental_type.CopyFrom(item.full_type)
