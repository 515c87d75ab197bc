"""Which tensors share an encoding, and which residual additions may be fused."""
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import process_time
from typing import Any

import numpy as np
import pytest
from graph_session import seeded, tf
from int8_simulation import Limits, Quantized, assert_as_simulated, assert_near_float, quantized

from export.graph import Graph, make_const, make_node
from export.precision.blocks import find
from export.precision.int8 import quantize, wanted_tensors
from export.precision.int8_plan import plan
from export.precision.layer import counted
from export.tensors import FLOAT

v1, raw = tf.compat.v1, tf.raw_ops
Build = Callable[[Any], Any]


def _conv(x: Any, size: int = 3, seed: int = 1, channels: int = 4, stride: int = 1) -> Any:
    weights = seeded((size, size, int(x.shape[-1]), channels), seed) / (2 * size)
    made = tf.nn.conv2d(x, tf.constant(weights.astype(np.float32)), stride, "SAME")
    return tf.nn.bias_add(made, tf.constant(seeded((channels,), seed + 9)))


def _images(make: Build, outputs: tuple[str, ...] = ("y",), shape: Any = (None, 8, 8, 4), batch: int = 2) -> Quantized:
    def made() -> None:
        x = v1.placeholder(tf.float32, shape, "x")
        tf.identity(make(tf.ensure_shape(x, (None, None, None, 4))), "y")
    return quantized(made, outputs, feeds={"x": seeded((batch, 8, 8, 4), 5)})


def _fused(it: Quantized) -> int:
    return sum("Sum" in item.get("fused_ops", []) for item in it.result.nodes.values())


def _trunk(x: Any) -> Any:
    return tf.nn.relu(_conv(x, seed=21), name="trunk")


def _branch(h: Any, seed: int = 30) -> Any:
    return _conv(tf.nn.relu(_conv(h, seed=seed)), seed=seed + 1)


def _plain(x: Any) -> Any:
    h = _trunk(x)
    return tf.nn.relu(_branch(h) + h)


def _pooled_too(x: Any) -> Any:
    """Something reads the trunk that has not run when the branch has."""
    h = _trunk(x)
    return tf.nn.relu(_branch(h) + h) + tf.nn.max_pool2d(h, 3, 1, "SAME")


def _reshaped_too(x: Any) -> Any:
    """The branch reads the trunk through a Reshape, whose memory something later reads."""
    h = _trunk(x)
    same = tf.reshape(h, [-1, 8, 8, 4])
    y = tf.nn.relu(_branch(same) + h)
    return y + tf.nn.max_pool2d(same, 3, 1, "SAME")


def _transposed(x: Any) -> Any:
    h = _trunk(x)
    part = tf.transpose(h, [0, 1, 2, 3])  # makes no new tensor
    return tf.nn.relu(_branch(part) + h) + tf.nn.max_pool2d(part, 3, 1, "SAME")


def _of_itself(x: Any) -> Any:
    h = _trunk(x)
    return tf.nn.relu(_conv(h, seed=40) + h)


def _padded_itself(x: Any) -> Any:
    h = _trunk(x)
    padded = raw.Pad(input=h, paddings=[[0, 0], [1, 1], [1, 1], [0, 0]])
    made = tf.nn.conv2d(padded, tf.constant(seeded((3, 3, 4, 4)) / 6), 1, "VALID")
    return tf.nn.relu(made + h)


def _of_a_reshape(x: Any) -> Any:
    h = tf.reshape(_trunk(x), [-1, 8, 8, 4])
    return tf.nn.relu(_branch(h) + h)


def _constant(x: Any) -> Any:
    return tf.nn.relu(_branch(_trunk(x)) + tf.constant(np.abs(seeded((1, 8, 8, 4)))))


def _one_row(x: Any) -> Any:
    """Added to every row of the batch: the kernel would read beyond its end."""
    h = _trunk(x)
    mean = tf.nn.relu(_conv(tf.reshape(tf.reduce_mean(h, 0), [1, 8, 8, 4]), seed=60))
    return tf.nn.relu(_branch(h) + mean)


def _twice(x: Any) -> Any:
    h = _branch(_trunk(x))
    return tf.nn.relu(h + h)


