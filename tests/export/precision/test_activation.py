"""Activations are told by what they compute, in whichever form they are written."""
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from graph_session import build, seeded, tf

from export.graph import Graph
from export.precision.activation import Activation, find

_ALL = ("Relu", "Relu6", "Elu", "Tanh", "Sigmoid", "LeakyRelu", "GeluExact", "GeluApproximate")
_ROOT = float(np.sqrt(2.0))
_SQRT = float(np.sqrt(2.0 / np.pi))
FORMS: dict[str, list[Callable[[Any], Any]]] = {
    "Relu": [tf.nn.relu, lambda x: tf.maximum(x, 0.0), lambda x: tf.maximum(0.0, tf.identity(x))],
    "Relu6": [tf.nn.relu6, lambda x: tf.minimum(tf.nn.relu(x), 6.0), lambda x: tf.clip_by_value(x, 0.0, 6.0),
              lambda x: tf.maximum(tf.minimum(x, 6.0), 0.0), lambda x: tf.minimum(6.0, tf.identity(tf.nn.relu(x)))],
    "Elu": [tf.nn.elu],
    "Tanh": [tf.tanh],
    "Sigmoid": [tf.sigmoid, lambda x: 1.0 / (1.0 + tf.exp(-x)), lambda x: 0.5 * (tf.tanh(0.5 * x) + 1.0)],
    "LeakyRelu": [lambda x: tf.nn.leaky_relu(x, 0.3), lambda x: tf.maximum(x, 0.3 * x),
                  lambda x: tf.nn.relu(x) - 0.3 * tf.nn.relu(-x)],
    "GeluExact": [
        lambda x: 0.5 * x * (1.0 + tf.math.erf(x / _ROOT)),
        lambda x: x * (0.5 * (1.0 + tf.math.erf(x * (1 / _ROOT)))),
        lambda x: 0.5 * x * tf.math.erfc(-x / _ROOT),
        lambda x: 0.5 * x * tf.math.erfc(x * -(1 / _ROOT)),
        lambda x: (x / 2.0) * (tf.math.erf(x / _ROOT) + 1.0),
        lambda x: tf.nn.gelu(x, approximate=False)],
    "GeluApproximate": [
        lambda x: 0.5 * x * (1.0 + tf.tanh(_SQRT * (x + 0.044715 * tf.pow(x, 3.0)))),
        lambda x: 0.5 * x * (1.0 + tf.tanh(_SQRT * (x + 0.044715 * x * x * x))),
        lambda x: 0.5 * x * (1.0 + tf.tanh(_SQRT * x * (1.0 + 0.044715 * tf.square(x)))),
        lambda x: x * tf.sigmoid(2.0 * _SQRT * (x + 0.044715 * x * x * x)),
        lambda x: tf.nn.gelu(x, approximate=True)]}


def _found(form: Callable[[Any], Any], known: Any = _ALL, outputs: tuple[str, ...] = ("y",),
           after: Callable[[Any], Any] = tf.identity, inputs: tuple[str, ...] = ("x",)) -> Activation | None:
    def make() -> None:
        x = tf.compat.v1.placeholder(tf.float32, (None, 4), "x")
        tf.reshape(form(tf.matmul(x, tf.constant(seeded((4, 4))), name="dense")), [-1], name="y")
    return find(Graph.from_graph_def(build(make), inputs, outputs), "dense", known, 2)


@pytest.mark.parametrize(("name", "number"), [(name, n) for name, forms in FORMS.items() for n in range(len(forms))])
def test_every_written_form(name: str, number: int) -> None:
    found = _found(FORMS[name][number])
    assert found is not None
    assert found.name == name
    assert found.alpha == pytest.approx(0.3 if name == "LeakyRelu" else 0)


@pytest.mark.parametrize("form", [
    lambda x: x, lambda x: 2.0 * x, lambda x: tf.nn.relu(x + 1.0), lambda x: x * tf.sigmoid(x), tf.nn.softplus,
    lambda x: 0.5 * x * (1.0 + tf.math.erf(x)), lambda x: tf.minimum(x, 6.0), lambda x: tf.nn.leaky_relu(x, 1.5),
    lambda x: tf.clip_by_value(x, 0.0, 20.0), lambda x: tf.nn.leaky_relu(tf.clip_by_value(x, -20.0, 20.0))])
def test_other_functions_are_none(form: Callable[[Any], Any]) -> None:
    assert _found(form) is None


def test_only_those_that_the_kernel_knows() -> None:
    assert _found(tf.tanh, known=("Relu",)) is None
    found = _found(lambda x: tf.minimum(tf.nn.relu(x), 6.0), known=("Relu",))
    assert found is not None
    assert len(found.members) == 1  # the Relu; what cuts at 6 stays


def test_a_constant_of_higher_rank_would_add_axes() -> None:
    assert _found(lambda x: tf.maximum(x, tf.zeros((1, 1, 1)))) is None
    assert _found(lambda x: tf.maximum(x, tf.zeros((1, 1)))) is not None


def test_another_reader_inside_or_before() -> None:
    def read_twice(x: Any) -> Any:
        half = 0.5 * x
        tf.identity(half, "other")
        return half * (1.0 + tf.math.erf(x / _ROOT))
    assert _found(read_twice) is not None  # nothing needs that Identity
    assert _found(read_twice, outputs=("y", "other")) is None
    assert _found(lambda x: tf.nn.relu(x) + tf.nn.softmax(x)) is None


def test_a_requested_or_fed_value_inside() -> None:
    def named(x: Any) -> Any:
        return tf.nn.relu(tf.identity(x, "inner"))
    assert _found(named) is not None
    assert _found(named, outputs=("y", "inner")) is None
    assert _found(named, outputs=("y", "dense")) is None
    assert _found(named, inputs=("x", "inner")) is None
