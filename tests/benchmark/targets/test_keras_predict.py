"""Keras' predict as a target: the whole request as one batch, answers by signature key, and reasons in one line."""
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from foreign_engines import answered

from benchmark.targets.in_process import keras_predict
from export.runtime import tf
from user_error import FailedError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")]


def saved(version: Path, model: keras.Model) -> Path:
    """The model as Keras exports it, and model.keras beside."""
    model.export(str(version), verbose=False)
    (version / "assets.extra").mkdir()
    model.save(version / "assets.extra/model.keras")
    return version


def dense() -> keras.Model:
    x = keras.Input((4,), name="x")
    return keras.Model(x, keras.layers.Dense(3)(x))


def twelve_outputs_of_two_inputs() -> keras.Model:
    """Keras' export calls the outputs output_0 to output_11."""
    first, second = keras.Input((4,), name="b_first"), keras.Input((4,), name="a_second")
    scaled = [keras.layers.Rescaling(float(factor))(first - 2.0 * second) for factor in range(12)]
    return keras.Model([first, second], scaled)


def named_outputs() -> keras.Model:
    x = keras.Input((4,), name="x")
    return keras.Model(x, {"twice": keras.layers.Rescaling(2.0)(x), "half": keras.layers.Rescaling(0.5)(x)})


def words() -> keras.Model:
    text = keras.Input((1,), dtype="string", name="text")
    layer = keras.layers.TextVectorization(output_sequence_length=4, vocabulary=["a", "b", "c"])
    return keras.Model(text, keras.layers.Rescaling(1.0)(layer(text)))


@keras.saving.register_keras_serializable()
class BatchSize(keras.layers.Layer):
    """The number of examples, everywhere."""

    def call(self, inputs: Any) -> Any:
        return tf.zeros_like(inputs) + tf.cast(tf.shape(inputs)[0], tf.float32)


def numbers(*names: str) -> Callable[[int], dict[str, Any]]:
    return lambda batch: {name: np.random.default_rng(index).random((batch, 4), np.float32)
                          for index, name in enumerate(names)}


@pytest.mark.parametrize(("model", "inputs"), [
    (dense, numbers("x")),
    (twelve_outputs_of_two_inputs, numbers("a_second", "b_first")),
    (named_outputs, numbers("x")),
    (words, lambda batch: {"text": np.array([[b"a c"], [b"b x a"], [b""]] * batch, object)[:batch]})])
def test_it_answers_as_the_exported_model_does(model: Callable[[], keras.Model], inputs: Callable[[int], Any],
                                               tmp_path: Path) -> None:
    version = saved(tmp_path / "mine/original/1", model())
    requests = [inputs(batch) for batch in (1, 5, 70)]
    function = tf.saved_model.load(str(version)).signatures["serving_default"]
    _, run = keras_predict.load(str(version), "serving_default", 0)
    for request in requests:
        found = run(request)
        expected = function(**{name: tf.constant(value) for name, value in request.items()})
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-6)


def test_a_request_is_one_batch(tmp_path: Path) -> None:
    """By default, Keras would cut it into batches of 32."""
    x = keras.Input((4,), name="x")
    model = keras.Model(x, BatchSize()(x))
    assert model.predict(np.zeros((70, 4)), verbose=0).max() == 32
    version = saved(tmp_path / "mine/original/1", model)
    _, run = keras_predict.load(str(version), "serving_default", 0)
    (answer,) = run({"x": np.zeros((70, 4), np.float32)}).values()
    assert (answer == 70).all()


def without_file(version: Path) -> None:
    (version / "assets.extra/model.keras").unlink()


def cut(version: Path) -> None:
    (version / "assets.extra/model.keras").write_bytes(b"cut")


def of_other_inputs(version: Path) -> None:
    twelve_outputs_of_two_inputs().save(version / "assets.extra/model.keras")


@pytest.mark.parametrize(("change", "words_of_it"), [
    (without_file, r"1 has no assets.extra/model.keras, which Keras runs: save the same model there with "),
    (cut, r"Keras does not load assets.extra/model.keras: [^\n]+; save it again with this version of Keras"),
    (of_other_inputs, r"model.keras has no input 'x', which the signature has, only a_second, b_first: give the "
                      "model's inputs the names of the signature's")])
def test_what_cannot_be_run_is_a_reason_in_one_line(change: Callable[[Path], None], words_of_it: str, tmp_path: Path
                                                    ) -> None:
    version = saved(tmp_path / "mine/original/1", dense())
    change(version)
    with pytest.raises(SystemExit, match=words_of_it) as refused:
        keras_predict.load(str(version), "serving_default", 0)
    assert "\n" not in str(refused.value)


def test_it_is_a_target_of_its_own_process(tmp_path: Path) -> None:
    version, request = saved(tmp_path / "mine/original/1", dense()), numbers("x")(5)
    _, run = keras_predict.load(str(version), "serving_default", 0)
    (found,) = answered("keras", version, request, threads=1)
    np.testing.assert_allclose(found["output_0"], run(request)["output_0"], rtol=1e-5)


def test_an_engine_that_does_not_load_says_why(tmp_path: Path) -> None:
    version = saved(tmp_path / "mine/original/1", dense())
    with pytest.raises(FailedError, match="no signature 'absent': there are serve, serving_default"):
        answered("keras", version, signature="absent")
