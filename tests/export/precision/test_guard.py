"""Guarded graphs: what would end the process is answered as the float32 graph answers it, or refused."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graph_session import build, runtime_graph, seeded, session_run, v1_control_flow
from int8_graphs import Int8Graph, Quantized, written
from numpy.typing import NDArray

from export.graph import Graph
from export.graph_file import as_graph_def, whole
from export.loaded import DiedError, LoadedModel, RunError
from export.precision.guard import guarded
from export.precision.int8 import quantize, wanted_tensors
from export.precision.ranges import Range
from export.precision.towers import two_towers
from export.runtime import tf
from export.tensors import BFLOAT16, FLOAT, QINT8, QUINT8

IMAGE = (None, 8, 8, 4)
UNKNOWN = (None, None, None, 4)
SQUARE = (3, 3, 4, 4)
PADS = (1, 2, 0, 3)


def image(*shape: int) -> NDArray[Any]:
    return np.abs(seeded(shape, 1))


def residual(shape: Sequence[int | None] | None = IMAGE, other: Sequence[int | None] | None = None,
             depthwise: bool = False, **geometry: Any) -> Graph:
    """y = conv(conv(x)) + conv(x), or + conv(s) if `other` is the shape of a second input.

    geometry: padding, stride and so on of the last convolution, and of one more before the summand.
    """
    made = Int8Graph()
    first = made.conv(made.quantize(made.image("x", shape)), seeded(SQUARE))
    summand = first if other is None else made.conv(made.quantize(made.image("s", other)), seeded(SQUARE, 3))
    if geometry:
        summand = made.conv(summand, seeded(SQUARE, 4), **geometry)
    second = made.conv(first, seeded(SQUARE, 1))
    weights = seeded((3, 3, 4, 1) if depthwise else SQUARE, 2)
    last = made.conv(second, weights, summand=summand, name="sum", depthwise=depthwise, **geometry)
    return made.graph(made.dequantize(last, "y"))


def plain(op: str, dtype: Any = None, shape: Sequence[int | None] | None = IMAGE) -> Graph:
    """A convolution in float32, or in another float type."""
    def nodes() -> None:
        x = tf.compat.v1.placeholder(tf.float32, shape, "x")
        weights = tf.constant(seeded(SQUARE), dtype or tf.float32)
        made = getattr(tf.nn, op)(tf.cast(x, weights.dtype), weights, [1] * 4, "SAME")
        tf.identity(tf.cast(made, tf.float32), "y")
    return Graph.from_graph_def(build(nodes), ["x"], ["y"])


def answers(graph: Graph, folder: Path, *requests: dict[str, NDArray[Any]]) -> list[Any]:
    """The answer to each request as a server gets it: an array, or the text of an error or of the process's end."""
    found: list[Any] = []
    with LoadedModel(written(graph, folder), ["serve"]) as model:
        model.loaded()
        for request in requests:
            try:
                answer = model.run_at_once([("serving_default", request)])[0]
                found.append(str(answer) if isinstance(answer, RunError) else answer["y"])
            except DiedError as error:
                found.append(f"died: {error}")
                model.restart()
    return found


def test_an_empty_batch_is_answered(tmp_path: Path) -> None:
    requests = [{"x": image(*shape)} for shape in ((0, 8, 8, 4), (3, 8, 8, 4))]
    before, after = (answers(graph, tmp_path / str(index), *requests)
                     for index, graph in enumerate((residual(), guarded(residual()))))
    assert before[0].startswith("died: its process ended with SIGABRT")
    assert after[0].shape == (0, 8, 8, 4)
    np.testing.assert_array_equal(before[1], after[1])


def test_what_the_float_graph_refuses_is_refused(tmp_path: Path) -> None:
    """TensorFlow gives the empty result of a convolution its input's shape, so that the next one refuses it."""
    made = Int8Graph()
    wide = made.conv(made.quantize(made.image("x", IMAGE)), seeded((3, 3, 4, 8)))
    int8 = made.graph(made.dequantize(made.conv(wide, seeded((3, 3, 8, 4))), "y"))

    def nodes() -> None:
        x = tf.compat.v1.placeholder(tf.float32, IMAGE, "x")
        tf.nn.conv2d(tf.nn.conv2d(x, seeded((3, 3, 4, 8)), 1, "SAME"), seeded((3, 3, 8, 4)), 1, "SAME", name="y")
    floats = Graph.from_graph_def(build(nodes), ["x"], ["y"])
    empty = {"x": image(0, 8, 8, 4)}
    refused = [answers(graph, tmp_path / str(index), empty)[0] for index, graph in enumerate((floats, guarded(int8)))]
    assert refused == ["input depth must be evenly divisible by filter depth: 4 vs 8"] * 2


