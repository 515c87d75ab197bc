"""Random graphs with features of real graphs that simple tests do not have: v1 loops and conditionals, functions,
control inputs, second outputs, shared and fed constants, NaN, other float types, colocation, names like 'x:0'.
"""
from typing import Any

import numpy as np
from graph_session import seeded, tf, v1_control_flow
from graph_strategies import SHAPE, Drawn, drawn_layer
from hypothesis import strategies as st

ODD_LAYERS = ("loop", "conditional", "call", "while", "double", "half", "bfloat16", "nan", "shared", "halves", "atrous",
              "mirror", "pad", "resize", "default", "grouped", "dilated", "array", "gather", "unread", "conv", "bias",
              "mul", "relu", "control", "normalise", "concat", "identity")


@st.composite
def odd_graphs(draw: st.DrawFn, max_layers: int = 5, layers: tuple[str, ...] = ODD_LAYERS) -> Drawn:
    """Graphs of image layers. Outputs are y and intermediate tensors, some of them second outputs or 'name:0'."""
    chosen = draw(st.lists(st.sampled_from(layers), min_size=1, max_size=max_layers))
    seed = draw(st.integers(0, 2**16))
    batch = draw(st.sampled_from([None, 1]))
    graph = tf.Graph()
    with graph.as_default(), v1_control_flow():
        current = tf.compat.v1.placeholder(tf.float32, (batch, *SHAPE), "x")
        made, fetchable = [current], []
        for number, layer in enumerate(chosen):
            current = _layer(layer, current, made, f"n{number}", seed + number, fetchable)
            made.append(current)
        tf.identity(current, "y")
    fetchable += [tensor.name for tensor in made[1:]] + [tensor.op.name for tensor in made[1:]]
    outputs = ["y", *draw(st.lists(st.sampled_from(fetchable), max_size=2, unique=True))]
    graph_def = graph.as_graph_def()
    if draw(st.booleans()):
        for at, node in enumerate(graph_def.node):
            if at and node.op not in ("Const", "VarHandleOp") and "_class" not in node.attr and at % 3 == 0:
                node.attr["_class"].list.s.append(b"loc:@" + graph_def.node[at - 1].name.encode())
    return Drawn(graph_def, outputs, chosen)


def odd_feeds(batch: int = 1) -> dict[str, Any]:
    return {"x": seeded((batch, *SHAPE), seed=batch)}


