"""`saved_model.reason` and `keras_errors.reason` keep what went wrong, and drop where the failing node was defined."""
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from export import keras_errors
from export.saved_model import reason

v1 = tf.compat.v1


def raised(call: Callable[[], object]) -> Exception:
    try:
        call()
    except Exception as error:  # noqa: BLE001 (any)
        return error
    raise AssertionError("nothing was raised")


@tf.function
def gather(index: Any) -> Any:
    return tf.gather([1.0, 2.0, 3.0], index)


@tf.function
def in_a_loop(index: Any) -> Any:
    return tf.while_loop(lambda x: x < 3, lambda x: tf.gather([5, 6], x + index), [tf.constant(1)])


@tf.function
def asserted(index: Any) -> Any:
    tf.debugging.assert_less(index, 3, "ids are below 3")
    return index


@tf.function
def by_python(index: Any) -> Any:
    return tf.numpy_function(lambda x: np.linalg.inv(np.zeros((2, 2))), [index], tf.float64)


@tf.function
def wrong_width(x: Any) -> Any:
    return tf.nn.conv2d(x, tf.zeros([3, 3, 3, 4]), 1, "SAME")


@tf.function(input_signature=[tf.TensorSpec(None)])
def product(x: Any) -> Any:
    return tf.matmul(x, tf.zeros([3, 3]))


@pytest.mark.parametrize(("call", "begins"), [
    (lambda: gather(tf.constant([9])), "indices[0] = 9 is not in [0, 3)"),
    (lambda: in_a_loop(tf.constant(9)), "indices = 10 is not in [0, 2)"),
    (lambda: asserted(tf.constant(9)), "assertion failed: [ids are below 3]"),
    (lambda: by_python(tf.constant(9)), "LinAlgError: Singular matrix"),
    (lambda: product(tf.zeros([2, 2])), "Matrix size-incompatible: In[0]: [2,2], In[1]: [3,3]"),
    (lambda: wrong_width(tf.zeros([1, 4, 4, 5])), "Depth of input (5) is not a multiple of input depth of filter (3)"),
    (lambda: keras.layers.Dense(2)(tf.zeros([])), "Input 0 with name"),
    (lambda: tf.saved_model.load("/nowhere"), "SavedModel file does not exist at: /nowhere"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_the_errors_of_tensorflow_2(call: Callable[[], object], begins: str) -> None:
    told = reason(raised(call))
    assert told.startswith(begins)
    assert not any(words in told for words in ("Graph execution error", "Detected at node", "File ", "[[", "Traceback"))


def test_the_errors_of_a_session() -> None:
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.int32, [None], "x")
        y = tf.reshape(x, [7])
        z = v1.get_variable("never_assigned", [2])
        assert reason(raised(lambda: session.run(y, {x: [9]}))) == (
            "Input to reshape is a tensor with 1 values, but the requested shape has 7")
        assert "never_assigned" in reason(raised(lambda: session.run(z)))


@pytest.mark.parametrize(("text", "expected"), [
    ("Graph execution error:\n\n", "InvalidArgumentError"),
    ("Graph execution error:\n\nout of range\n\t [[{{node a}}]]", "out of range"),
    ("Graph execution error:\n\nDetected at node 'a' defined at (most recent call last):\n<stack traces unavailable>\n"
     "Node: 'a'\nout of range\n\t [[{{node a}}]] [Op:__inference_f_1]", "out of range"),
    ("Graph execution error:\n\nDetected at node a defined at (most recent call last):\n<stack traces unavailable>\n"
     "out of range\n\t [[{{node a}}]] [Op:__inference_f_1]", "out of range"),
    ("2 root error(s) found.\n  (0) INVALID_ARGUMENT: out of range\n\t [[{{node a}}]]\n  (1) UNAVAILABLE: x",
     "out of range"),
    ("Graph execution error:\n\nDetected at node a defined at (most recent call last):\n  File \"x.py\", line 1\n\n"
     "2 root error(s) found.\n  (0) INVALID_ARGUMENT:  out of range\n\t [[{{node a}}]]\n  (1) UNAVAILABLE: x",
     "out of range"),
    ("first\n\nsecond", "first"), ("no marks at all", "no marks at all"),
    ("in user code:\n\n    File \"x.py\", line 1, in f  *\n        return g(x)\n    File \"y.py\", line 2, in g\n"
     "        raise KeyError\n\n    InvalidArgumentError: out of range\n", "out of range"),
    ("Exception encountered when calling Dense.call().\n\n\x1b[1mout of range\x1b[0m\n\nArguments received by "
     "Dense.call():\n  • inputs", "out of range"),
])
def test_each_form_of_message(text: str, expected: str) -> None:
    assert reason(tf.errors.InvalidArgumentError(None, None, text)) == expected


def test_a_keras_error_names_the_class_that_its_context_names() -> None:
    """Keras raises an error of its own while it handles the one that names the class."""
    def load() -> None:
        try:
            raise TypeError("Could not locate class 'Attention2'. Make sure custom classes are decorated.")
        except TypeError:
            raise ValueError("The layer could not be deserialized.\n\nconfig={}.") from None
    assert "it needs the class 'Attention2', which is not part of Keras" in keras_errors.reason(raised(load))


def test_keras_last_paragraph_is_the_reason(tmp_path: Path) -> None:
    error = ValueError("<class 'keras.layers.Dense'> could not be deserialized properly. Please ensure that components "
                       "that are Python object instances are registered.\n\nconfig={'units': 0}.\n\n"
                       "Exception encountered: Received an invalid value for `units`, expected a positive integer.")
    assert keras_errors.reason(error) == "Received an invalid value for `units`, expected a positive integer."


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of Keras' .h5 writer with numpy 2
def test_a_file_of_keras_2_names_the_class(tmp_path: Path) -> None:
    class Sharpen(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return x * 2
    start = keras.Input((4,))
    keras.Model(start, Sharpen()(start)).save(tmp_path / "model.h5")
    error = raised(lambda: keras.models.load_model(tmp_path / "model.h5"))
    assert "it needs the class 'Sharpen', which is not part of Keras" in keras_errors.reason(error)
