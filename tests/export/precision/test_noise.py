"""How much each layer loses by itself in a lower precision, and the search that uses it, on graphs that run."""
import math
from typing import Any

import numpy as np
import pytest
from graph_session import build, seeded, session_run, tf, v1_control_flow

from export.graph import Graph
from export.graph_file import as_graph_def, whole
from export.precision import noise
from export.precision.calibration import calibrate
from export.precision.int8 import quantize, wanted_tensors
from export.precision.ranges import Range, ranges
from export.precision.sensitivity import Verdict, search
from export.saved_model import Content

CHANNELS = 24


def graph_of(make: Any, outputs: list[str]) -> Graph:
    return Graph.from_graph_def(build(make), ["x"], outputs)


def dense(x: Any, name: str, seed: int, scale: Any = 1.0, into: Any = 1.0) -> Any:
    """Relu(x W + b). `scale`: of each output; `into`: what each input's weights are divided by."""
    weights = seeded((int(x.shape[-1]), CHANNELS), seed) / np.sqrt(int(x.shape[-1])) * scale
    if np.ndim(into):
        weights = weights / np.asarray(into)[:, None]
    return tf.nn.relu(tf.nn.bias_add(tf.matmul(x, tf.constant(weights.astype(np.float32)), name=name),
                                     tf.constant(seeded((CHANNELS,), seed + 50) * np.float32(0.1) * scale)),
                      f"{name}/relu")


def outliers() -> None:
    """Six dense layers. One channel of the fourth's result is 3,000 times as large as the others; the fifth's weights
    make up for it, so that the float32 answer is an ordinary one."""
    x = tf.compat.v1.placeholder(tf.float32, (None, CHANNELS), "x")
    large = np.ones(CHANNELS, np.float32)
    large[7] = 3000
    y = dense(dense(dense(x, "first", 1), "second", 2), "third", 3)
    y = dense(dense(y, "fourth", 4, scale=large), "fifth", 5, into=large)
    tf.matmul(dense(y, "sixth", 6), tf.constant(seeded((CHANNELS, 10), 7)), name="logits")


def content_of(graph: Graph) -> Content:
    return Content(graph, {})


@pytest.fixture(scope="module")
def ruined() -> tuple[Graph, Any, list[dict[str, Any]]]:
    graph = graph_of(outliers, ["logits"])
    asked = [{"x": seeded((64, CHANNELS), seed)} for seed in (90, 91)]
    return graph, ranges(calibrate(content_of(graph), asked, wanted_tensors(graph)), "minmax"), asked


def test_the_search_finds_the_layer_that_ruins_int8(ruined: Any) -> None:
    """With the real kernels: one layer back in float32 gives the answer back, and no other one does."""
    graph, measured, asked = ruined
    fed = asked[0]
    expected = session_run(as_graph_def(whole(graph)), ["logits"], fed)["logits"]

    def evaluate(kept: frozenset[str]) -> Verdict:
        made, _ = quantize(graph, measured, kept)
        actual = session_run(as_graph_def(whole(made)), ["logits"], fed)["logits"]
        error = float(np.abs(actual - expected).max() / np.abs(expected).max())
        return Verdict(error <= 0.05, f"error {error:.3f}", {"error": error})
    losses = noise.measure(content_of(graph), asked, noise.rounded_to_int8(graph, measured))
    order = noise.ranked(losses)
    found = search(evaluate, order)
    assert found.kept == ("fifth",)
    assert found.trials[0].verdict.figures["error"] > 0.2
    assert len(found.trials) == 2
    assert all(not evaluate(frozenset({name})).within for name in order if name != "fifth")


def test_the_noise_is_that_of_the_layer_alone(ruined: Any) -> None:
    graph, measured, asked = ruined
    losses = noise.measure(content_of(graph), asked, noise.rounded_to_int8(graph, measured))
    assert set(losses) == {"first", "second", "third", "fourth", "fifth", "sixth", "logits"}
    assert noise.ranked(losses)[0] == "fifth"
    # The sixth reads what the fifth made in float32.
    assert all(losses[name] < 1e-3 < 1e-2 < losses["fifth"] for name in losses if name not in ("fourth", "fifth"))


def convolutions() -> None:
    x = tf.compat.v1.placeholder(tf.float32, (None, 9, 9, 4), "x")
    y = tf.nn.relu6(tf.nn.conv2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), tf.constant(seeded((3, 3, 4, 8))), 2,
                                 "VALID", name="padded"), "relu6")
    y = tf.nn.depthwise_conv2d(y, tf.constant(seeded((3, 3, 8, 2), 1)), [1] * 4, "SAME", name="depthwise")
    y = tf.nn.conv2d(y, tf.constant(seeded((1, 1, 16, 5), 2)), 1, "SAME", name="last")
    tf.matmul(tf.constant(seeded((3, 5), 3)), tf.reshape(y, [-1, 5]), transpose_b=True, name="other_way_round")
    tf.matmul(tf.reshape(y, [-1, 5]), tf.constant(seeded((3, 5), 4)), transpose_b=True, name="transposed")


