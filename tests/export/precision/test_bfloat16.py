"""to_bfloat16: equal within what bfloat16 holds, conversions at the borders only, reasons for what stays float32."""
import encoder_models
import numpy as np
import pytest
from graph_session import build, ops, runtime_graph, seeded, session_run, tf, v1_control_flow
from graph_strategies import drawn_graphs
from hypothesis import HealthCheck, given, settings

from export.graph import Graph, GraphError
from export.graph_file import as_graph_def, whole
from export.ops import op_def
from export.pipeline import run
from export.precision import kernels, regions
from export.precision.bfloat16 import KEPT, to_bfloat16

R, v1 = tf.raw_ops, tf.compat.v1
FLOAT, BFLOAT16 = tf.float32.as_datatype_enum, tf.bfloat16.as_datatype_enum


def lowered(graph_def, outputs=("y",), inputs=("x",), **options):
    """The GraphDef in bfloat16, and the layers by name. All regions gain: these graphs are small."""
    graph, layers = to_bfloat16(Graph.from_graph_def(graph_def, inputs, outputs), **{"least_work": 0.0, **options})
    return as_graph_def(whole(graph)), {layer.node: layer for layer in layers}


def error(before, after, outputs, feeds):
    """max|a-b| / max|a|, the largest of all outputs."""
    reference, result = session_run(before, outputs, feeds), session_run(after, outputs, feeds)
    assert all(result[name].dtype == reference[name].dtype for name in outputs)
    return max(float(np.abs(result[name] - reference[name]).max() / max(np.abs(reference[name]).max(), 1e-30))
               for name in outputs)


def nodes(graph_def):
    return {node.name: node for node in graph_def.node}


def casts(graph_def):
    return [node for node in graph_def.node if node.op == "Cast" and
            {node.attr["SrcT"].type, node.attr["DstT"].type} == {FLOAT, BFLOAT16}]


def conv(x, name, channels=8, size=3, stride=1, bias=True):
    weights = tf.constant(seeded((size, size, x.shape[-1], channels), len(name)) * 0.3, name=f"{name}/W")
    y = tf.nn.conv2d(x, weights, stride, "SAME", name=name)
    return tf.nn.bias_add(y, tf.constant(seeded((channels,), 1)), name=f"{name}/bias") if bias else y


def classifier():
    """A small network of the usual layers; its output `y` is a softmax, its logits are `dense/bias`."""
    def make():
        x = v1.placeholder(tf.float32, (None, 12, 12, 4), "x")
        first = tf.nn.relu6(conv(x * 0.5 - 1.0, "first"))
        deep = tf.nn.bias_add(tf.nn.depthwise_conv2d(first, tf.constant(seeded((3, 3, 8, 1))), [1] * 4, "SAME",
                                                     name="deep"), tf.constant(seeded((8,), 2)))
        second = first + conv(tf.nn.relu6(deep), "second", size=1)
        pooled = tf.reduce_mean(tf.nn.max_pool2d(second, 2, 2, "VALID"), [1, 2])
        logits = tf.nn.bias_add(tf.matmul(pooled, tf.constant(seeded((8, 5))), name="dense"),
                                tf.constant(seeded((5,), 3)), name="dense/bias")
        tf.nn.softmax(logits, name="y")
    return build(make)


X = {"x": seeded((3, 12, 12, 4))}


@settings(max_examples=20, suppress_health_check=list(HealthCheck), derandomize=True, deadline=None, database=None)
@given(drawn_graphs())
def test_random_graphs_are_equal_within_a_budget(drawn):
    graph = run(Graph.from_graph_def(drawn.graph_def, ["x"], drawn.outputs), "default")[0]
    after, layers = lowered(as_graph_def(whole(graph)), drawn.outputs)
    for batch in (1, 2, 5):
        assert error(drawn.graph_def, after, drawn.outputs, drawn.feeds(batch)) < 2**-8 * (2 + len(drawn.layers))
    if {"conv", "depthwise", "concat"} & set(drawn.layers):
        assert "bfloat16" in {layer.precision for layer in layers.values()}
    by_name = nodes(after)
    for cast in casts(after):
        assert by_name[cast.input[0].partition(":")[0]].op != "Cast"


