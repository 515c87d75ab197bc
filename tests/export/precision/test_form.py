"""Forms of int8 graphs: convolutions of one pixel as products of rows, and weights of seven bits."""
from typing import Any

import numpy as np
import pytest
from graph_session import ops, seeded, session_run, tf
from int8_simulation import Quantized, quantized

import cpu_class
from export.graph_file import as_graph_def, whole
from export.precision.form import Form, form_for
from export.precision.guard import guarded
from export.precision.int8 import quantize
from export.precision.int8_nodes import per_channel


def _net() -> None:
    """3x3, then a bottleneck with an addition: one-pixel convolutions with Relu, Relu6 and none, one with stride."""
    x = tf.compat.v1.placeholder(tf.float32, (None, 8, 8, 4), "x")

    def conv(x: Any, size: int, channels: int, seed: int, stride: int = 1) -> Any:
        weights = seeded((size, size, int(x.shape[-1]), channels), seed) / np.sqrt(size * size * int(x.shape[-1]))
        return tf.nn.bias_add(tf.nn.conv2d(x, tf.constant(weights.astype(np.float32)), stride, "SAME"),
                              tf.constant(seeded((channels,), seed + 50)))
    first = tf.nn.relu(conv(x, 3, 6, 1))
    narrow = conv(first, 1, 4, 2)
    wide = tf.nn.relu6(conv(narrow, 1, 8, 3))
    added = conv(wide, 1, 4, 4) + narrow
    last = conv(tf.nn.relu(conv(added, 1, 8, 5)), 1, 3, 6, stride=2)
    tf.identity(last, "y")


@pytest.fixture(scope="module")
def it() -> Quantized:
    return quantized(_net, feeds={"x": seeded((3, 8, 8, 4), 9)})


def _in(it: Quantized, form: Form) -> Any:
    return as_graph_def(whole(guarded(quantize(it.graph, it.ranges, form=form)[0])))


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_rows_give_the_same_answers(it: Quantized, batch: int) -> None:
    feeds = {"x": it.feeds["x"][np.arange(batch) % 3]}
    usual, rows = (session_run(_in(it, Form(rows=rows)), ["y"], feeds)["y"] for rows in (False, True))
    wanted = it.original(feeds)["y"]
    assert rows.shape == usual.shape
    assert np.abs(rows - usual).max() <= 0.02 * np.abs(wanted).max()
    assert np.abs(rows - wanted).max() <= 0.06 * np.abs(wanted).max()


def test_what_adds_or_has_a_stride_stays_a_convolution(it: Quantized) -> None:
    made = ops(_in(it, Form(rows=True)))
    # Of the six convolutions the 3x3, the one with a residual addition and the one with a stride are left.
    assert (made["_FusedQuantizedConv2D"], made["_QuantizedMatMul"]) == (3, 3)


def test_seven_bits_of_weights(it: Quantized) -> None:
    block = next(iter(it.plan()[1].blocks.values()))
    (whole_eight, top_eight), (whole_seven, top_seven) = (per_channel(block, most) for most in (127, 63))
    assert np.abs(whole_eight).max() == 127
    assert np.abs(whole_seven).max() == 63
    # Both stand for the same weights, to half a step of each.
    channels = np.abs(whole_eight * top_eight / 127 - whole_seven * top_seven / 127).reshape(-1, len(top_eight))
    assert (channels.max(0) <= top_seven / 127).all()
    found, wanted = session_run(_in(it, Form(largest_weight=63)), ["y"], it.feeds)["y"], it.original()["y"]
    assert np.abs(found - wanted).max() <= 0.08 * np.abs(wanted).max()


@pytest.mark.parametrize(("flags", "largest"), [("avx2 avx512f avx512_vnni", 127), ("avx2 avx512f", 63), ("avx2", 63)])
def test_the_form_of_a_class(flags: str, largest: int) -> None:
    assert form_for(cpu_class.of(flags.split(), "x86_64", {})).largest_weight == largest
    # What two products of unsigned and signed eight bits add up to fits into 16 bits only with seven bits of weights.
    assert (2 * 255 * largest < 2**15) == (largest == 63)
