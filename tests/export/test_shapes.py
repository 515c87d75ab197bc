"""Shapes known before the run, against TensorFlow's own inference over the whole graph."""
import pytest
from affine_models import CONTRACTIONS
from graph_session import build, seeded, tf
from graph_strategies import Drawn, drawn_graphs
from hypothesis import given, settings

from export.graph import Graph

v1 = tf.compat.v1


def agree(graph_def):
    """Checks that every known shape is the one TensorFlow infers; returns the shapes."""
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(graph_def, name="")
    ours = Graph.from_graph_def(graph_def).shapes
    for operation in graph.get_operations():
        for number, output in enumerate(operation.outputs):
            shape = ours.get(operation.name if number == 0 else f"{operation.name}:{number}")
            if shape is None:
                continue
            theirs = output.shape.as_list()
            assert len(shape) == len(theirs), operation.name
            for mine, known in zip(shape, theirs, strict=True):
                assert mine is None or mine == known, (operation.name, shape, theirs)
    return ours


@settings(max_examples=20, derandomize=True, deadline=None)
@given(drawn_graphs())
def test_shapes_never_differ_from_tensorflows(drawn: Drawn):
    shapes = agree(drawn.graph_def)
    assert shapes["y"] is not None


@pytest.mark.parametrize("contraction", CONTRACTIONS)
def test_rank_and_channels_of_contractions(contraction):
    shape, contract = CONTRACTIONS[contraction]
    graph_def = build(lambda: tf.identity(contract(v1.placeholder(tf.float32, shape, "x")), "y"))
    found = agree(graph_def)["y"]
    assert found is not None
    assert found[-1] == 6


def test_ops_without_a_rule_use_tensorflows_shape_function():
    def make():
        x = v1.placeholder(tf.float32, [None, 6, 3], "x")
        first, _ = tf.unstack(x[:, :2], axis=1)
        tf.gather(first, tf.argmax(first, axis=-1), axis=1, name="gathered")
        tf.one_hot(tf.cast(first[:, 0], tf.int32), 7, name="hot")
        tf.identity(tf.einsum("bij,jk->bik", x, seeded([3, 5])), "product")
    shapes = agree(build(make))
    assert shapes["hot"] == (None, 7)
    assert shapes["product"] == (None, 6, 5)
    assert shapes["unstack"] == (None, 3)
    assert shapes["unstack:1"] == (None, 3)


@pytest.mark.parametrize(("elements", "count", "expected"), [
    ((None, 8), 5, (5, None, 8)), ((8,), None, (None, 8)), ((), 2, (2,)), (None, 5, None)])
def test_a_stack_of_a_list(elements, count, expected):
    def make():
        shape = tf.constant(-1 if elements is None else [-1 if size is None else size for size in elements], tf.int32)
        kept = tf.raw_ops.TensorListReserve(element_shape=shape, num_elements=5, element_dtype=tf.float32)
        tf.raw_ops.TensorListStack(input_handle=kept, element_shape=shape, element_dtype=tf.float32,
                                   num_elements=-1 if count is None else count, name="stack")
    assert agree(build(make)).get("stack") == expected


def test_shapes_that_depend_on_a_function_or_a_resource_are_unknown():
    def make():
        x = v1.placeholder(tf.float32, [2], "x")
        tf.identity(tf.function(lambda value: value + 1.0)(x), "y")
        v1.Variable([1.0, 2.0], use_resource=True)
    assert agree(build(make)).get("y") is None


def _windows():
    """Convolutions and pools of known and unknown images, in every padding, with strides and dilations."""
    v1 = tf.compat.v1
    images = v1.placeholder(tf.float32, (None, 11, 14, 4)), v1.placeholder(tf.float32, (None, None, 14, 4))
    for x in images:
        for padding in ("SAME", "VALID", [[0, 0], [1, 2], [0, 3], [0, 0]]):
            for stride in (1, 2, 3):
                for dilation in (1, 2):
                    tf.nn.conv2d(x, tf.zeros((3, 2, 4, 5)), stride, padding, dilations=dilation)
                if isinstance(padding, str):
                    tf.nn.max_pool2d(x, [2, 3], stride, padding)
                    tf.nn.avg_pool2d(x, [2, 3], stride, padding)
            tf.nn.depthwise_conv2d(x, tf.zeros((3, 2, 4, 2)), [1] * 4, padding)
    volumes = v1.placeholder(tf.float32, (2, 7, 9, 8, 3))
    channels_first = v1.placeholder(tf.float32, (2, 4, 11, 14))
    for padding in ("SAME", "VALID"):
        tf.nn.conv3d(volumes, tf.zeros((2, 3, 2, 3, 4)), [1, 1, 2, 2, 1], padding)
        tf.nn.max_pool3d(volumes, 2, 2, padding)
        tf.nn.conv2d(channels_first, tf.zeros((3, 2, 4, 5)), 2, padding, data_format="NCHW")
        tf.nn.max_pool2d(channels_first, 2, 2, padding, data_format="NCHW")


def test_windows_are_sized_as_tensorflow_sizes_them():
    graph_def = build(_windows)
    shapes = Graph.from_graph_def(graph_def).shapes
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(graph_def, name="")
    expected = {operation.name: tuple(operation.outputs[0].shape.as_list()) for operation in graph.get_operations()}
    assert {name: shapes[name] for name in expected} == expected
