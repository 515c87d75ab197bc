"""Models in other forms than a SavedModel."""
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import saved_models
import tensorflow as tf

from commandline import status_of
from export import saved_model, sources
from user_error import UserError

v1 = tf.compat.v1
Run = Callable[..., object]
# Keras 3.15 on numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


def answer(base: Path, inputs: dict[str, np.ndarray], key: str = "serving_default") -> dict[str, np.ndarray]:
    model = saved_model.read(base)
    signature = model.signatures[key]
    with saved_model.session(model) as session:
        return dict(session.run({name: info.name for name, info in signature.outputs.items()},
                                {signature.inputs[name].name: value for name, value in inputs.items()}))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_keras_file(run: Run, tmp_path: Path, suffix: str) -> None:
    x = keras.Input((4,), name="features")
    model = keras.Model(x, keras.layers.Dense(3, activation="tanh")(x))
    saved_models.randomize(model)
    model.save(tmp_path / f"model{suffix}")
    run("optimize", tmp_path / f"model{suffix}", "--to", tmp_path / "o")
    examples = saved_models.random(5, 4)
    np.testing.assert_allclose(answer(tmp_path / "o", {"features": examples})["output_0"],
                               model.predict(examples, verbose=0), rtol=1e-5)


@pytest.mark.parametrize(("error", "says"), [
    (OSError("the layer has no weights"), "cannot be loaded as a Keras model: the layer has no weights"),
    (tf.errors.InvalidArgumentError(None, None, "shapes differ"), "cannot be loaded as a Keras model: shapes differ")])
def test_keras_model_that_cannot_be_exported(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                             error: Exception, says: str) -> None:
    """An error of the model itself is not reported as a failure to write its file."""
    def export(*_args: object, **_options: object) -> None:
        raise error

    keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).save(tmp_path / "model.keras")
    monkeypatch.setattr(keras.Model, "export", export)
    with pytest.raises(UserError, match=says):
        run("optimize", tmp_path / "model.keras", "--to", tmp_path / "o")


def test_directory_of_models_in_other_forms(run: Run, tmp_path: Path) -> None:
    for name in ("b.keras", "a.pb", "notes.txt"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=rf"holds a\.pb, b\.keras: give a file, {tmp_path}/a\.pb"):
        run("optimize", tmp_path, "--to", tmp_path / "o")


def test_file_that_is_not_a_keras_model(run: Run, tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"not a zip file")
    with pytest.raises(UserError, match=r"model\.keras cannot be loaded as a Keras model") as caught:
        run("optimize", tmp_path / "model.keras", "--to", tmp_path / "o")
    assert status_of(caught.value) == 2
    assert [child.name for child in tmp_path.iterdir()] == ["model.keras"]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """As in the g2p article: a training graph's checkpoint, of whose endpoints only the names are known."""
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 4], "x")
        w = v1.get_variable("w", initializer=saved_models.random(4, 2), use_resource=False)
        y = tf.tanh(x @ w, name="y")
        v1.train.AdamOptimizer().minimize(tf.reduce_sum(y))
        session.run(v1.global_variables_initializer())
        return Path(v1.train.Saver().save(session, str(tmp_path / "train" / "model.ckpt"), 900))


@pytest.mark.parametrize("named", [
    ["--from-checkpoint", "model.ckpt-900"], ["model.ckpt-900", "--from-checkpoint"], ["model.ckpt-900"],
    ["model.ckpt-900.meta"], [""]], ids=" ".join)
def test_checkpoint_with_its_meta_graph(run: Run, checkpoint: Path, tmp_path: Path, named: list[str]) -> None:
    named = [word if word.startswith("--") else str(checkpoint.parent / word) for word in named]
    run("optimize", *named, "--inputs", "x=x:0", "--outputs", "y", "--to", tmp_path / "o")
    examples = saved_models.random(3, 4, seed=5)
    expected = np.tanh(examples @ saved_models.random(4, 2))
    np.testing.assert_allclose(answer(tmp_path / "o", {"x": examples})["y"], expected, rtol=1e-5)
    assert not (saved_model.find(tmp_path / "o") / "variables").exists()


def test_another_checkpoint_in_the_directory_is_another_source(checkpoint: Path) -> None:
    before = sources.Source.found(str(checkpoint.parent)).digest()
    assert before == sources.Source.found(str(checkpoint.parent)).digest()
    (checkpoint.parent / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-901"\n')
    assert sources.Source.found(str(checkpoint.parent)).digest() != before


def test_checkpoint_without_endpoints(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has the placeholders x, and nothing reads .*y"):
        run("optimize", checkpoint, "--from-checkpoint", "--to", tmp_path / "o")
    with pytest.raises(UserError, match=r"nothing\.meta: no such file"):
        run("optimize", checkpoint.parent / "nothing", "--from-checkpoint", "--to", tmp_path / "o")


@pytest.mark.parametrize("suffix", [".pb", ".pbtxt"])
def test_frozen_graph(run: Run, source: Callable[[str], Path], tmp_path: Path, suffix: str) -> None:
    frozen = tmp_path / f"frozen{suffix}"
    run("freeze", source("keras3"), "--out", frozen, "--signatures", "serving_default")
    output = saved_model.read(source("keras3")).signatures["serving_default"].outputs["output_0"].name
    run("optimize", frozen, "--inputs", "image=serving_default_image:0", "--outputs", f"scores={output}",
        "--to", tmp_path / "o")
    examples = saved_models.random(2, 8, 8, 3)
    expected = answer(source("keras3"), {"image": examples})["output_0"]
    np.testing.assert_allclose(answer(tmp_path / "o", {"image": examples})["scores"], expected, atol=1e-6)


def test_frozen_graph_without_endpoints_names_the_candidates(run: Run, source: Callable[[str], Path],
                                                             tmp_path: Path) -> None:
    frozen = tmp_path / "frozen.pb"
    run("freeze", source("four_outputs"), "--out", frozen)
    with pytest.raises(UserError, match="placeholders serving_default_x"):
        run("optimize", frozen, "--to", tmp_path / "o")
    with pytest.raises(UserError, match=r"no node 'serving_defualt_x' \(did you mean 'serving_default_x'\?\)"):
        run("optimize", frozen, "--inputs", "x=serving_defualt_x", "--outputs", "StatefulPartitionedCall:1",
            "--to", tmp_path / "o")


def test_graph_with_variables_is_not_frozen(run: Run, source: Callable[[str], Path], tmp_path: Path) -> None:
    graph_def = saved_model.read(source("tf_module")).meta_graph.graph_def
    (tmp_path / "graph.pb").write_bytes(graph_def.SerializeToString())
    with pytest.raises(UserError, match="is a variable, whose value a GraphDef does not hold"):
        run("optimize", tmp_path / "graph.pb", "--inputs", "x", "--outputs", "y", "--to", tmp_path / "o")


def test_path_that_tensorflow_reads(run: Run, source: Callable[[str], Path], tmp_path: Path) -> None:
    run("optimize", f"file://{source('strings')}", "--to", tmp_path / "o")
    assert answer(tmp_path / "o", {"text": np.array([b"a"]), "upper": np.array([True])})["text"] == [b"A"]
    with pytest.raises(UserError, match="no such file or directory"):
        run("optimize", f"file://{tmp_path}/missing", "--to", tmp_path / "o")


def test_saved_model_pb_itself(run: Run, source: Callable[[str], Path], tmp_path: Path) -> None:
    run("optimize", source("int64") / "1" / "saved_model.pb", "--to", tmp_path / "o")
    assert answer(tmp_path / "o", {"ids": np.array([[3]])})["values"] == [[21]]