def test_it_is_the_difference_that_rounding_makes() -> None:
    """Against the same computed with numpy, of the layer whose weights are given transposed."""
    graph = graph_of(convolutions, ["transposed"])
    asked = [{"x": seeded((3, 9, 9, 4), 11)}, {"x": seeded((1, 9, 9, 4), 12)}]
    measured = ranges(calibrate(content_of(graph), asked, wanted_tensors(graph)), "minmax")
    losses = noise.measure(content_of(graph), asked, noise.rounded_to_int8(graph, measured))
    assert set(losses) == {"padded", "depthwise", "last", "transposed"}
    assert all(1e-7 < loss < 1e-2 for loss in losses.values())
    noises, signal = 0.0, 0.0
    for one in asked:
        x = session_run(as_graph_def(whole(graph)), ["last"], one)["last"].reshape(-1, 5).astype(np.float64)
        limits, weights = measured["last"], seeded((3, 5), 4).astype(np.float64)
        step, least = (limits.high - limits.low) / 255, limits.low
        rounded = np.clip(np.round((x - least) / step), 0, 255) * step + least
        scale = np.abs(weights).max(1, keepdims=True) / 127
        noises += (((rounded @ (np.round(weights / scale) * scale).T) - x @ weights.T) ** 2).sum()
        signal += ((x @ weights.T) ** 2).sum()
    assert losses["transposed"] == pytest.approx(noises / signal, rel=0.05)


def test_bfloat16_loses_less_than_int8(ruined: Any) -> None:
    graph, measured, asked = ruined
    coarse = noise.measure(content_of(graph), asked, noise.rounded_to_int8(graph, measured))
    fine = noise.measure(content_of(graph), asked, noise.rounded_to_bfloat16(graph))
    assert set(fine) == set(coarse)
    assert all(0 < fine[name] < 1e-4 for name in fine)
    assert fine["fifth"] < coarse["fifth"] / 100


def test_what_is_kept_has_no_noise(ruined: Any) -> None:
    graph, measured, asked = ruined
    for rounded in (noise.rounded_to_int8(graph, measured, frozenset({"fifth"})),
                    noise.rounded_to_bfloat16(graph, frozenset({"fifth"}))):
        assert "fifth" not in rounded.sums
        assert "fourth" in noise.measure(content_of(graph), asked[:1], rounded)


def test_a_layer_that_no_request_computes_comes_last() -> None:
    def make() -> None:
        for key in ("x", "other"):
            fed = tf.compat.v1.placeholder(tf.float32, (None, CHANNELS), key)
            dense(fed, f"of_{key}", 1)
    graph = Graph.from_graph_def(build(make), ["x", "other"], ["of_x/relu", "of_other/relu"])
    limits = dict.fromkeys(wanted_tensors(graph), Range(-4, 4))
    rounded = noise.rounded_to_int8(graph, limits)
    losses = noise.measure(content_of(graph), [{"x": seeded((2, CHANNELS))}], rounded)
    assert noise.ranked(losses) == ["of_x", "of_other"]
    assert losses["of_x"] > 0 == losses["of_other"]
    assert noise.measure(content_of(graph), [], rounded) == dict.fromkeys(losses, 0.0)


def test_bfloat16_ranks_contractions_of_every_kind_also_beside_a_loop() -> None:
    def make() -> None:
        x = tf.compat.v1.placeholder(tf.float32, (None, 4, 6, 3), "x")
        y = tf.nn.conv3d(x[:, None], tf.constant(seeded((1, 2, 2, 3, 5))), [1] * 5, "SAME", name="volume")[:, 0]
        y = tf.nn.conv2d_transpose(y, tf.constant(seeded((2, 2, 3, 5), 1)), tf.shape(x), 1, name="back")
        tf.matmul(y, y, transpose_b=True, name="scores")
        tf.einsum("bhwc,cd->bhwd", y, tf.constant(seeded((3, 4), 2)), name="einsum")
        with v1_control_flow():
            tf.compat.v1.while_loop(lambda i, _: i < 3, lambda i, h: (i + 1, tf.matmul(h, h, name="inner")),
                                    (0, y[0, :3, :3, 0]), name="loop")
    outputs = ["scores", "loop/Exit_1"]
    graph = Graph.from_graph_def(build(make), ["x"], outputs)
    losses = noise.measure(content_of(graph), [{"x": seeded((2, 4, 6, 3))}], noise.rounded_to_bfloat16(graph))
    assert losses.pop("loop/inner") == 0
    assert {"volume", "back", "scores"} <= losses.keys()
    assert all(1e-7 < loss < 1e-3 for loss in losses.values())


def test_equal_noise_is_ordered_by_name() -> None:
    assert noise.ranked({"b": 0.1, "a": 0.1, "c": 0.5, "d": 0.0, "e": math.inf}) == ["e", "c", "a", "b", "d"]
