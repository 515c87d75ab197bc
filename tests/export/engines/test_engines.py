"""`optimize --engine`: what is published beside saved_model.pb, what is refused; it is proven as it is served."""
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from refused_runs import refused
from saved_models import random, save_v1, signature

import export
from export.engines.candidate import ForEngine
from serving.config import Flags
from serving.engines.choice import Engines
from serving.errors import ServingError
from serving.memory import MemoryLimit
from user_error import FailedError, UserError

v1 = tf.compat.v1


@pytest.mark.parametrize("precision", [*(pytest.param(precision, marks=pytest.mark.proof)
                                         for precision in ("float32", "float16")), "dynamic", "int8"])
def test_a_tflite_file_is_published_beside_a_saved_model_in_float32(
        model: Path, samples: Path, tmp_path: Path, precision: str) -> None:
    loss = {} if precision == "float32" else {"max_accuracy_drop": 10.0}
    made = export.optimize(model, to=tmp_path / "out", engine="litert", precision=precision, samples=samples,
                           unmeasured=True, batches=(1, 3), **loss)
    facts = json.loads((made.path / "assets.extra/manifest.json").read_text())
    assert (facts["precision"], facts["chosen"]) == ("float32", f"litert-{precision}")
    assert facts["engines"]["litert"]["precision"] == precision
    assert facts["engines"]["litert"]["signatures"] == ["serving_default"]
    assert ("budget" in facts["engines"]["litert"]) == (precision != "float32")
    assert facts["candidates"][-1]["alive"].startswith("alive: batch 0, 1, 2, 3")
    assert made.made is not None
    assert made.made.lines[0].endswith("MB; TensorFlow Serving and this project's server run it with "
                                       "--prefer_tflite_model")
    # What is served without the flag is equal, and with it, too, within what its manifest allows.
    assert export.verify(model, made.path, samples=samples).equal
    assert export.verify(model, made.path, samples=samples, engine="litert").equal
    assert export.verify(model, made.path, samples=samples, engine="litert", rtol=1e-5).equal == (
        precision == "float32")


def test_a_version_without_the_engine_cannot_be_verified_with_it(model: Path) -> None:
    with pytest.raises(UserError, match=r"has nothing for litert \(its manifest names no engine\): make it with"):
        export.verify(model, model, engine="litert")


def several(path: Path) -> Path:
    """Signatures of each kind: two with the same input, one with another, one that takes strings; two with checks."""
    with v1.Graph().as_default(), v1.Session() as session:
        x, z = v1.placeholder(tf.float32, [None, 4], "x"), v1.placeholder(tf.float32, [None, 4], "z")
        words = v1.placeholder(tf.string, [None], "words")
        weights = tf.constant(random(4, 5))
        below = tf.raw_ops.Assert(condition=tf.reduce_all(x < 1e6), data=["too large"], name="below")
        with tf.control_dependencies([below, v1.assert_greater(x, -1e6, name="above")]):
            scores = tf.nn.softmax(x @ weights, name="scores")
        other = tf.debugging.check_numerics(z, "not finite", name="finite")
        numbers = tf.strings.to_number(words)
        save_v1(path, session, {
            "serving_default": signature({"image": x}, {"scores": scores}),
            "embedding": signature({"image": x}, {"vector": tf.nn.relu(x @ weights, name="vector")}),
            "other": signature({"z": z}, {"scores": tf.nn.softmax(other @ weights, name="others")}),
            "text": signature({"words": words}, {"number": numbers})})
    return path


@pytest.mark.usefixtures("converted_here")
def test_dynamic_range_needs_no_examples_and_stores_large_weights_in_eight_bits(tmp_path: Path) -> None:
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 64], "x")
        scores = tf.nn.softmax(x @ tf.constant(random(64, 96)) / 8, name="scores")
        save_v1(tmp_path / "source" / "1", session, {
            "serving_default": signature({"image": x}, {"scores": scores})})
    sizes = {}
    for precision in ("float32", "dynamic"):
        made = export.optimize(tmp_path / "source", to=tmp_path / precision, engine="litert", precision=precision,
                               unmeasured=True, batches=(1, 3),
                               **({"max_accuracy_drop": 20.0, "max_error": 0.2} if precision == "dynamic" else {}))
        sizes[precision] = (made.path / "model.tflite").stat().st_size
    assert sizes["float32"] - sizes["dynamic"] > 2.7 * 64 * 96


@pytest.mark.usefixtures("converted_here")
def test_integers_that_keras_adds_as_a_bias_are_converted(tmp_path: Path) -> None:
    with v1.Graph().as_default(), v1.Session() as session:
        ids = v1.placeholder(tf.int32, [None, 4], "ids")
        placed = tf.nn.bias_add(ids * 0, tf.constant([0, 1, 2, 3]))
        x = tf.gather(tf.constant(random(6, 8)), ids) + tf.gather(tf.constant(random(4, 8)), placed)
        save_v1(tmp_path / "source" / "1", session, {
            "serving_default": signature({"ids": ids}, {"scores": tf.nn.softmax(tf.reduce_sum(x, 1), name="scores")})})
    made = export.optimize(tmp_path / "source", to=tmp_path / "lite", engine="litert", unmeasured=True, batches=(1, 3))
    assert made.manifest["engines"]["litert"]["signatures"] == ["serving_default"]