_ALL_IMAGES = (None, 8, 8, 4)
REFUSED: dict[str, tuple[Build, str]] = {
    "a pool beside": (_pooled_too, "may still read 'trunk'"),
    "a reshape beside": (_reshaped_too, "may still read 'trunk'"),
    "a transposition beside": (_transposed, "may still read 'trunk'"),
    "its own input": (_of_itself, "may still read 'trunk'"),
    "its own padded input": (_padded_itself, "may still read 'trunk'"),
    "a reshape": (_of_a_reshape, "may share the memory"),
    "one row": (_one_row, "the batch of"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_additions_that_stay(name: str) -> None:
    make, reason = REFUSED[name]
    it = _images(make)
    assert _fused(it) == 0
    assert any(reason in each and each.startswith("its addition 'add") for each in it.reasons().values()), it.reasons()
    assert all(layer.precision == "int8" for layer in it.layers)
    assert_as_simulated(it, 3.01, 0.1)


def test_additions_that_are_none() -> None:
    for make in (_constant, _twice):
        it = _images(make)
        assert _fused(it) == 0
        assert_as_simulated(it, 2.01, 0.1)


def test_an_output_is_not_written_over() -> None:
    assert _fused(_images(_plain)) == 1
    it = _images(_plain, ("y", "trunk"))
    assert _fused(it) == 0
    assert_as_simulated(it, 2.01, 0.05)


def test_unknown_sizes() -> None:
    it = _images(_plain, shape=(None, None, None, 4))
    assert _fused(it) == 0
    assert "are not known to be those of" in next(iter(it.reasons().values()))
    assert _fused(_images(_plain, shape=(2, 8, 8, 4))) == 1


def test_two_inputs_may_have_other_batches() -> None:
    def make() -> None:
        a, b = (v1.placeholder(tf.float32, _ALL_IMAGES, name) for name in "ab")
        tf.identity(tf.nn.relu(_conv(a) + tf.nn.relu(_conv(b, seed=3))), "y")
    it = quantized(make, feeds={"a": seeded((3, 8, 8, 4)), "b": seeded((1, 8, 8, 4))})
    assert _fused(it) == 0
    assert "the batch of" in " ".join(it.reasons().values())
    assert_near_float(it)


def test_negative_numbers_that_are_padded_are_added_in_float() -> None:
    def make(x: Any) -> Any:
        h = _conv(x, seed=21)
        for number in range(3):
            h = _conv(tf.nn.relu(_conv(h, 3, seed=30 + number)), seed=40 + number) + h
        return h
    it = _images(make)
    assert _fused(it) == 0
    assert "may be negative" in " ".join(it.reasons().values())
    assert_as_simulated(it, 3.01, 0.1)


def test_the_other_side_is_tried() -> None:
    """Both sides are convolutions: if the later one cannot add the earlier, the earlier may add the later."""
    def make(x: Any) -> Any:
        h = _trunk(x)
        first = _conv(h, 1, seed=3)
        second = _conv(h, 1, seed=4)
        return tf.nn.relu(first + second)
    assert _fused(_images(make)) == 1


def _session(it: Quantized, threads: int) -> Any:
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(it.graph_def, name="")
    return v1.Session(graph=graph, config=v1.ConfigProto(
        intra_op_parallelism_threads=2, inter_op_parallelism_threads=threads))


def test_summands_can_always_be_written_over() -> None:
    """Whichever of the nodes that may run at the same time runs first: many at once, in one Session."""
    def make(x: Any) -> Any:
        h = _trunk(x)
        for number in range(4):
            wide = tf.concat([_branch(h, 30 + number), _conv(h, 1, seed=70 + number)], 3)
            h = tf.nn.relu(_conv(wide, 1, seed=80 + number) + h)
            other = tf.nn.relu(_conv(h, seed=90 + number))
            h = tf.nn.relu(_branch(tf.nn.max_pool2d(h, 3, 1, "SAME"), 50 + number) + _conv(other, 1, seed=60 + number))
        return h
    it = _images(make)
    assert _fused(it) == 8
    inputs = [seeded((batch, 8, 8, 4), batch) for batch in (1, 2, 3, 4)]
    with _session(it, threads=4) as session, ThreadPoolExecutor(4) as pool:
        wanted = [session.run("y:0", {"x:0": x}) for x in inputs]
        def answer(number: int) -> Any:
            return session.run("y:0", {"x:0": inputs[number % 4]})
        for number, found in enumerate(pool.map(answer, range(80))):
            np.testing.assert_array_equal(found, wanted[number % 4])


def _synthetic(count: int) -> tuple[Graph, dict[str, Limits]]:
    """A chain of residual blocks without Relu, as in MobileNetV2."""
    nodes = [make_node("x", "Placeholder", dtype=FLOAT, shape=(-1, 4, 4, 4)),
             make_const("w", seeded((1, 1, 4, 4))), make_const("w3", seeded((3, 3, 4, 4)))]
    conv = {"T": FLOAT, "strides": [1, 1, 1, 1], "padding": "SAME"}
    nodes += [make_node("first", "Conv2D", ("x", "w"), **conv), make_node("rf", "Relu", ("first",), T=FLOAT)]
    current = "rf"
    for number in range(count):
        nodes += [make_node(f"a{number}", "Conv2D", (current, "w"), **conv),
                  make_node(f"r{number}", "Relu", (f"a{number}",), T=FLOAT),
                  make_node(f"b{number}", "Conv2D", (f"r{number}", "w3"), **conv),
                  make_node(f"s{number}", "AddV2", (f"b{number}", current), T=FLOAT)]
        current = f"s{number}"
    graph = Graph({item.name: item for item in nodes}, ("x",), (current,))
    return graph, {ref: Limits(0 if ref[0] == "r" else -1, 1) for ref in wanted_tensors(graph)}


def test_the_cost_is_linear() -> None:
    """Four times the nodes take four times as long, not sixteen: also where no addition can be fused."""
    def seconds(count: int) -> float:
        best = np.inf
        for _ in range(3):
            graph, ranges = _synthetic(count)
            ranges["rf"] = Limits(-1, 1)
            begin = process_time()
            quantize(graph, ranges)
            best = min(best, process_time() - begin)
        return best
    seconds(20)
    assert seconds(400) < 9 * seconds(100)


def test_a_convolution_of_one_pixel_between_float_nodes_stays() -> None:
    """Squeeze and excitation: the conversions would cost more than such a convolution."""
    def squeezed(x: Any) -> Any:
        h = _trunk(x)
        mean = tf.reduce_mean(h, [1, 2], keepdims=True)
        return _conv(h * tf.sigmoid(_conv(tf.nn.silu(_conv(mean, 1, 3, 2)), 1, 4)), 3, 7)
    it = _images(squeezed)
    assert counted(it.layers) == {"int8": 2, "float32": 2}
    assert set(it.reasons().values()) == {"it computes too little to pay for the conversions before and after it"}
    alone = _images(lambda x: _conv(tf.nn.relu(_conv(tf.reduce_mean(x, [1, 2], keepdims=True), 1, 3, 8)), 1, 4, 8))
    assert counted(alone.layers) == {"int8": 2}  # eight bits between them
    assert_as_simulated(it, 2.01, 0.1)


def test_sums_beside_squeeze_and_excitation_are_fused() -> None:
    def make(x: Any) -> Any:
        h = _conv(x, 1, 3)
        branch = _conv(h, 1, 4)
        branch *= tf.sigmoid(branch)
        branch *= tf.sigmoid(tf.reshape(tf.reduce_mean(branch, [1, 2]), [-1, 1, 1, 4]))
        return _conv(_conv(branch, 1, 5) + h, 1, 6)
    it = _images(make)
    assert _fused(it) == 1
    assert_as_simulated(it, 2.01, 0.1)


def test_a_chain_of_sums() -> None:
    graph, ranges = _synthetic(30)
    made = plan(graph, find(graph)[0], ranges)
    assert sum(bool(block.summand) for block in made.blocks.values()) == 30
    assert not made.apart
    # If what a Relu has cut off needed an offset, it could not be added; what is then made in float32 still can.
    made = plan(graph, find(graph)[0], {**ranges, "rf": Limits(-1, 1)})
    assert sum(bool(block.summand) for block in made.blocks.values()) == 29
    assert list(made.apart) == ["b0"]