@pytest.mark.parametrize("kind", ["depthwise", "max", "average", "concat", "signed", "matmul"])
def test_every_kernel_survives_empty_tensors(kind: str, tmp_path: Path) -> None:
    made = Int8Graph()
    x = made.quantize(made.image("x", (None, None, None, 4) if kind != "matmul" else (None, 4)))
    last = {
        "depthwise": lambda: made.conv(x, seeded((3, 3, 4, 1)), depthwise=True),
        "max": lambda: made.pool(x), "average": lambda: made.pool(x, "QuantizedAvgPool"),
        "concat": lambda: made.concat([x, x]), "signed": lambda: made.conv(x, seeded(SQUARE), relu=False),
        "matmul": lambda: made.quantize(made.matmul(x, seeded((4, 4))), dtype=QINT8)}[kind]()
    graph = made.graph(made.dequantize(last, "y"))
    sizes = ((0, 4), (2, 4), (2, 0)) if kind == "matmul" else (
        (0, 8, 8, 4), (2, 8, 8, 4), (2, 0, 8, 4), (2, 0, 0, 4), (2, 1, 1, 4), (0, 0, 0, 4), (2, 8, 8, 0), (2, 1, 8, 4))
    requests = [{"x": image(*size)} for size in sizes]
    before, after = (answers(one, tmp_path / str(index), *requests)
                     for index, one in enumerate((graph, guarded(graph))))
    if kind not in ("max", "average"):
        assert any(isinstance(one, str) and one.startswith("died") for one in before)
    assert not any(isinstance(one, str) and one.startswith("died") for one in after)
    assert after[0].shape[0] == 0
    np.testing.assert_allclose(after[1], before[1], atol=2e-7)


@pytest.mark.parametrize("high", [1.0, 0.037, 4e4])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("fixed", [False, True])
def test_the_other_kernel_computes_the_same(high: float, signed: bool, fixed: bool) -> None:
    """`fixed`: the range is a constant; otherwise it is computed by the graph from what QuantizeV2 says."""
    made = Int8Graph()
    x = made.quantize(made.image("x", (None, 256)), high, QINT8 if signed else QUINT8)
    if fixed:
        x = Quantized(x.ref, made.number(-high if signed else 0.0), made.number(high), x.dtype)
    graph = made.graph(made.dequantize(x, "y"))
    feeds = {"x": np.linspace(-high if signed else 0, high, 512, dtype=np.float32).reshape(2, 256)}
    before, after = (session_run(as_graph_def(whole(one)), ["y"], feeds)["y"] for one in (graph, guarded(graph)))
    assert len(np.unique(before)) > 250
    np.testing.assert_allclose(after, before, rtol=0, atol=high * 2e-7)


def test_a_bfloat16_result_keeps_its_type() -> None:
    made = Int8Graph()
    x = made.quantize(made.image("x", (None, 4)))
    half = made.add("half", "Dequantize", (x.ref, x.low, x.high), T=x.dtype, mode="SCALED", axis=-1, dtype=BFLOAT16)
    graph = made.graph(made.add("y", "Cast", (half,), SrcT=BFLOAT16, DstT=FLOAT))
    empty = session_run(as_graph_def(whole(guarded(graph))), ["y"], {"x": image(0, 4)})["y"]
    assert empty.shape == (0, 4)


WRONG = ((2, 9, 9, 4), (2, 8, 8, 8), (8, 8, 4), (4,), ())


@pytest.mark.parametrize("kind", ["int8", "float32", "depthwise", "bfloat16"])
def test_other_shapes_than_declared_are_refused(kind: str, tmp_path: Path) -> None:
    graph = residual() if kind == "int8" else plain(
        "depthwise_conv2d" if kind == "depthwise" else "conv2d", tf.bfloat16 if kind == "bfloat16" else tf.float32)
    requests = [{"x": image(*shape)} for shape in WRONG]
    before, after = (answers(one, tmp_path / str(index), *requests)
                     for index, one in enumerate((graph, guarded(graph))))
    assert any(isinstance(one, str) and one.startswith("died") for one in before)
    assert [one.split("]")[0] for one in after] == [
        f"Shape of tensor _arg_x_0_0 [{','.join(map(str, shape))}" for shape in WRONG]


def test_a_rank_that_is_not_declared_is_refused(tmp_path: Path) -> None:
    graph = residual(None)
    requests = [{"x": image(*shape)} for shape in ((2, 9, 9, 4), (8, 8, 4), (4,), (0, 8, 8, 4))]
    before, after = (answers(one, tmp_path / str(index), *requests)
                     for index, one in enumerate((graph, guarded(graph))))
    assert [one[:4] for one in before[1:]] == ["died"] * 3
    np.testing.assert_array_equal(before[0], after[0])
    assert "[8,8,4] is not compatible with expected shape [?,?,?,?]" in after[1]
    assert after[3].shape == (0, 8, 8, 4)


