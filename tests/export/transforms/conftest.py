import pytest
from graph_session import build, tf, v1_control_flow
from hypothesis import HealthCheck, settings

# The same examples in every run; TensorFlow's own speed varies too much for a deadline.
settings.register_profile("derandomized", derandomize=True, deadline=None, database=None,
                          suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("derandomized")


@pytest.fixture
def v1_loop():
    """y = x doubled four times, in a while loop of Enter, Merge, Switch, NextIteration and Exit."""
    def make():
        x = tf.compat.v1.placeholder(tf.float32, (2,), "x")
        tf.identity(tf.compat.v1.while_loop(lambda i, _: i < 4, lambda i, value: (i + 1, value * 2.0), [0, x])[1], "y")
    with v1_control_flow():
        return build(make)