def test_conversions_are_at_the_borders_only():
    graph_def = classifier()
    after, layers = lowered(graph_def)
    assert {name: layer.precision for name, layer in layers.items()} == dict.fromkeys(
        ("first", "deep", "second", "dense"), "bfloat16")
    by_name = nodes(after)
    # One after the arithmetic on the input, one before the softmax; weights and biases are stored in bfloat16.
    assert [(cast.input[0], cast.attr["DstT"].type) for cast in casts(after)] == [
        ("sub", BFLOAT16), ("dense/bias", FLOAT)]
    assert by_name["y"].attr["T"].type == by_name["sub"].attr["T"].type == FLOAT
    assert all(node.attr["T"].type == BFLOAT16 for node in after.node
               if node.op in ("Conv2D", "BiasAdd", "Relu6", "DepthwiseConv2dNative", "MatMul", "Mean", "MaxPool"))
    assert by_name["first/W/bfloat16"].attr["dtype"].type == BFLOAT16
    assert "first/W" not in by_name
    content = [one["first/W" + end].attr["value"].tensor.tensor_content
               for one, end in ((nodes(graph_def), ""), (by_name, "/bfloat16"))]
    assert len(content[0]) == 2 * len(content[1])
    # Rounded to nearest even, as TensorFlow itself does.
    np.testing.assert_array_equal(np.frombuffer(content[1], np.uint16), tf.cast(
        np.frombuffer(content[0], np.float32), tf.bfloat16).numpy().view(np.uint16))
    assert 0 < error(graph_def, after, ["y"], X) < 2**-6


def test_tensorflow_merges_as_it_does_in_float32():
    after, _ = lowered(classifier())
    running = runtime_graph(after, "y", X)
    kernel = {node.op: node for node in running.node}
    merged = [(node.op, [one.decode() for one in node.attr["fused_ops"].list.s]) for node in running.node
              if "fused_ops" in node.attr]
    assert ("_MklNativeFusedConv2D", ["BiasAdd", "Relu6"]) in merged
    assert ("_MklNativeFusedConv2D", ["BiasAdd", "Add"]) in merged
    assert ("_MklNativeFusedDepthwiseConv2dNative", ["BiasAdd", "Relu6"]) in merged
    assert ("_MklNativeFusedMatMul", ["BiasAdd"]) in merged
    assert not {"BiasAdd", "Relu6", "AddV2", "AddN"} & kernel.keys()
    assert all(node.attr["is_filter_const"].b for node in running.node if node.op.endswith("FusedConv2D"))


def test_a_tensor_is_converted_once():
    def make():
        x = v1.placeholder(tf.float32, (None, 6, 6, 4), "x")
        tf.add_n([conv(x, "a"), conv(x, "bb"), conv(x, "ccc")], name="y")
    after, _ = lowered(build(make))
    assert [cast.input[0] for cast in casts(after) if cast.attr["DstT"].type == BFLOAT16] == ["x"]


def test_what_is_fetched_keeps_name_type_and_value():
    graph_def = classifier()
    outputs = ["y", "dense/bias", "first", "second/bias"]
    after, _ = lowered(graph_def, outputs)
    assert {nodes(after)[name].op for name in outputs[1:]} == {"Cast"}
    assert error(graph_def, after, outputs, X) < 2**-6


def test_kept_layers_stay_float32_and_are_named():
    graph_def = classifier()
    after, layers = lowered(graph_def, keep=frozenset({"second", "dense"}))
    assert {name: layer.reason for name, layer in layers.items()} == {
        "first": "", "deep": "", "second": KEPT, "dense": KEPT}
    assert nodes(after)["second"].attr["T"].type == nodes(after)["dense"].attr["T"].type == FLOAT
    assert error(graph_def, after, ["y"], X) < 2**-6
    after, layers = lowered(graph_def, keep=frozenset(layers))
    assert after == graph_def


def test_refuses_to_keep_what_is_no_contraction():
    with pytest.raises(GraphError, match="'secnd' cannot be kept in float32: it is no contraction "
                                         r"\(did you mean 'second'\?\)"):
        lowered(classifier(), keep=frozenset({"secnd"}))


def matmul(weights, dtype=tf.float32, name="product"):
    def make():
        x = v1.placeholder(dtype, (None, weights.shape[0]), "x")
        tf.identity(tf.matmul(x, tf.constant(weights, dtype, name="W"), name=name), "y")
    return build(make)


@pytest.mark.parametrize(("reason", "graph_def", "options"), [
    ("its type is not float32", matmul(seeded((8, 8)), tf.float64), {}),
    ("'W' has a value beyond what bfloat16 holds", matmul(np.full((2, 2), 3.4e38, np.float32)), {}),
    ("its value is fed from outside", matmul(seeded((8, 8))), {"inputs": ("x", "product")}),
    ("too little work for the conversions around it", matmul(seeded((8, 8))), {"least_work": 16.0}),
])
def test_stays_float32(reason, graph_def, options):
    after, layers = lowered(graph_def, **options)
    assert layers["product"].precision == "float32"
    assert layers["product"].reason == reason
    assert after == graph_def


