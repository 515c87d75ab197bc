import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from graph_session import build, compared, ops, reasons, seeded, session_run, tf, transformed

R = tf.raw_ops
ACTIVATIONS = ["Relu", "Relu6", "Elu", "LeakyRelu"]


def convolution(activation="Relu", shape=(None, 9, 8, 3), filters=(3, 2, 3, 5), dtype=tf.float32, keep=None, bias=None,
                **attrs):
    """y = activation(BiasAdd(Conv2D(x, W), b)); `keep`: a second reader of this node."""
    def make():
        x = tf.compat.v1.placeholder(dtype, shape, "x")
        weights = tf.constant(seeded(filters), dtype)
        with tf.control_dependencies([tf.nn.relu(x, "before")]):
            linear = R.Conv2D(input=x, filter=weights, name="conv",
                              **{"strides": [1, 2, 1, 1], "padding": "SAME"} | attrs)
        _activated(linear, filters[-1], dtype, activation, keep, bias or attrs.get("data_format", "NHWC"))
    return build(make)


def product(activation="Relu", keep=None, dtype=tf.float32, **attrs):
    def make():
        x = tf.compat.v1.placeholder(dtype, (None, 6), "x")
        weights = tf.constant(seeded((5, 6) if attrs.get("transpose_b") else (6, 5)), dtype)
        x = tf.transpose(x) if attrs.get("transpose_a") else x
        _activated(R.MatMul(a=x, b=weights, name="conv", **attrs), 5, dtype, activation, keep, "NHWC")
    return build(make)


def _activated(linear, channels, dtype, activation, keep, data_format):
    added = R.BiasAdd(value=linear, bias=tf.constant(seeded((channels,), 1), dtype), name="bias",
                      data_format=data_format)
    alpha = {"alpha": 0.3} if activation == "LeakyRelu" else {}
    getattr(R, activation)(features=added, name="y", **alpha)
    if keep:
        tf.negative({"conv": linear, "bias": added}[keep], "other")


def feeds(batch, shape=(9, 8, 3)):
    return {"x": 3 * seeded((batch, *shape), 3)}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("padding", "explicit"), [("SAME", {}), ("VALID", {}), (
    "EXPLICIT", {"explicit_paddings": [0, 0, 1, 0, 2, 1, 0, 0]})])
def test_a_convolution_with_its_activation(activation, padding, explicit):
    graph_def = convolution(activation, padding=padding, **explicit)
    after, report = transformed(graph_def, ["x"], ["y"], "fuse_activations")
    assert report.steps[0].applied == 1
    assert ops(after)["_FusedConv2D"] == 1
    assert not {"Conv2D", "BiasAdd", activation} & {node.op for node in after.node if node.name != "before"}
    for batch in (1, 3):
        assert compared(graph_def, after, ["y"], feeds(batch)).equal


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("transposed", [False, True])
def test_a_product_with_its_activation(activation, transposed):
    graph_def = product(activation, transpose_b=transposed)
    after, report = transformed(graph_def, ["x"], ["y"], "fuse_activations")
    assert report.steps[0].applied == 1
    assert ops(after)["_FusedMatMul"] == 1
    for batch in (1, 3):
        assert compared(graph_def, after, ["y"], feeds(batch, (6,))).equal


@pytest.mark.parametrize("make", [convolution, product])
def test_an_empty_batch_is_answered_as_before(make):
    graph_def = make()
    after, _ = transformed(graph_def, ["x"], ["y"], "fuse_activations")
    empty = feeds(0, (6,) if make is product else (9, 8, 3))
    assert session_run(after, ["y"], empty)["y"].shape == session_run(graph_def, ["y"], empty)["y"].shape


def test_kernels_without_onednn_compute_the_same(tmp_path: Path):
    made = [("conv", convolution("Relu6"), (9, 8, 3)), ("product", product("Elu"), (6,))]
    for name, graph_def, shape in made:
        after, _ = transformed(graph_def, ["x"], ["y"], "fuse_activations")
        (tmp_path / f"{name}.pb").write_bytes(after.SerializeToString())
        np.savez(tmp_path / f"{name}.npz", y=session_run(graph_def, ["y"], feeds(2, shape))["y"], **feeds(2, shape))
    script = ("import sys, numpy, tensorflow as tf\n"
              "for stem in sys.argv[1:]:\n"
              "    graph, wanted = tf.Graph(), numpy.load(stem + '.npz')\n"
              "    with graph.as_default():\n"
              "        read = tf.compat.v1.GraphDef.FromString(open(stem + '.pb', 'rb').read())\n"
              "        tf.import_graph_def(read, name='')\n"
              "    y = tf.compat.v1.Session(graph=graph).run('y:0', {'x:0': wanted['x']})\n"
              "    numpy.testing.assert_allclose(y, wanted['y'], atol=1e-4)\n")
    done = subprocess.run([sys.executable, "-c", script, *(str(tmp_path / name) for name, _, _ in made)],
                          env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(("reason", "graph_def"), [
    ("its type is not float32", convolution(dtype=tf.bfloat16)),
    ("its type is not float32", product(dtype=tf.bfloat16)),
    ("its channels are not the last axis", convolution(data_format="NCHW", filters=(3, 2, 9, 5), shape=(1, 9, 8, 6),
                                                       strides=[1, 1, 1, 1])),
    ("the fused kernel is not known to have dilations", convolution(dilations=[1, 2, 2, 1], strides=[1, 1, 1, 1])),
    ("the convolution may be grouped, which not every fused kernel knows",
     convolution(shape=(1, 9, 8, 4), filters=(3, 2, 2, 6))),
    ("the convolution may be grouped, which not every fused kernel knows", convolution(shape=None)),
    ("the fused kernel does not transpose the first factor", product(transpose_a=True)),
    ("'conv' is also read by 'other'", convolution(keep="conv")),
    ("'bias' is also read by 'other'", convolution(keep="bias")),
    ("'bias' is also read by 'other'", product(keep="bias"))])
def test_refuses(reason, graph_def):
    after, report = transformed(graph_def, ["x"], ["y"], "fuse_activations")
    assert reasons(report) == [reason]
    assert after == graph_def


def test_refuses_what_is_requested_or_fed():
    for inputs, outputs, name in ((["x"], ["y", "bias:0"], "bias"), (["x"], ["y", "conv:0"], "conv"),
                                  (["x", "bias"], ["y"], "bias")):
        after, report = transformed(convolution(), inputs, outputs, "fuse_activations")
        assert reasons(report) == [f"'{name}' is itself a requested input or output"]
        assert "_FusedConv2D" not in ops(after)


def test_refuses_a_gpu():
    graph_def = convolution()
    for node in graph_def.node:
        node.device = "/device:GPU:0"
    _, report = transformed(graph_def, ["x"], ["y"], "fuse_activations")
    assert reasons(report) == ["the fused kernel is one for CPUs"]


def test_control_inputs_stay():
    graph_def = convolution()
    next(node for node in graph_def.node if node.name == "bias").input.append("^earlier")
    graph_def.node.add(name="earlier", op="NoOp")
    after, _ = transformed(graph_def, ["x"], ["y"], "fuse_activations")
    assert {"^before", "^earlier"} <= set(next(node for node in after.node if node.name == "y").input)