@pytest.mark.usefixtures("converted_here")
def test_integers_added_along_another_dimension_than_the_last_are_not_converted(tmp_path: Path) -> None:
    """Both dimensions have two places: an AddV2 would run, and answer something else."""
    with v1.Graph().as_default(), v1.Session() as session:
        ids = v1.placeholder(tf.int32, [None, 2, 2, 2], "ids")
        placed = tf.nn.bias_add(ids, tf.constant([1, 5]), data_format="NCHW")
        scores = tf.reduce_sum(tf.gather(tf.constant(random(9, 8)), placed), [1, 2, 3], name="scores")
        save_v1(tmp_path / "source" / "1", session, {"serving_default": signature({"ids": ids}, {"scores": scores})})
    with pytest.raises(UserError, match="it has no BiasAdd"):
        export.optimize(tmp_path / "source", to=tmp_path / "lite", engine="litert", unmeasured=True, batches=(1, 3))


@pytest.mark.usefixtures("converted_here")
def test_signatures_that_are_left_out_are_named(tmp_path: Path) -> None:
    made = export.optimize(several(tmp_path / "source" / "1"), to=tmp_path / "out", engine="litert", unmeasured=True,
                           batches=(1, 3))
    found = made.manifest["engines"]["litert"]
    assert found["signatures"] == ["embedding", "serving_default"]
    assert found["left"] == {
        "other": "it takes other inputs than 'serving_default', and a .tflite file has one set of inputs",
        "text": "input 'words' holds strings, and engines compute with numbers only"}
    assert made.made is not None
    assert [line.split(" is not converted")[0] for line in made.made.lines[1:3]] == [
        "  signature 'text'", "  signature 'other'"]
    # Checks are named for the signatures that were converted.
    assert made.made.lines[3:] == (
        "  litert leaves out 2 checks of signature 'serving_default' and answers what TensorFlow refuses for: "
        "'above/Assert/AssertGuard/Assert' (Assert), 'below' (Assert)",)
    assert made.to_json()["engines"]["litert"]["checks_left_out"] == {"serving_default": [
        {"node": "above/Assert/AssertGuard/Assert", "op": "Assert"}, {"node": "below", "op": "Assert"}]}
    assert made.to_json()["candidates"][-1]["written"]["checks_left_out"] == found["checks_left_out"]
    refused = {size: np.full([1, 4], size, np.float32) for size in (1e7, -1e7)}
    servable = Engines(Flags(prefer_tflite_model=True), MemoryLimit(-1)).load("m", 1, made.path)
    assert sorted(servable.signatures) == ["embedding", "serving_default"]
    for values in refused.values():
        assert servable.run(["x:0"], [values], ["scores:0"])[0].shape == (1, 5)
    servable.close()
    servable = Engines(Flags(), MemoryLimit(-1)).load("m", 1, made.path)
    for values in refused.values():
        with pytest.raises(ServingError, match="assertion failed"):
            servable.run(["x:0"], [values], ["scores:0"])
    servable.close()


def test_a_model_whose_served_signature_cannot_be_converted_is_refused(tmp_path: Path) -> None:
    source, to = several(tmp_path / "source" / "1"), tmp_path / "to"
    to.mkdir()
    said = refused(UserError, "cannot be converted: litert: signature 'text': input 'words' holds strings", source, to,
                   engine="litert", signatures=("text",), unmeasured=True)
    assert str(said).startswith("--engine litert --precision float32: ")


@pytest.mark.parametrize(("precision", "words"), [
    ("auto", "what eight bits change is seen with real examples, and there are none"), ("dynamic", "")])
def test_dynamic_range_is_not_chosen_from_others_without_real_examples(
        tmp_path: Path, precision: str, words: str) -> None:
    ready: Any = SimpleNamespace(job=SimpleNamespace(reduction=SimpleNamespace(precision=precision)), path=tmp_path)
    reference: Any = SimpleNamespace(some_real=False, signatures={})
    why = ForEngine(ready, reference, "litert", "dynamic").why_not()
    assert why.startswith(words)
    assert bool(why) == bool(words)


def test_int8_without_examples_is_refused(model: Path, tmp_path: Path) -> None:
    refused(UserError, "int8 measures ranges from real examples, and there are none", model, tmp_path, engine="litert",
            precision="int8", unmeasured=True)


@pytest.mark.usefixtures("converted_here")
def test_answers_outside_of_the_budget_are_refused(model: Path, samples: Path, tmp_path: Path) -> None:
    refused(FailedError, "litert-int8: 'scores' is off by", model, tmp_path, engine="litert", precision="int8",
            samples=samples, max_error=1e-6, max_accuracy_drop=100, unmeasured=True)


def test_an_engine_that_is_not_installed_is_one_line_before_anything_is_loaded(
        model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    refused(UserError, "--engine litert: the package ai-edge-litert is not installed; install it with: "
                   "pip install -e '.[litert]'", model, tmp_path, engine="litert")
    with pytest.raises(UserError, match="--engine litert: the package ai-edge-litert is not installed"):
        export.verify(model, model, engine="litert")


def test_one_conversion_may_not_take_longer_than_it_is_told(model: Path, tmp_path: Path) -> None:
    refused(UserError, "litert: the converter was not done in 0.05 s (--max-convert-time)", model, tmp_path,
            engine="litert", max_convert_time=0.05, unmeasured=True)