def test_stays_float32_without_a_kernel(monkeypatch):
    """As in a TensorFlow without oneDNN: there the registry lacks some of the kernels."""
    assert kernels.has_cpu_kernel("MatMul", {"T": BFLOAT16})
    assert not kernels.has_cpu_kernel("LRN", {"T": 1 << 20})
    real = kernels._cpu_kernels
    monkeypatch.setattr(kernels, "_cpu_kernels", lambda op: () if op == "MatMul" else real(op))
    _, layers = lowered(matmul(seeded((8, 8))))
    assert layers["product"].reason == "TensorFlow has no bfloat16 kernel of MatMul for CPUs"


def test_enough_work_pays_for_the_conversions():
    _, layers = lowered(matmul(seeded((64, 64))), least_work=16.0)
    assert layers["product"].precision == "bfloat16"


def test_a_function_keeps_its_type():
    def make():
        @tf.function
        def dense(x):
            return tf.matmul(x, tf.constant(seeded((8, 8))), name="inner")
        tf.identity(dense(v1.placeholder(tf.float32, (None, 8), "x")), "y")
    graph = run(Graph.from_graph_def(build(make), ["x"], ["y"]), "strip_unused_nodes")[0]
    _, layers = to_bfloat16(graph, least_work=0.0)
    assert [(layer.node.endswith("/inner"), layer.precision, layer.reason) for layer in layers] == [
        (True, "float32", "it is in the body of a function")]


def dense(x, name, outputs=8):
    product = tf.matmul(x, tf.constant(seeded((int(x.shape[-1]), outputs), len(name))), name=name)
    return tf.nn.bias_add(product, tf.constant(seeded((outputs,))), name=f"{name}/bias")


def test_positions_ids_and_decisions_are_float32():
    """The grid of a sampler: places up to 2000 apart, rounded to integers, of which bfloat16 holds 8 bits."""
    def make():
        x = v1.placeholder(tf.float32, (None, 8), "x")
        places = tf.nn.tanh(dense(x, "offsets", 1)) * 3.0 + 1000.0
        ids = tf.cast(tf.floor(places), tf.int32, name="ids")
        table = tf.constant(seeded((2000, 8)))
        found = tf.gather(table, ids[:, 0]) + tf.cast(tf.greater(places, 1001.5), tf.float32)
        tf.identity(dense(found, "last") + places, "y")
    graph_def = build(make)
    after, layers = lowered(graph_def)
    assert {layer.precision for layer in layers.values()} == {"bfloat16"}
    by_name = nodes(after)
    assert by_name["offsets/bias"].attr["T"].type == BFLOAT16
    assert all(by_name[name].attr["T"].type == FLOAT for name in ("Tanh", "mul", "add", "Floor", "Greater"))
    # The input of the second contraction is a lookup and a decision: converted after them.
    feeds = {"x": seeded((40, 8))}
    ours, theirs = (session_run(one, ["ids"], feeds)["ids"] for one in (after, graph_def))
    assert (np.abs(ours - theirs) <= 1).all()
    assert (ours == theirs).mean() > 0.9


def test_ids_given_as_floats_are_looked_up_exactly():
    def make():
        ids = v1.placeholder(tf.float32, (None, 1), "x")
        rows = tf.gather(tf.constant(seeded((1000, 32)), name="table"), tf.cast(ids[:, 0], tf.int32))
        tf.identity(dense(rows, "dense", 32), "y")
    graph_def = build(make)
    after, _ = lowered(graph_def)
    # The table, which only the region reads, is stored in bfloat16.
    assert nodes(after)["table/bfloat16"].attr["dtype"].type == BFLOAT16
    assert error(graph_def, after, ["y"], {"x": np.array([[999], [257], [513]], np.float32)}) < 2**-6


def test_arithmetic_after_the_last_contraction_is_float32():
    def make():
        x = v1.placeholder(tf.float32, (None, 8), "x")
        boxes = dense(x, "boxes")
        tf.identity(tf.sigmoid(boxes) * 300.0 + tf.constant(seeded((8,)) * 300), "y")
    after, _ = lowered(build(make))
    assert [(cast.input[0], cast.attr["DstT"].type) for cast in casts(after)][-1] == ("boxes/bias", FLOAT)
    assert error(build(make), after, ["y"], {"x": seeded((5, 8))}) < 2**-8


