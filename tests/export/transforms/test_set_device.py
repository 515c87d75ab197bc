import pytest
from graph_session import build, tf, transformed
from transform_oracle import ORACLE

v1 = tf.compat.v1


def placed():
    with tf.device("/device:CPU:0"):
        x = v1.placeholder(tf.float32, [2], "x")
    tf.add(x, 1.0, name="y")


@pytest.mark.parametrize("text", [
    "set_device(device=\"/device:CPU:1\")", "set_device(device=\"/device:CPU:1\", if_default=true)", "set_device"])
def test_gives_exactly_the_graph_that_the_tool_gives(text):
    before = build(placed)
    after, _ = transformed(before, ["x"], ["y"], text)
    assert list(after.node) == list(ORACLE.transform(before, ["x"], ["y"], text).node)
