"""Shapes of tensors as far as they are known before the graph runs, without copying weights.

A shape is a tuple of sizes, with None for unknown ones; if not even the rank is known, it is None instead of a tuple.
Common ops have a rule here, which takes a microsecond. For any other op TensorFlow's shape function is called, in a
graph of that one node (importing the whole graph instead takes half a millisecond per node).
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from export.node import Node, into_node_def, port, producer, tensor_name
from export.ops import CONTROL_FLOW, attribute, input_dtypes, op_def, output_dtypes
from export.tensors import RESOURCE, VARIANT
from export.vectors import Vectors

Shape = tuple[int | None, ...] | None
Shapes = dict[str, Shape]
Nodes = Mapping[str, Node]

# Since this producer version an empty shape means a scalar; before, it meant an unknown shape.
_SCALARS_HAVE_SHAPES = 24
# Shape functions read small constants (paddings, axes, sizes), never weights.
_MAX_ELEMENTS = 1024
SAME_AS_FIRST = frozenset({
    "Relu", "Relu6", "Elu", "Selu", "LeakyRelu", "Sigmoid", "Tanh", "Softmax", "LogSoftmax", "Softplus", "Identity",
    "BiasAdd", "BiasAddV1", "Cast", "Neg", "Exp", "Log", "Sqrt", "Rsqrt", "Square", "Abs", "StopGradient", "Snapshot",
    "CheckNumerics", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "BatchNormWithGlobalNormalization",
    "PreventGradient", "LRN", "Erf", "Sign"})
_BROADCAST = frozenset({
    "Add", "AddV2", "Sub", "Mul", "Div", "RealDiv", "Maximum", "Minimum", "SquaredDifference", "Pow", "DivNoNan"})


def shapes_may_be_unknown(versions: Any) -> bool:
    """Whether an empty shape in a graph of these versions (a VersionDef, or None) means an unknown shape."""
    return versions is not None and versions.producer < _SCALARS_HAVE_SHAPES


def static_shapes(order: Iterable[Node], nodes: Nodes, versions: Any = None) -> Shapes:
    """Shapes by tensor name ("node:1" for the second output). No entry, or None: nothing is known.

    `order`: the nodes of a graph, each after those that it reads; `nodes`: the same by name; `versions`: the graph's
    VersionDef.
    """
    shapes: Shapes = {}
    asked: dict[Any, list[Shape]] = {}
    for item in order:
        data = [shapes.get(ref) for ref in item.data]
        if item.op == "Const":
            shapes[item.name] = item.shape
        elif item.op in ("Placeholder", "PlaceholderWithDefault"):
            shape = item.get("shape")
            unknown = shape is None or (not shape and item.op == "Placeholder" and shapes_may_be_unknown(versions))
            shapes[item.name] = None if unknown else tuple(size if size >= 0 else None for size in shape)
        elif item.op in SAME_AS_FIRST and data:
            shapes[item.name] = data[0]
        elif item.op in _BROADCAST and len(data) == 2:
            shapes[item.name] = broadcast(data[0], data[1])
        elif item.op == "Reshape":
            shapes[item.name] = _reshape(item, data, nodes, shapes)
        elif item.op in _RULES:
            shapes[item.name] = _RULES[item.op](item, data, nodes)
        elif item.op not in CONTROL_FLOW and op_def(item.op) is not None:
            for number, shape in enumerate(_ask_tensorflow(item, data, nodes, asked)):
                shapes[tensor_name(item.name, number)] = shape
    return shapes


def broadcast(a: Shape, b: Shape) -> Shape:
    if a is None or b is None:
        return None
    rank = max(len(a), len(b))
    result: list[int | None] = []
    for left, right in zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True):
        if left == 1 or right == 1:
            result.append(right if left == 1 else left)
        else:
            result.append(right if left is None else left)
    return tuple(result)


def constant(item: Node, index: int, nodes: Nodes) -> list[int] | None:
    """The integers of a constant data input, as a flat list; None if it is not constant."""
    source = nodes[producer(item.data[index])]
    if source.op != "Const" or port(item.data[index]):
        return None
    return [int(value) for value in source.value.ravel()]


def channel_axis(item: Node, rank: int) -> int:
    """The axis of the channels of an op with a data_format."""
    return 1 if str(attribute(item, "data_format") or "").startswith("NC") else rank - 1


def _spatial(item: Node, rank: int, channels: int | None, batch: int | None) -> Shape:
    shape: list[int | None] = [None] * rank
    shape[0], shape[channel_axis(item, rank)] = batch, channels
    return tuple(shape)


def _window(item: Node, rank: int, channels: int | None, x: Shape, window: Shape) -> Shape:
    """The output shape of a convolution or pooling over `x` with a window of these spatial sizes."""
    if x is None or len(x) != rank:
        return _spatial(item, rank, channels, None)
    at = channel_axis(item, rank)
    shape: list[int | None] = [x[0]]
    padding, explicit = attribute(item, "padding"), attribute(item, "explicit_paddings") or [0] * 2 * rank
    sizes = iter(window or (None,) * (rank - 2))
    for axis in range(1, rank):
        shape.append(channels)
        if axis != at:
            size, taps, stride = x[axis], next(sizes), attribute(item, "strides")[axis]
            dilation = (attribute(item, "dilations") or [1] * rank)[axis]
            if size is not None and padding == "SAME":
                shape[-1] = -(-size // stride)
            elif size is not None and taps is not None:
                size += sum(explicit[2 * axis:2 * axis + 2]) if padding == "EXPLICIT" else 0
                shape[-1] = -(-(size - (taps - 1) * dilation) // stride)
            else:
                shape[-1] = None
    return tuple(shape)


def _conv(item: Node, data: list[Shape], nodes: Nodes) -> Shape:
    x, filters = data[0], data[1]
    rank = 5 if item.op == "Conv3D" else 4
    channels = filters[-1] if filters and len(filters) == rank else None
    if item.op == "DepthwiseConv2dNative" and filters and len(filters) == 4:
        channels = filters[2] * filters[3] if filters[2] and filters[3] else None
    return _window(item, rank, channels, x, filters[:-2] if filters and len(filters) == rank else None)


def _transposed_conv(item: Node, data: list[Shape], nodes: Nodes) -> Shape:
    filters, x = data[1], data[2]
    return _spatial(item, 4, filters[2] if filters and len(filters) == 4 else None, x[0] if x else None)


def _matmul(item: Node, data: list[Shape], nodes: Nodes) -> Shape:
    a, b = data
    rows = a[1 if item.get("transpose_a") else 0] if a and len(a) == 2 else None
    columns = b[0 if item.get("transpose_b") else 1] if b and len(b) == 2 else None
    return rows, columns


def _pool(item: Node, data: list[Shape], nodes: Nodes) -> Shape:
    x = data[0]
    rank = 5 if item.op.endswith("3D") else 4
    axis = channel_axis(item, rank)
    whole = attribute(item, "ksize")[axis] == 1 and attribute(item, "strides")[axis] == 1
    window = tuple(size for at, size in enumerate(attribute(item, "ksize")) if at not in (0, axis))
    return _window(item, rank, x[axis] if x and len(x) == rank and whole else None, x, window)


def _pad(item: Node, data: list[Shape], nodes: Nodes) -> Shape:
    paddings, x = constant(item, 1, nodes), data[0]
    if paddings is None or x is None or len(paddings) != 2 * len(x):
        return None
    return tuple(None if size is None else size + sum(paddings[2 * at:2 * at + 2]) for at, size in enumerate(x))


def _concat(item: Node, data: list[Shape], nodes: Nodes) -> Shape:
    axis, parts = constant(item, len(data) - 1, nodes), data[:-1]
    known = [part for part in parts if part]
    if axis is None or not known:
        return None
    at = axis[0] % len(known[0])
    sizes = [part[at] for part in known]
    total = sum(size for size in sizes if size is not None) if None not in sizes and len(known) == len(parts) else None
    rest = [next((part[i] for part in known if part[i] is not None), None) for i in range(len(known[0]))]
    return (*rest[:at], total, *rest[at + 1:])


def _list_stack(item: Node, data: list[Shape], nodes: Nodes) -> Shape:
    # The op refuses a list of another length, and elements of other shapes.
    element, count = constant(item, 1, nodes), attribute(item, "num_elements")
    if element is None or element == [-1]:
        return None
    return (count if count >= 0 else None, *(size if size >= 0 else None for size in element))


def _reshape(item: Node, data: list[Shape], nodes: Nodes, shapes: Shapes) -> Shape:
    wanted = Vectors(nodes, shapes).of(item.data[1])
    if wanted is None:
        rank = data[1][0] if data[1] and len(data[1]) == 1 else None
        return None if rank is None else (None,) * rank
    return tuple(size if size is not None and size >= 0 else None for size in wanted)


def _transpose(item: Node, data: list[Shape], nodes: Nodes) -> Shape:
    order, x = constant(item, 1, nodes), data[0]
    return None if order is None or x is None else tuple(x[axis] for axis in order)


def _reduce(item: Node, data: list[Shape], nodes: Nodes) -> Shape:
    axes, x = constant(item, 1, nodes), data[0]
    if axes is None or x is None:
        return None
    gone = {axis % len(x) for axis in axes}
    if item.get("keep_dims"):
        return tuple(1 if axis in gone else size for axis, size in enumerate(x))
    return tuple(size for axis, size in enumerate(x) if axis not in gone)


_RULES: dict[str, Callable[[Node, list[Shape], Nodes], Shape]] = {
    **dict.fromkeys(("Conv2D", "Conv3D", "DepthwiseConv2dNative"), _conv),
    "Conv2DBackpropInput": _transposed_conv,
    "MatMul": _matmul,
    "TensorListStack": _list_stack,
    **dict.fromkeys(("MaxPool", "AvgPool", "MaxPool3D", "AvgPool3D"), _pool),
    **dict.fromkeys(("Pad", "PadV2", "MirrorPad"), _pad),
    "ConcatV2": _concat,
    "Transpose": _transpose,
    **dict.fromkeys(("Mean", "Max", "Min", "Sum"), _reduce),
}


def _ask_tensorflow(item: Node, data: list[Shape], nodes: Nodes, asked: dict[Any, list[Shape]]) -> list[Shape]:
    """The shapes of a node's outputs by TensorFlow's shape function; results are cached in `asked`."""
    dtypes = input_dtypes(item)
    outputs = output_dtypes(item)
    if any(dtype in (RESOURCE, VARIANT) for dtype in (*(dtypes or ()), *(outputs or ()))) or not outputs \
            or len(dtypes or ()) != len(data):
        return []
    sources = [nodes[producer(ref)] for ref in item.data]
    values = [source.attrs["value"].tensor if source.op == "Const" and shape is not None and _elements(shape) <=
              _MAX_ELEMENTS else None for source, shape in zip(sources, data, strict=True)]
    attrs = {key: value for key, value in item.attrs.items() if key[0] != "_"}
    if any(value.WhichOneof("value") == "func" for value in attrs.values()):
        return []
    key = (item.op, tuple(sorted((name, value.SerializeToString()) for name, value in attrs.items())), tuple(data),
           tuple(value.SerializeToString() if value is not None else b"" for value in values))
    if key not in asked:
        asked[key] = _shapes_of_one(item, attrs, list(zip(data, dtypes or (), values, strict=True)))
    return asked[key]


def _elements(shape: tuple[int | None, ...]) -> int:
    total = 1
    for size in shape:
        total *= size or 0
    return total


def _shapes_of_one(item: Node, attrs: Mapping[str, Any], data: list[tuple[Shape, int, Any]]) -> list[Shape]:
    from tensorflow.core.framework.graph_pb2 import GraphDef

    from export.runtime import tf
    with tf.Graph().as_default() as alone:
        inputs = [tf.compat.v1.placeholder(dtype, shape) if value is None else tf.constant(tf.make_ndarray(value))
                  for shape, dtype, value in data]
        graph_def = GraphDef()
        names = tuple(f"input_{index}" for index in range(len(inputs)))
        into_node_def(Node("node", item.op, names, attrs), graph_def.node.add())
        try:
            tf.import_graph_def(graph_def, dict(zip(names, inputs, strict=True)), name="")
        except (ValueError, tf.errors.OpError):
            return []  # the op does not accept these shapes: it would fail when it runs
        outputs = alone.get_operation_by_name("node").outputs
        return [None if output.shape.rank is None else tuple(output.shape.as_list()) for output in outputs]