def test_large_masks_in_the_middle():
    def make():
        x = v1.placeholder(tf.float32, (None, 4, 8), "x")
        scores = tf.matmul(x, x, transpose_b=True, name="scores")
        hidden = tf.linalg.band_part(tf.ones((4, 4)), -1, 0) * 1e9 - 1e9
        kept = tf.where(tf.ones((4, 4)) > 0.5, scores + hidden, tf.constant(-3.4028235e38))
        tf.identity(tf.matmul(tf.nn.softmax(kept), x, name="mixed"), "y")
    graph_def = build(make)
    after, layers = lowered(graph_def)
    assert {layer.precision for layer in layers.values()} == {"bfloat16"}
    assert np.isfinite(session_run(after, ["y"], {"x": seeded((2, 4, 8))})["y"]).all()
    assert error(graph_def, after, ["y"], {"x": seeded((2, 4, 8))}) < 2**-5
    assert all(node.attr["T"].type == FLOAT for node in after.node if node.op in ("SelectV2", "Softmax"))


def test_the_size_of_a_tensor_needs_no_conversion():
    def make():
        x = v1.placeholder(tf.float32, (None, 6, 6, 4), "x")
        first = conv(x, "first")
        flat = tf.reshape(first, [tf.shape(first)[0], 288])
        tf.identity(dense(flat, "last"), "y")
    after, _ = lowered(build(make))
    assert len(casts(after)) == 2
    assert next(node for node in after.node if node.op == "Shape").attr["T"].type == BFLOAT16


def test_a_split_output_that_is_fetched_stays_float32():
    def make():
        x = v1.placeholder(tf.float32, (None, 8), "x")
        first, second = tf.split(dense(x, "one"), 2, 1, name="halves")
        tf.identity(dense(first, "two") + dense(second, "three"), "y")
    graph_def = build(make)
    after, _ = lowered(graph_def, ["y", "halves:1"])
    assert error(graph_def, after, ["y", "halves:1"], {"x": seeded((3, 8))}) < 2**-6


def test_batch_norm_keeps_its_statistics():
    def make():
        x = v1.placeholder(tf.float32, (None, 6, 6, 4), "x")
        norm = R.FusedBatchNormV3(x=tf.nn.relu(conv(x, "one")), scale=seeded((8,)), offset=seeded((8,), 1),
                                  mean=seeded((8,), 2), variance=np.abs(seeded((8,), 3)) + 0.5, is_training=False,
                                  name="norm")
        tf.identity(conv(norm.y, "two"), "y")
    graph_def = build(make)
    after, _ = lowered(graph_def)
    norm = nodes(after)["norm"]
    assert (norm.attr["T"].type, norm.attr["U"].type, len(casts(after))) == (BFLOAT16, FLOAT, 2)
    assert error(graph_def, after, ["y"], {"x": seeded((2, 6, 6, 4))}) < 2**-6


def test_a_v1_loop_reads_weights_that_were_converted_outside():
    def make():
        x = v1.placeholder(tf.float32, (None, 8), "x")
        weights = tf.constant(seeded((8, 8)) * 0.3, name="W")
        tf.identity(v1.while_loop(lambda i, _: i < 3, lambda i, value: (i + 1, tf.tanh(tf.matmul(value, weights))),
                                  [0, x])[1], "y")
    with v1_control_flow():
        graph_def = build(make)
    after, layers = lowered(graph_def)
    assert [layer.precision for layer in layers.values()] == ["bfloat16"]
    enter = next(node for node in after.node if node.op == "Enter" and node.input[0].startswith("W"))
    assert enter.attr["T"].type == BFLOAT16
    assert enter.input[0] == "W/bfloat16"
    assert error(graph_def, after, ["y"], {"x": seeded((3, 8))}) < 2**-5


def residual(broadcasts=False, later=False):
    """A block whose shortcut and main path meet after strides, where TensorFlow cannot compare the unknown batches."""
    def make():
        x = v1.placeholder(tf.float32, (None, 9, 9, 8), "x")
        other = v1.placeholder(tf.float32, (None, 9, 9, 8), "x2") if broadcasts else x
        left = conv(other, "left", size=1, stride=2)
        right = conv(tf.nn.relu(conv(x, "one", size=1, stride=2)), "right")
        total = tf.nn.relu(R.AddV2(x=left, y=right, name="sum"))
        tf.identity(conv(total, "last") + (left if later else 0.0), "y")
    return build(make)


