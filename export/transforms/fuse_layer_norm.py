import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from export.graph import Graph, Node, make_const, make_node, producer
from export.ops import attribute
from export.pattern import Skip
from export.shapes import constant
from export.tensors import FLOAT, Array
from export.transform import Arguments, Draft, Record, transform

# A value as a sum of products: {("inverse", "x"): gamma, ("inverse", "mean"): -gamma, (): beta}
_Sum = Mapping[tuple[str, ...], Array]
_DEEPEST = 8


@transform("fuse_layer_norm")
def fuse_layer_norm(graph: Graph, args: Arguments, record: Record) -> Graph:  # decision 162
    """(x - mean(x)) / sqrt(variance(x) + epsilon) * gamma + beta -> _MklLayerNorm(x, gamma, beta)

    In whatever order the multiplications and additions are written: Keras 3's Rsqrt, Mul, Neg and AddV2, that of
    tf.nn.batch_normalization, or the textbook's. One kernel then reads x once, also in bfloat16.

    Safe when: x is float32 with rank 2 or 3 and a known last axis, over which mean and variance are taken; gamma and
      beta are constants, one number per element of that axis; the intermediate values are not requested.
      The result needs a TensorFlow built with oneDNN, as all builds for x86 are.
    Source: not in the Graph Transform Tool.
    """
    draft = Draft(graph)
    for item in graph.order():
        if item.op not in ("Rsqrt", "Sqrt") or item.name not in draft.nodes:
            continue
        try:
            norm = _statistics(graph, item)
            if norm is None:
                continue
            root, gamma, beta = _root(graph, norm)
            _replace(draft, norm, root, gamma, beta)
        except Skip as skip:
            record.skip(item.name, skip.reason)
            continue
        record.applied += 1
    return draft.result()


@dataclass(frozen=True)
class _Statistics:
    """The tensors that a layer norm is made of, and the size of its last axis."""

    x: str
    mean: str
    deviation: Node
    epsilon: float
    size: int
    rank: int


def _statistics(graph: Graph, deviation: Node) -> _Statistics | None:
    """Of Rsqrt(Mean(SquaredDifference(x, Mean(x))) + epsilon), or Sqrt; None if it is something else."""
    added = graph.nodes[producer(deviation.data[0])]
    if added.op not in ("Add", "AddV2"):
        return None
    sides = [graph.nodes[producer(ref)] for ref in added.data]
    epsilon = next((side for side in sides if side.op == "Const" and math.prod(side.shape) == 1
                    and side.name not in graph.fed), None)
    variance = next((side for side in sides if side.op == "Mean"), None)
    if epsilon is None or variance is None:
        return None
    squared = graph.nodes[producer(variance.data[0])]
    mean = next((ref for ref in squared.data if graph.nodes[producer(ref)].op == "Mean"), None)
    if squared.op != "SquaredDifference" or mean is None:
        return None
    x = next((ref for ref in squared.data if ref != mean), mean)
    if graph.nodes[producer(mean)].data[0] != x:
        return None
    shape = graph.shapes.get(x)
    if deviation.get("T") != FLOAT:
        raise Skip("its type is not float32")
    if shape is None or len(shape) not in (2, 3) or not shape[-1]:
        raise Skip("the input's rank is not 2 or 3, or its last size is unknown")
    for one in (graph.nodes[producer(mean)], variance):
        axes = constant(one, 1, graph.nodes)
        if axes not in ([-1], [len(shape) - 1]) or not attribute(one, "keep_dims"):
            raise Skip("the mean is not over the last axis")
    inner = {producer(mean), variance.name, squared.name, added.name, deviation.name}
    asked = next((name for name in inner if name in graph.kept), None)
    if asked:
        raise Skip(f"'{asked}' is itself a requested input or output")
    if len(epsilon.shape) > len(shape):
        raise Skip("its epsilon has more axes than its input")
    return _Statistics(x, mean, deviation, float(epsilon.value.item()), shape[-1], len(shape))