@pytest.mark.parametrize(("other", "answered"), [((2, 8, 8, 4), True), ((1, 8, 8, 4), True), ((3, 8, 8, 4), False),
                                                 ((0, 8, 8, 4), False)])
def test_a_summand_of_another_size_is_broadcast_or_refused(other: tuple[int, ...], answered: bool,
                                                           tmp_path: Path) -> None:
    graph = guarded(residual(other=IMAGE))
    both = {"x": image(2, 8, 8, 4), "s": image(*other)}
    full = {**both, "s": np.broadcast_to(both["s"], (2, 8, 8, 4)) if answered else both["x"]}
    one, expected = answers(graph, tmp_path / "1", both, full)
    if answered:
        np.testing.assert_array_equal(one, expected)
    else:
        assert "Incompatible shapes" in one


@pytest.mark.parametrize(("sizes", "last"), [
    (UNKNOWN, {}), ((None, 8, None, 4), {}), (UNKNOWN, {"padding": "VALID"}), (UNKNOWN, {"stride": 2}),
    (UNKNOWN, {"padding": "VALID", "stride": 2}), ((None, 8, None, 4), {"dilation": 2}),
    (UNKNOWN, {"padding": "VALID", "dilation": 2}), (UNKNOWN, {"padding": "EXPLICIT", "pads": PADS}),
    (UNKNOWN, {"padding": "EXPLICIT", "pads": PADS, "stride": 2}), (UNKNOWN, {"depthwise": True}),
    (UNKNOWN, {"depthwise": True, "padding": "VALID", "stride": 2}),
], ids=["SAME", "known height", "VALID", "stride", "VALID, stride", "dilation", "VALID, dilation", "EXPLICIT",
        "EXPLICIT, stride", "depthwise", "depthwise, VALID, stride"])
def test_unknown_sizes_are_compared(sizes: tuple[int | None, ...], last: dict[str, Any], tmp_path: Path) -> None:
    graph = residual(sizes, sizes, **last)
    safe = guarded(graph)
    assert "BroadcastTo" in {item.op for item in safe.nodes.values()}
    agreeing = [{"x": image(*shape), "s": image(*shape) / 2} for shape in ((2, 8, 8, 4), (1, 8, 9, 4))]
    both = agreeing[0]
    one = {**both, "s": both["s"][:1]}
    wrong = [{**both, "s": image(*shape)} for shape in ((3, 8, 8, 4), (2, 12, 8, 4), (2, 8, 12, 4))]
    expected = answers(graph, tmp_path / "0", *agreeing, {**both, "s": both["s"][[0, 0]]})
    found = answers(safe, tmp_path / "1", *wrong, {"x": image(0, 8, 8, 4), "s": image(0, 8, 8, 4)}, *agreeing, one)
    assert [answer.split(":")[0].split(" ")[0] for answer in found[:3]] == [
        "Shape" if sizes[1] and number == 1 else "Incompatible" for number in range(3)]
    if {"stride", "padding"} & last.keys():  # a convolution gives an empty result its input's shape nevertheless
        assert found[3].startswith("Incompatible shapes: [0,8,8,4] vs. [0,")
    else:
        assert found[3].shape == (0, 8, 8, 4)
    for after, before in zip(found[4:], expected, strict=True):
        np.testing.assert_array_equal(after, before)
    assert len({answer.tobytes() for answer in expected}) == 3


def test_a_summand_from_the_same_image_is_compared_if_the_sizes_are_unknown(tmp_path: Path) -> None:
    graph = residual(UNKNOWN)
    assert "BroadcastTo" in added(graph)
    requests = [{"x": image(*shape)} for shape in ((2, 8, 8, 4), (0, 8, 8, 4))]
    expected, = answers(graph, tmp_path / "0", requests[0])
    found = answers(guarded(graph), tmp_path / "1", *requests)
    np.testing.assert_array_equal(found[0], expected)
    assert found[1].shape == (0, 8, 8, 4)


def test_sizes_that_the_graph_shows_to_be_equal_are_not_compared() -> None:
    assert added(residual()) == {"EnsureShape": 1, "Const": 2}
    assert added(residual((5, 8, 8, 4))) == {"EnsureShape": 1}  # a fixed batch is never empty
    for last in ({"padding": "VALID"}, {"stride": 2}, {"padding": "EXPLICIT", "pads": PADS}, {"dilation": 2}):
        assert added(residual(**last)).keys() == {"EnsureShape", "Const"}, last
    assert "BroadcastTo" in added(residual(other=IMAGE))