def test_residual_additions_are_merged():
    graph_def = residual()
    after, _ = lowered(graph_def)
    assert nodes(after)["sum"].op == "AddN"
    feeds = {"x": seeded((2, 9, 9, 8))}
    merged = [[one.decode() for one in node.attr["fused_ops"].list.s] for node in runtime_graph(after, "y", feeds).node]
    assert ["BiasAdd", "Add", "Relu"] in merged
    for batch in (1, 3):
        assert error(graph_def, after, ["y"], {"x": seeded((batch, 9, 9, 8))}) < 2**-6


def test_a_summand_that_is_read_later_keeps_its_value():
    graph_def = residual(later=True)
    assert error(graph_def, lowered(graph_def)[0], ["y"], {"x": seeded((2, 9, 9, 8))}) < 2**-6


def test_an_addition_that_may_broadcast_stays():
    graph_def = residual(broadcasts=True)
    after, _ = lowered(graph_def, inputs=("x", "x2"))
    assert nodes(after)["sum"].op == "AddV2"
    assert error(graph_def, after, ["y"], {"x": seeded((3, 9, 9, 8)), "x2": seeded((1, 9, 9, 8))}) < 2**-6


@pytest.mark.parametrize("approximate", [False, True])
def test_an_encoder(approximate):
    graph_def = encoder_models.frozen(approximate=approximate)
    graph = run(Graph.from_graph_def(graph_def, ["ids", "mask"], ["Identity"]), "default")[0]
    after, layers = lowered(as_graph_def(whole(graph)), ["Identity"], ["ids", "mask"])
    assert {layer.precision for layer in layers.values()} == {"bfloat16"}
    assert len(layers) == 2 * 8
    running = runtime_graph(after, "Identity", encoder_models.feeds(2))
    merged = [[one.decode() for one in node.attr["fused_ops"].list.s] for node in running.node]
    assert merged.count(["BiasAdd", "GeluApproximate" if approximate else "GeluExact"]) == 2
    assert ops(running)["_MklLayerNorm"] == 5
    assert "Rsqrt" not in ops(running)
    for batch in (1, 3):
        assert error(graph_def, after, ["Identity"], encoder_models.feeds(batch)) < 2**-5


def test_fed_weights_are_what_the_request_says():
    def make():
        x = v1.placeholder(tf.float32, (None, 8), "x")
        tf.matmul(x, tf.constant(seeded((8, 8)), name="W"), name="y")
    graph_def = build(make)
    after, _ = lowered(graph_def, inputs=("x", "W"))
    assert error(graph_def, after, ["y"], {"x": seeded((3, 8)), "W": seeded((8, 8), 5)}) < 2**-6


def test_the_number_that_an_index_is_made_of_stays_float32():
    def make():
        x = v1.placeholder(tf.float32, (None, 8), "x")
        scores = tf.tanh(tf.matmul(x, tf.constant(seeded((8, 8)))), name="scores")
        tf.argmax(scores, 1, name="best")
        tf.matmul(scores, tf.constant(seeded((8, 4), 2)), name="y")
    after, _ = lowered(build(make), ["best", "y"])
    assert nodes(after)["scores"].attr["T"].type == FLOAT


def test_every_operation_that_is_named_exists():
    named = regions.MOVES | regions._ARITHMETIC | regions._DECIDES | regions._LOOKUPS | regions._NOT_SMALLER
    assert [op for op in sorted(named) if op_def(op) is None] == []


@pytest.mark.parametrize("gelu", [
    lambda h: 0.5 * h * tf.math.erfc(-h * 0.70710678), lambda h: 0.5 * h * (1.0 + tf.math.erf(h / 1.41421356)),
    lambda h: h * (0.5 * (1.0 + tf.math.erf(0.70710678 * h)))], ids=["erfc", "division", "erf"])
def test_every_written_gelu_is_merged(gelu):
    def make():
        x = v1.placeholder(tf.float32, (None, 8), "x")
        hidden = gelu(tf.nn.bias_add(tf.matmul(x, tf.constant(seeded((8, 16)))), tf.constant(seeded((16,)))))
        tf.matmul(hidden, tf.constant(seeded((16, 4), 2)), name="y")
    graph_def = build(make)
    after, _ = lowered(graph_def)
    assert error(graph_def, after, ["y"], {"x": seeded((3, 8))}) < 2**-6
    merged = [list(node.attr["fused_ops"].list.s) for node in runtime_graph(after, "y", {"x": seeded((3, 8))}).node]
    assert [b"BiasAdd", b"GeluExact"] in merged
