"""`optimize --engine openvino`: what is written, which signatures TensorFlow keeps, and that it is proven as served."""
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from saved_models import BUILDERS, random, save_v1, signature

import export
from serving.config import Flags
from serving.engines.choice import Engines
from serving.errors import Code, ServingError
from serving.memory import MemoryLimit
from user_error import FailedError, UserError
from version_directory import OPENVINO

v1 = tf.compat.v1


@pytest.mark.parametrize("precision", [pytest.param("float32", marks=pytest.mark.proof), "bfloat16", "int8"])
def test_a_graph_of_openvino_is_published_beside_a_saved_model_in_float32(
        model: Path, samples: Path, tmp_path: Path, precision: str) -> None:
    loss = {} if precision == "float32" else {"max_accuracy_drop": 10.0}
    made = export.optimize(model, to=tmp_path / "out", engine="openvino", precision=precision, samples=samples,
                           unmeasured=True, batches=(1, 3), **loss)
    listing = json.loads((made.path / OPENVINO / "engine.json").read_text())
    assert listing["precision"] == precision == made.manifest["engines"]["openvino"]["precision"]
    assert listing["graphs"] == [{"model": "0.xml", "weights": "0.bin", "inputs": ["image:0"],
                                  "outputs": ["scores:0"], "limits": {}}]
    assert sorted(listing["sha256"]) == ["0.bin", "0.xml"]
    assert made.manifest["precision"] == "float32"
    assert ("budget" in made.manifest["engines"]["openvino"]) == (precision != "float32")
    assert export.verify(model, made.path, samples=samples).equal
    assert export.verify(model, made.path, samples=samples, engine="openvino").equal


def several(path: Path) -> Path:
    with v1.Graph().as_default(), v1.Session() as session:
        ids, words = v1.placeholder(tf.int64, [None], "ids"), v1.placeholder(tf.string, [None], "words")
        rows = tf.gather(tf.constant(random(7, 3)), ids)
        save_v1(path, session, {
            "serving_default": signature({"ids": ids}, {"scores": tf.nn.softmax(rows, name="scores")}),
            "same": signature({"ids": ids}, {"other_key": tf.nn.softmax(rows, name="again")}),
            "later": signature({"ids": ids}, {"next": tf.identity(ids + 1, "next")}),
            "text": signature({"words": words}, {"number": tf.strings.to_number(words)})})
    return path


def test_tensorflow_keeps_the_signatures_that_are_left_out_and_indices_have_limits(tmp_path: Path) -> None:
    x = tmp_path / "x.npz"
    np.savez(x, ids=np.arange(7), words=np.array([b"1", b"2"] * 4)[:7])
    made = export.optimize(several(tmp_path / "source/1"), to=tmp_path / "out", engine="openvino", unmeasured=True,
                           batches=(1, 3), samples=x)
    assert made.manifest["engines"]["openvino"]["signatures"] == ["same", "serving_default"]
    assert made.manifest["engines"]["openvino"]["left"] == {
        "later": "'add' (AddV2) computes with 64-bit integers, and OpenVINO computes these with 32 bits",
        "text": "input 'words' holds strings, and engines compute with numbers only"}
    servable = Engines(Flags(engine="openvino"), MemoryLimit(-1)).load("m", 1, made.path)
    assert servable.run(["ids:0"], [np.array([1 << 40])], ["next:0"])[0].tolist() == [(1 << 40) + 1]
    assert servable.run(["ids:0"], [np.array([6])], ["scores:0"])[0].shape == (1, 3)
    for wrong in (7, -1, 1 << 32):
        with pytest.raises(ServingError) as refused:
            servable.run(["ids:0"], [np.array([3, wrong])], ["scores:0"])
        assert refused.value.code is Code.INVALID_ARGUMENT
        assert str(refused.value) == f"indices[1] = {wrong} is not in [0, 7)"
    servable.close()


def test_an_input_of_unknown_rank_stays_with_tensorflow(tmp_path: Path) -> None:
    BUILDERS["half_plus_two"](tmp_path / "source/1")
    with pytest.raises(UserError, match="signature 'serving_default': not even the number of axes of 'x' is known"):
        export.optimize(tmp_path / "source/1", to=tmp_path / "out", engine="openvino", unmeasured=True, batches=(1, 3))


@pytest.mark.parametrize("kind", ["four_outputs", *(
    pytest.param(kind, marks=pytest.mark.proof) for kind in ("v1_control_flow", "defaults", "recurrent"))])
def test_kinds_of_models_that_openvino_runs_with_equal_answers(kind: str, tmp_path: Path) -> None:
    """An output that is an input, scalars that were variables, an input with a default, loops of TensorFlow 1 and 2."""
    BUILDERS[kind](tmp_path / "source/1")
    made = export.optimize(tmp_path / "source/1", to=tmp_path / "out", engine="openvino", unmeasured=True,
                           batches=(1, 3))
    assert made.manifest["engines"]["openvino"]["left"] == {}


def test_an_engine_whose_answers_differ_is_refused(tmp_path: Path) -> None:
    BUILDERS["tf1_resource"](tmp_path / "source/1")  # of float64, which OpenVINO computes in float32
    with pytest.raises(FailedError, match="openvino-float32: signature 'serving_default': output 'y' is out of its"):
        export.optimize(tmp_path / "source/1", to=tmp_path / "out", engine="openvino", unmeasured=True, batches=(1, 3))
    assert not (tmp_path / "out").exists()