def added(graph: Graph) -> dict[str, int]:
    new = [item.op for name, item in guarded(graph).nodes.items() if name not in graph.nodes]
    return {op: new.count(op) for op in new}


def test_a_graph_that_needs_no_guard_is_returned_as_it_is() -> None:
    made = Int8Graph()
    graph = made.graph(made.matmul(made.quantize(made.image("x", (None, 16))), seeded((16, 4)), "y"))
    assert guarded(graph) is graph
    once = guarded(residual())
    assert guarded(once) is once


def test_an_image_that_feeds_an_output_directly_is_not_changed() -> None:
    made = residual()
    graph = guarded(Graph(made.nodes, made.inputs, ("x", "y")))
    assert (graph.nodes["x"], graph.outputs) == (made.nodes["x"], ("x", "y"))


def test_tensorflow_keeps_the_guards_at_load() -> None:
    ran = runtime_graph(as_graph_def(whole(guarded(residual()))), "y", {"x": image(2, 8, 8, 4)})
    assert "EnsureShape" in {item.op for item in ran.node}
    assert [item.attr["mode"].s for item in ran.node if "Dequantize" in item.op] == [b"MIN_COMBINED"]


def test_in_a_loop_the_new_constants_are_in_its_frame() -> None:
    with v1_control_flow():
        def nodes() -> None:
            x = tf.compat.v1.placeholder(tf.float32, (None, 4), "x")

            def turn(index: Any, value: Any) -> Any:
                q = tf.raw_ops.QuantizeV2(input=value, min_range=0.0, max_range=2.0, T=tf.quint8, mode="SCALED",
                                          round_mode="HALF_TO_EVEN", narrow_range=False, axis=-1)
                return index + 1, tf.raw_ops.Dequantize(
                    input=q.output, min_range=q.output_min, max_range=q.output_max, mode="SCALED", axis=-1)
            tf.identity(tf.while_loop(lambda index, value: index < 3, turn, [0, x])[1], "y")
        graph = Graph.from_graph_def(build(nodes), ["x"], ["y"])
    feeds = {"x": image(2, 4)}
    before, after = (session_run(as_graph_def(whole(one)), ["y"], feeds)["y"] for one in (graph, guarded(graph)))
    np.testing.assert_allclose(after, before, atol=1e-6)
    assert session_run(as_graph_def(whole(guarded(graph))), ["y"], {"x": image(0, 4)})["y"].shape == (0, 4)


def test_a_quantized_network_answers_what_its_float32_graph_answers(tmp_path: Path) -> None:
    """Convolutions with a residual addition, pooling and a dense layer, by `quantize`; in towers as well."""
    def nodes() -> None:
        x = tf.compat.v1.placeholder(tf.float32, IMAGE, "x")
        first = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, seeded(SQUARE) / 5, 1, "SAME"), seeded((4,))))
        second = tf.nn.bias_add(tf.nn.conv2d(first, seeded(SQUARE, 1) / 5, 1, "SAME"), seeded((4,)))
        pooled = tf.nn.max_pool2d(tf.nn.relu(second + first), 2, 2, "VALID")
        tf.matmul(tf.reshape(pooled, [-1, 64]), tf.constant(seeded((64, 5)) / 8), name="y")
    floats = Graph.from_graph_def(build(nodes), ["x"], ["y"])
    wanted = wanted_tensors(floats)
    seen = session_run(as_graph_def(whole(floats)), wanted, {"x": image(16, 8, 8, 4)})
    int8, layers = quantize(floats, {name: Range(float(one.min()), float(one.max())) for name, one in seen.items()})
    assert [layer.precision for layer in layers] == ["int8"] * 3
    requests = [{"x": image(*shape)} for shape in ((0, 8, 8, 4), (1, 8, 8, 4), (7, 8, 8, 4), (8, 8, 4))]
    expected, found, split = (answers(graph, tmp_path / str(index), *requests) for index, graph in enumerate((
        floats, guarded(int8), two_towers(guarded(int8), [(("x",), ("y",))]))))
    assert [one.shape for one in (expected[0], found[0], split[0])] == [(0, 5)] * 3
    for batch in (1, 2):
        assert np.abs(found[batch] - expected[batch]).max() < 0.05 * np.abs(expected[batch]).max()
        np.testing.assert_array_equal(split[batch], found[batch])
    assert expected[3].startswith("died")
    assert found[3] == "Shape of tensor _arg_x_0_0 [8,8,4] is not compatible with expected shape [?,8,8,4]."
