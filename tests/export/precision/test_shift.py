"""The mean of what rounding adds to an int8 layer is taken back in its bias."""
from typing import Any

import numpy as np
import pytest
from graph_session import build, seeded, session_run, tf

from export.graph import Graph
from export.graph_file import as_graph_def, whole
from export.precision import noise, shift
from export.precision.calibration import calibrate
from export.precision.int8 import quantize, wanted_tensors
from export.precision.ranges import ranges
from export.saved_model import Content

SIZE = (8, 8, 6)


def network() -> None:
    x = tf.compat.v1.placeholder(tf.float32, (None, *SIZE), "x")
    y = x
    for number in range(4):
        weights = seeded((3, 3, int(y.shape[-1]), 12), number) / np.sqrt(9 * int(y.shape[-1])).astype(np.float32)
        y = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(y, tf.constant(weights), 1, "SAME", name=f"conv{number}"),
                                      tf.constant(seeded((12,), number + 9) / 4)), f"relu{number}")
    y = tf.nn.depthwise_conv2d(y, tf.constant(seeded((3, 3, 12, 2), 20) / 3), [1] * 4, "VALID", name="depthwise")
    y = tf.reshape(tf.nn.relu(y), [-1, 6 * 6 * 24])
    tf.matmul(y, tf.constant(seeded((864, 5), 30) / 30), name="logits")


@pytest.fixture(scope="module")
def measured() -> tuple[Graph, Any, list[dict[str, Any]], dict[str, Any]]:
    graph = Graph.from_graph_def(build(network), ["x"], ["logits"])
    asked = [{"x": np.abs(seeded((8, *SIZE), 40 + number))} for number in range(4)]
    found = ranges(calibrate(Content(graph, {}), asked, wanted_tensors(graph)))
    return graph, found, asked, shift.measure(Content(graph, {}), asked, noise.rounded_to_int8(graph, found))


def test_answers_to_other_inputs_are_more_exact(measured: Any) -> None:
    graph, found, _, shifts = measured
    made, _ = quantize(graph, found)
    fed = {"x": np.abs(seeded((64, *SIZE), 99))}
    expected, before, after = (session_run(as_graph_def(whole(one)), ["logits"], fed)["logits"].astype(np.float64)
                               for one in (graph, made, shift.corrected(made, shifts)))
    assert ((after - expected) ** 2).sum() < 0.8 * ((before - expected) ** 2).sum()
    assert np.abs((after - expected).mean(0)).max() < 0.7 * np.abs((before - expected).mean(0)).max()


def test_only_biases_change_and_by_the_shifts(measured: Any) -> None:
    graph, found, _, shifts = measured
    made, _ = quantize(graph, found)
    after = shift.corrected(made, shifts)
    changed = [name for name, item in after.nodes.items() if item != made.nodes[name]]
    assert sorted(changed) == sorted(f"{layer}/int8_bias" for layer in shifts)
    assert set(shifts) == {*(f"conv{number}" for number in range(4)), "depthwise", "logits"}
    for layer, added in shifts.items():
        name = f"{layer}/int8_bias"
        assert np.allclose(after.nodes[name].value - made.nodes[name].value, added, atol=1e-5)
    assert shifts["depthwise"].shape == (24,)


def test_the_shift_is_the_mean_difference_of_the_layer(measured: Any) -> None:
    """The first layer's, computed from its weights and encoding with numpy and TensorFlow's float32 convolution."""
    _, found, asked, shifts = measured
    x = np.concatenate([one["x"] for one in asked])
    step = found["x"].high / 255
    weights = seeded((3, 3, 6, 12), 0) / np.sqrt(54).astype(np.float32)
    scale = np.abs(weights).max((0, 1, 2)) / 127
    exact = tf.nn.conv2d(x, weights, 1, "SAME").numpy()
    whole_weights = np.rint(weights / scale) * scale
    rounded = tf.nn.conv2d(np.clip(np.rint(x / step), 0, 255) * step, whole_weights, 1, "SAME").numpy()
    assert np.allclose(shifts["conv0"], (exact - rounded).mean((0, 1, 2)), atol=2e-6)


def test_few_examples_change_nothing(measured: Any) -> None:
    graph, found, asked, _ = measured
    rounded = noise.rounded_to_int8(graph, found)
    assert shift.measure(Content(graph, {}), [{"x": asked[0]["x"]}, {"x": asked[1]["x"][:7]}], rounded) == {}
    assert shift.measure(Content(graph, {}), [], rounded) == {}


def test_a_layer_that_went_back_to_float32_stays_as_it_is(measured: Any) -> None:
    graph, found, _, shifts = measured
    made, _ = quantize(graph, found, frozenset({"conv1", "logits"}))
    after = shift.corrected(made, shifts)
    changed = {name for name, item in after.nodes.items() if item != made.nodes[name]}
    assert changed == {f"{layer}/int8_bias" for layer in shifts if layer not in ("conv1", "logits")}
