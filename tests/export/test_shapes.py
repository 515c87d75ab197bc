from graph_session import build, tf

from export.graph import Graph
from export.shapes import static_shapes


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
    shapes = static_shapes(Graph.from_graph_def(graph_def))
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(graph_def, name="")
    expected = {operation.name: tuple(operation.outputs[0].shape.as_list()) for operation in graph.get_operations()}
    assert {name: shapes[name] for name in expected} == expected