def _layer(layer: str, current: Any, made: list[Any], name: str, seed: int, fetchable: list[str]) -> Any:
    v1, raw, channels = tf.compat.v1, tf.raw_ops, SHAPE[2]
    if layer == "loop":
        weights = tf.constant(seeded((channels,), seed))
        return v1.while_loop(lambda i, _: i < 2, lambda i, value: (i + 1, tf.nn.relu(value * weights + 0.5)),
                             [0, current], name=name)[1]
    if layer == "conditional":
        return v1.cond(tf.reduce_sum(current) > 0,
                       lambda: tf.nn.bias_add(current, tf.constant(seeded((channels,), seed))),
                       lambda: current * 2.0, name=name)
    if layer in ("call", "while"):
        return _function(layer, current, seed, name)
    if layer in ("double", "half", "bfloat16"):
        dtype = {"double": tf.float64, "half": tf.float16, "bfloat16": tf.bfloat16}[layer]
        weights = tf.constant(seeded((1, 1, channels, channels), seed), dtype)
        wide = tf.nn.conv2d(tf.cast(current, dtype), weights, 1, "SAME")
        return tf.cast(wide * tf.constant(seeded((channels,), seed), dtype), tf.float32, name=name)
    if layer == "nan":
        weights = seeded((1, 1, channels, channels), seed)
        weights[0, 0, 0, 0] = (np.nan, np.inf, -np.inf)[seed % 3]
        convolved = tf.nn.conv2d(current, tf.constant(weights), 1, "SAME")
        return convolved * tf.constant(seeded((channels,), seed), name=name)
    if layer == "shared":
        weights = tf.constant(seeded((3, 3, channels, channels), seed), name=f"{name}/W")
        first = tf.nn.conv2d(current, weights, 1, "SAME") * tf.constant(seeded((channels,), seed))
        return tf.add(first, tf.nn.conv2d(tf.nn.relu(current), weights, 1, "SAME"), name=name)
    if layer == "halves":
        first, second = tf.split(current, 2, 3, name=f"{name}/parts")
        fetchable.append(f"{name}/parts:1")
        return tf.concat([second, first], -1, name=name)
    if layer in ("atrous", "dilated"):
        weights = tf.constant(seeded((3, 3, channels, channels), seed))
        if layer == "dilated":
            return tf.nn.conv2d(current, weights, 1, "SAME", dilations=2, name=name)
        split = raw.SpaceToBatchND(input=current, block_shape=[2, 2], paddings=[[2, 2], [2, 2]])
        return raw.BatchToSpaceND(input=tf.nn.conv2d(split, weights, 1, "VALID"), block_shape=[2, 2],
                                  crops=[[0, 0], [0, 0]], name=name)
    if layer in ("mirror", "pad", "resize", "grouped"):
        return _image(layer, current, seed, name)
    if layer == "default":
        scale = v1.placeholder_with_default(seeded((channels,), seed), (None,), f"{name}/scale")
        return tf.multiply(current, scale, name=name)
    if layer == "array":
        array = tf.TensorArray(tf.float32, 2).write(0, current).write(1, tf.nn.relu(current))
        return tf.add(array.read(0), array.read(1), name=name)
    if layer == "gather":
        table = tf.constant(np.where(seeded((9, 1), seed) > 0, seeded((9, 1), seed), 0).astype(np.float32))
        row = tf.cast(tf.abs(current[0, 0, 0, :]), tf.int32) % 9
        return tf.multiply(current, tf.reshape(tf.gather(tf.identity(table), row), [channels]), name=name)
    if layer == "unread":
        tf.nn.relu(current, f"{name}/unread")
        v1.placeholder(tf.float32, (), f"{name}/unfed")
        return tf.identity(current, name)
    return drawn_layer(layer, current, made, name, seed)


def _image(layer: str, current: Any, seed: int, name: str) -> Any:
    raw, channels = tf.raw_ops, SHAPE[2]
    weights = tf.constant(seeded((3, 3, channels, channels), seed))
    around = [[0, 0], [1, 1], [1, 1], [0, 0]]
    if layer == "mirror":
        padded = raw.MirrorPad(input=current, paddings=around, mode=("REFLECT", "SYMMETRIC")[seed % 2])
        return tf.nn.conv2d(padded, weights, 1, "VALID", name=name)
    if layer == "pad":
        return tf.nn.conv2d(raw.Pad(input=current, paddings=around), weights, 1, "VALID", name=name)
    if layer == "resize":
        resized = raw.ResizeBilinear(images=current, size=[8, 8], half_pixel_centers=bool(seed % 2))
        return tf.nn.conv2d(resized, weights, 1, "SAME", name=name)
    return tf.nn.conv2d(current, tf.constant(seeded((3, 3, channels // 2, channels), seed)), 1, "SAME", name=name)


def _function(layer: str, current: Any, seed: int, name: str) -> Any:
    channels = SHAPE[2]
    spec = [tf.TensorSpec((None, *SHAPE), tf.float32)]
    if layer == "while":
        tf.compat.v1.enable_control_flow_v2()

    @tf.function(input_signature=spec)
    def body(value: Any) -> Any:
        weights = tf.constant(seeded((1, 1, channels, channels), seed))
        value = tf.nn.conv2d(value, weights, 1, "SAME") * tf.constant(seeded((channels,), seed))
        if layer == "while":
            return tf.while_loop(lambda i, _: i < 2, lambda i, v: (i + 1, tf.nn.relu(v) * 0.5 + 0.25), [0, value])[1]
        return value

    result = tf.identity(body(current), name)
    tf.compat.v1.disable_control_flow_v2()
    return result
