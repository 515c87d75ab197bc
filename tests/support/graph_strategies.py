"""Random small graphs on images [?, 8, 8, 4]: convolutions, norms, branches and dense layers."""
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from graph_session import seeded
from hypothesis import strategies as st

from export.runtime import tf

SHAPE = (8, 8, 4)
LAYERS = ("conv", "depthwise", "bias", "mul", "relu", "relu6", "pool", "average", "identity", "add", "concat", "split",
           "control", "normalise")


@dataclass
class Drawn:
    """A graph with input x, the names of its outputs, and the layers that it was made of."""

    graph_def: Any = field(repr=False)
    outputs: list[str]
    layers: list[str] = field(default_factory=list)

    def feeds(self, batch: int = 2) -> dict[str, Any]:
        return {"x": seeded((batch, *SHAPE), seed=batch)}


@st.composite
def drawn_graphs(draw: st.DrawFn, max_layers: int = 6, layers: tuple[str, ...] = LAYERS) -> Drawn:
    """Graphs with the last tensor, and sometimes an earlier one, as outputs; some end in a dense layer."""
    chosen = draw(st.lists(st.sampled_from(layers), min_size=1, max_size=max_layers))
    seed = draw(st.integers(0, 2**16))
    ends_dense = draw(st.booleans())
    graph = tf.Graph()
    with graph.as_default():
        current = tf.compat.v1.placeholder(tf.float32, (None, *SHAPE), "x")
        made = [current]
        for number, layer in enumerate(chosen):
            current = drawn_layer(layer, current, made, f"n{number}", seed + number)
            made.append(current)
        if ends_dense:
            flat = tf.reshape(current, [-1, SHAPE[0] * SHAPE[1] * SHAPE[2]], name="flat")
            current = tf.matmul(flat, tf.constant(seeded((256, 5), seed)), name="dense")
        current = tf.identity(current, "y")
    outputs = ["y"]
    if draw(st.booleans()):
        outputs.append(draw(st.sampled_from([tensor.op.name for tensor in made[1:]])))
    return Drawn(graph.as_graph_def(), outputs, chosen)


def seeded_graph(seed: int, most: int = 12) -> Any:
    """The GraphDef of a graph of at most this many of the same layers, from x to y, determined by its seed alone."""
    random = np.random.default_rng([seed, 12])
    graph = tf.Graph()
    with graph.as_default():
        current = tf.compat.v1.placeholder(tf.float32, (None, *SHAPE), "x")
        made = [current]
        for number in range(int(random.integers(2, most + 1))):
            layer, one = str(random.choice(LAYERS)), int(random.integers(1 << 16))
            current = drawn_layer(layer, current, made, f"n{number}", one)
            made.append(current)
        if random.random() < 0.5:
            flat = tf.reshape(current, [-1, SHAPE[0] * SHAPE[1] * SHAPE[2]], name="flat")
            current = tf.matmul(flat, tf.constant(seeded((256, 5), seed)), name="dense")
        tf.identity(current, "y")
    return graph.as_graph_def()


def drawn_layer(layer: str, current: Any, made: list[Any], name: str, seed: int) -> Any:
    """Adds a layer after `current`, without changing the shape."""
    v1, channels = tf.compat.v1, SHAPE[2]
    earlier = made[seed % len(made)]
    if layer == "conv":
        size = 1 + seed % 3
        return tf.nn.conv2d(current, tf.constant(seeded((size, size, channels, channels), seed), name=f"{name}/W"),
                            1, "SAME", name=name)
    if layer == "depthwise":
        return tf.nn.depthwise_conv2d(current, tf.constant(seeded((3, 3, channels, 1), seed), name=f"{name}/W"),
                                      [1] * 4, "SAME", name=name)
    if layer == "bias":
        return tf.nn.bias_add(current, tf.constant(seeded((channels,), seed)), name=name)
    if layer == "mul":
        return tf.multiply(current, tf.constant(seeded((channels,), seed)), name=name)
    if layer == "pool":
        return tf.nn.max_pool2d(current, 3, 1, "SAME", name=name)
    if layer == "average":
        return tf.nn.avg_pool2d(current, 2, 1, "SAME", name=name)
    if layer == "add":
        return tf.raw_ops.Add(x=current, y=earlier, name=name)
    if layer == "concat":
        both = tf.concat([current, earlier], 3, name=f"{name}/both")
        return tf.nn.conv2d(both, tf.constant(seeded((1, 1, 2 * channels, channels), seed)), 1, "VALID", name=name)
    if layer == "split":
        first, second = tf.split(current, 2, 3, name=f"{name}/halves")
        return tf.concat([second, first], 3, name=name)
    if layer == "control":
        with tf.control_dependencies([earlier.op]):
            return tf.identity(current, name)
    if layer == "normalise":
        variance = np.abs(seeded((channels,), seed + 1)) + 0.5
        return v1.nn.fused_batch_norm(current, seeded((channels,), seed), seeded((channels,), seed + 2),
                                      seeded((channels,), seed + 3), variance, is_training=False, name=name)[0]
    return getattr(tf.nn, layer, tf.identity)(current, name=name)