def _root(graph: Graph, norm: _Statistics) -> tuple[Node, Array, Array]:
    """The last node whose value is a whole layer norm, gamma and beta."""
    found: tuple[Node, Array, Array] | None = None
    todo, seen = [norm.deviation.name], set()
    while todo:
        for name in graph.consumers.get(todo.pop(), ()):
            if name in seen:
                continue
            seen.add(name)
            value = _value(graph, norm, name, 0)
            if value is not None and len(seen) < 32:
                todo.append(name)
                whole = _normed(value, norm.size)
                if whole is not None:
                    found = (graph.nodes[name], *whole)
    if found is None:
        raise Skip("what is made of mean and variance is no layer norm with constant gamma and beta")
    if found[0].controls:
        raise Skip("it waits for another node")
    return found


def _normed(value: _Sum, size: int) -> tuple[Array, Array] | None:
    """Gamma and beta of a value that is a layer norm."""
    gamma = value.get(("inverse", "x"))
    opposite = value.get(("inverse", "mean"))
    if gamma is None or opposite is None or set(value) - {("inverse", "x"), ("inverse", "mean"), ()}:
        return None
    if not np.array_equal(np.broadcast_to(gamma, size), np.broadcast_to(-opposite, size)):
        return None
    return np.broadcast_to(gamma, size), np.broadcast_to(value.get((), np.zeros(1)), size)


def _value(graph: Graph, norm: _Statistics, ref: str, depth: int) -> _Sum | None:
    """A tensor as a sum of products of x, its mean, the inverse deviation and constants; None if it is not."""
    item = graph.nodes[producer(ref)]
    one = np.ones(1)
    if ref == norm.x:
        return {("x",): one}
    if ref == norm.mean:
        return {("mean",): one}
    if item.name in graph.fed:
        return None  # it is whatever a request says
    if item is norm.deviation:
        return {("inverse",) if item.op == "Rsqrt" else ("deviation",): one}
    if item.op == "Const":
        leading = math.prod(item.shape[:-1])
        flat = item.get("dtype") == FLOAT and leading == 1 and (not item.shape or item.shape[-1] in (1, norm.size))
        return {(): np.array(item.value, np.float64).ravel()} if flat and len(item.shape) <= norm.rank else None
    if depth > _DEEPEST or item.op not in ("Add", "AddV2", "Sub", "Mul", "RealDiv", "Neg", "BiasAdd"):
        return None
    parts = [_value(graph, norm, other, depth + 1) for other in item.data]
    left = parts[0]
    if left is None or parts[-1] is None:
        return None
    if item.op == "Neg":
        return {key: -factor for key, factor in left.items()}
    right = parts[1]
    assert right is not None
    if item.op in ("Mul", "RealDiv"):
        return _multiplied(left, right, item.op == "RealDiv")
    sign = -1 if item.op == "Sub" else 1
    return {key: left.get(key, np.zeros(1)) + sign * right.get(key, np.zeros(1)) for key in (*left, *right)}


def _multiplied(left: _Sum, right: _Sum, divided: bool) -> _Sum | None:
    if divided and set(right) != {("deviation",)}:
        return None
    result: dict[tuple[str, ...], Array] = {}
    for first, a in left.items():
        for second, b in right.items():
            key = tuple(sorted((*first, *(("inverse",) if divided else second))))
            if "deviation" in key:
                return None
            result[key] = result.get(key, np.zeros(1)) + (a / b if divided else a * b)
    return result


def _replace(draft: Draft, norm: _Statistics, root: Node, gamma: Array, beta: Array) -> None:
    numbers = []
    for name, value in (("gamma", gamma), ("beta", beta)):
        made = make_const(draft.unused_name(f"{root.name}/{name}"), value.astype(np.float32), (), root.device)
        draft.put(made)
        numbers.append(made.name)
    inputs = list(map(producer, root.data))
    draft.put(make_node(root.name, "_MklLayerNorm", (norm.x, *numbers), root.device, T=FLOAT, epsilon=norm.epsilon))
    draft.drop_unused(inputs)
