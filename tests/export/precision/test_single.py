"""`optimize` in one precision: what is published, and what is refused with which exit status. Nothing is timed here."""
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_classifier
import tensorflow as tf
from click.testing import CliRunner
from made_up_times import MadeUpTimes, replaced
from refused_runs import refused

import export
from commandline import status_of
from export import optimization
from export.outcome import NotEqualError, RefusedError
from export.precision.choice import Ratio
from export.precision.single import pointless
from user_error import UserError


def test_int8_is_published_with_its_layers_budget_and_accuracy(model: Path, samples: Path, tmp_path: Path) -> None:
    made = export.optimize(model, to=tmp_path / "out", precision="int8", samples=samples, unmeasured=True,
                           max_accuracy_drop=10, batches=(1, 3))
    assert os.listdir(tmp_path) == ["out"]
    facts = json.loads((made.path / "assets.extra/manifest.json").read_text())
    assert facts["precision"] == facts["chosen"] == "int8"
    assert facts["cpu_class"]
    assert [layer["precision"] for layer in facts["layers"]] == ["int8"] * 3
    assert facts["budget"]["max_accuracy_drop"] == 10
    assert 0 < facts["budget"]["signatures"]["serving_default"]["scores"] < 0.5
    assert facts["candidates"][0]["alive"].startswith("alive: batch 1, 2, 3")
    assert made.made is not None
    report = made.made.equality.signatures["serving_default"]
    assert (report.real, report.random, report.accuracy["before"]) == (48, 0, 1.0)
    assert report.comparison.outputs["scores"].row == "reduced precision, at most 10 points of accuracy lost"
    assert made.made.lines[0] == "int8: 3 layers int8"
    assert made.made.bytes[1] < made.made.bytes[0] / 2
    verified = export.verify(model, made.path, samples=samples)
    assert verified.equal
    assert verified.signatures["serving_default"].comparison.outputs["scores"].row.startswith("int8 by its manifest")
    assert not export.verify(model, made.path, samples=samples, rtol=1e-4).equal


def test_a_fixed_batch_size_is_calibrated_and_searched_in_requests_of_that_size(
        samples: Path, tmp_path: Path) -> None:
    source, folder = small_classifier.write(tmp_path / "source", batch=16), tmp_path / "no"
    folder.mkdir()
    made = export.optimize(source, to=tmp_path / "out", precision="int8", samples=samples, unmeasured=True,
                           max_accuracy_drop=10)
    assert [layer["precision"] for layer in made.manifest["layers"]] == ["int8"] * 3
    assert made.manifest["candidates"][0]["alive"].startswith("alive: batch 16 answered;")
    error = refused(NotEqualError, "with layers back in a higher precision, too", source, folder,
                    precision="int8", samples=samples, max_error=1e-7, max_accuracy_drop=100)
    assert isinstance(error, NotEqualError)
    assert len(error.report["candidates"][0]["search"][-1]["kept"]) == 3


def test_bfloat16_needs_no_samples_and_keeps_what_is_named(model: Path, tmp_path: Path) -> None:
    made = export.optimize(model, to=tmp_path / "out", precision="bfloat16", unmeasured=True, max_accuracy_drop=10,
                           keep_float32=["Conv2D"])
    assert made.manifest["precision"] == "bfloat16"
    assert {layer["node"]: layer["precision"] for layer in made.manifest["layers"]}["Conv2D"] == "float32"
    assert "bfloat16" in [layer["precision"] for layer in made.manifest["layers"]]
    assert made.made is not None
    assert any(line.startswith("  'Conv2D' (Conv2D) is float32: ") for line in made.made.lines)


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_storage_is_for_size_alone(model: Path, tmp_path: Path, storage: str) -> None:
    made = export.optimize(model, to=tmp_path / "out", storage=storage, max_accuracy_drop=10)
    assert made.manifest["precision"] == "float32"
    assert made.manifest["chosen"] == f"storage-{storage}"
    assert made.manifest["budget"]["signatures"]["serving_default"]["scores"] < 0.2
    assert made.made is not None
    stored = made.manifest["storage"]
    assert 0 < stored["bytes_after"] < stored["bytes_before"]
    assert made.made.lines[0].startswith(f"{stored['constants']} constants in {storage}: ")
    assert "cpu_class" not in made.manifest  # it is as fast, or slow, everywhere
    assert made.made.bytes[1] < (0.65 if storage == "float16" else 0.4) * made.made.bytes[0]


def test_storage_has_a_budget_too(model: Path, tmp_path: Path) -> None:
    refused(NotEqualError, "nothing published, storage-int8: 'scores' is off by", model, tmp_path, storage="int8",
            max_error=1e-7, max_accuracy_drop=100)


def test_random_weights_are_calibrated_on_made_up_examples_and_the_output_says_what_that_proves(
        tmp_path: Path) -> None:
    source = small_classifier.write(tmp_path / "source", maps=True)
    (source / "assets.extra").mkdir()
    (source / "assets.extra/manifest.json").write_text(json.dumps({"facts": {"weights": "random"}}))
    made = export.optimize(source, to=tmp_path / "out", precision="int8", unmeasured=True)
    assert made.made is not None
    assert {name: output.row for name, output in made.made.equality.signatures[
        "serving_default"].comparison.outputs.items()} == {
            "maps": "reduced precision, nothing asked of random weights",
            "scores": "reduced precision, at most 100 points of agreement lost"}
    assert made.made.lines[-1] == ("The source's weights are random, so this proves speed and nothing about accuracy.")
    assert made.manifest["weights"] == "random"  # so that a version made from this one says so too


def test_without_samples_int8_is_refused(model: Path, tmp_path: Path) -> None:
    refused(UserError, "--precision int8: int8 measures ranges from real examples, and there are none: give them with "
            "--samples X.npz (arrays named as the inputs: image)", model, tmp_path, precision="int8")


@pytest.mark.parametrize(("arrays", "words"), [
    ({"picture": small_classifier.images(4)}, "the samples' array 'picture' is no input"),
    ({"image": np.zeros((4, 12, 12), np.float32)}, "the samples of input 'image' are float32 [4, 12, 12], but the "
                                                   "signature takes float32 [-1, 12, 12, 8]"),
    ({"image": np.full((4, 12, 12, 8), "a")}, "the samples of input 'image' are"),
    ({"image": small_classifier.images(4), "labels": np.arange(3)},
     "the samples' array 'labels' is int64 [3]: for the 4 examples"),
    ({"image": small_classifier.images(4), "labels": np.eye(4)}, "the samples' array 'labels' is float64 [4, 4]"),
], ids=["key", "shape", "dtype", "few labels", "one-hot labels"])
def test_wrong_samples_are_refused(model: Path, tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    folder = tmp_path / "to"
    folder.mkdir()
    np.savez(tmp_path / "x.npz", **arrays)
    refused(UserError, words, model, folder, precision="int8", samples=tmp_path / "x.npz")


@pytest.mark.parametrize("dtype", [tf.float64, tf.float16], ids=lambda dtype: dtype.name)
def test_an_unsupported_dtype_is_refused(tmp_path: Path, dtype: Any) -> None:
    source, folder = small_classifier.write(tmp_path / "source", dtype), tmp_path / "to"
    folder.mkdir()
    for precision in ("bfloat16", "int8"):
        error = refused(UserError, "has nothing to reduce: its 3 contractions are ", source, folder,
                        precision=precision)
        assert f"{'double' if dtype == tf.float64 else 'half'} (such as 'Conv2D')" in str(error)
        assert "convert the model to float32 before it is exported" in str(error)


def test_a_graph_with_nothing_to_reduce_is_refused(tmp_path: Path) -> None:
    source, folder = small_classifier.write(tmp_path / "source", dense=False), tmp_path / "to"
    folder.mkdir()
    refused(UserError, f"{source} has nothing to reduce: it has no contraction (convolution or matrix product) with "
            "constant weights; --precision float32 optimizes it", source, folder, precision="bfloat16")


def test_a_name_that_is_no_contraction_is_refused(model: Path, tmp_path: Path) -> None:
    refused(UserError, "--keep-float32 Conv2: the optimized graph has no contraction of that name (did you mean "
            "'Conv2D", model, tmp_path, precision="bfloat16", keep_float32=["Conv2"])


def test_an_output_that_is_no_class_needs_a_stated_error(tmp_path: Path) -> None:
    source, folder = small_classifier.write(tmp_path / "source", maps=True), tmp_path / "to"
    folder.mkdir()
    refused(UserError, "output 'maps' has no classes of which the top one could be compared: state with --max-error X",
            source, folder, precision="bfloat16")
    made = export.optimize(source, to=folder / "out", precision="bfloat16", max_error=0.1, max_accuracy_drop=20,
                           unmeasured=True)
    assert made.made is not None
    rows = {name: output.row for name, output in made.made.equality.signatures[
        "serving_default"].comparison.outputs.items()}
    assert rows == {"maps": "reduced precision, |a-b| <= 0.1 * max|a|",
                    "scores": "reduced precision, at most 20 points of agreement lost and |a-b| <= 0.1 * max|a|"}


def test_too_large_an_error_is_refused_after_the_search_for_layers(model: Path, samples: Path, tmp_path: Path) -> None:
    error = refused(NotEqualError, "nothing published, int8: ", model, tmp_path, precision="int8", samples=samples,
                    max_error=1e-7, max_accuracy_drop=100)
    assert "of max|a|, over 1e-07; with layers back in a higher precision, too" in str(error)
    assert isinstance(error, NotEqualError)
    candidate = error.report["candidates"][0]
    assert [trial["within"] for trial in candidate["search"]] == [False] * len(candidate["search"])
    assert len(candidate["search"][-1]["kept"]) == 3
    assert [layer["precision"] for layer in candidate["layers"]] == ["int8"] * 3


def test_the_command_writes_why_it_was_refused(model: Path, samples: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = CliRunner().invoke(optimization.command, [
        str(model), "--to", str(tmp_path / "out"), "--precision", "bfloat16", "--max-error", "0",
        "--max-accuracy-drop", "100", "--samples", str(samples), "--json", str(report)])
    assert isinstance(done.exception, NotEqualError)
    assert json.loads(report.read_text())["reasons"][0].startswith("'scores' is off by ")
    assert "reduced precision, at most 100 points of accuracy lost and" in done.output.replace("\n", " ")
    assert os.listdir(tmp_path) == ["report.json"]


def test_int8_that_is_not_faster_is_refused_with_its_figures(model: Path, samples: Path, tmp_path: Path) -> None:
    report, times = tmp_path / "report.json", MadeUpTimes({"int8": {1: 2.0, 8: 0.8}})
    with replaced(times):
        done = CliRunner().invoke(optimization.command, [
            str(model), "--to", str(tmp_path / "out"), "--precision", "int8", "--max-accuracy-drop", "10",
            "--batch-of-interest", "1,8", "--samples", str(samples), "--json", str(report)])
    assert times.asked == [("float32", ("int8",), (1, 8))]
    why = ("int8 is pointless here, since it is not faster than float32: ratio 0.80 [0.78-0.82] at batch 8, noise "
           "floor ±1.0%; --batch-of-interest 1 publishes it for that")
    assert isinstance(done.exception, RefusedError)
    assert not isinstance(done.exception, NotEqualError)
    assert (status_of(done.exception), str(done.exception)) == (1, f"nothing published, {why}")
    told = json.loads(report.read_text())
    assert (told["path"], told["reasons"]) == (None, [why])
    assert told["candidates"][0]["ratios"]["8"] == {
        "ratio": 0.8, "ci95": [pytest.approx(0.784), pytest.approx(0.816)], "noise_floor": 0.01, "verdict": "slower"}
    assert os.listdir(tmp_path) == ["report.json"]


def test_int8_that_is_faster_is_published_with_its_figures(model: Path, samples: Path, tmp_path: Path) -> None:
    with replaced(MadeUpTimes({"int8": 2.0})):
        made = export.optimize(model, to=tmp_path / "out", precision="int8", samples=samples, max_accuracy_drop=10,
                               batch_of_interest=[8])
    assert made.made is not None
    assert made.made.lines[0] == "int8 is faster than float32: 2.00 [1.96-2.04] at batch 8"
    assert {one["name"]: list(one["ratios"]) for one in made.manifest["candidates"]} == {"int8": ["8"], "float32": []}


@pytest.mark.parametrize(("reduced", "said"), [
    ({"precision": "int8"}, "--precision int8"), ({"precision": "bfloat16"}, "--precision bfloat16"),
    ({"storage": "int8"}, "--storage int8")], ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize(("option", "given", "way"), [
    ("--atol", {"atol": 0.0}, "state how far answers may be off with --max-error"),
    ("--rtol", {"rtol": 0.1}, "state how far answers may be off with --max-error"),
    ("--allow-random", {"allow_random": ["serving_default"]}, "leave that signature out with --signatures")])
def test_options_of_comparisons_in_full_precision_are_refused(
        model: Path, tmp_path: Path, reduced: dict[str, Any], said: str, option: str, given: dict[str, Any],
        way: str) -> None:
    with replaced(MadeUpTimes()):
        error = refused(UserError, "", model, tmp_path, **reduced, **given)
    assert str(error) == f"{option} has no effect with {said}: {way}"


def test_random_numbers_are_refused(tmp_path: Path) -> None:
    from saved_models import save_v1, signature
    v1, source, folder = tf.compat.v1, tmp_path / "source", tmp_path / "to"
    folder.mkdir()
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 4], "x")
        y = x @ tf.ones([4, 3]) + tf.random.uniform([3])
        save_v1(source, session, {"serving_default": signature({"x": x}, {"y": y})})
    refused(UserError, "signature 'serving_default' draws random numbers (RandomUniform", source, folder,
            precision="bfloat16")


def test_random_numbers_of_a_branch_for_training_are_no_reason(tmp_path: Path) -> None:
    from saved_models import BUILDERS
    folder = tmp_path / "to"
    folder.mkdir()
    BUILDERS["tf1"](tmp_path / "source")  # dropout in a branch that no request takes
    refused(UserError, "has nothing to reduce: nothing can be bfloat16", tmp_path / "source", folder,
            precision="bfloat16")


def test_a_variant_that_is_not_faster_is_pointless() -> None:
    faster, unknown = Ratio(2.0, 1.9, 2.1, 0.01, "faster"), Ratio(1.01, 0.97, 1.05, 0.02, "cannot tell")
    assert pointless("int8", {1: faster, 100: faster}) == ""
    assert pointless("int8", {100: unknown}) == (
        "int8 is pointless here, since it is not faster than float32: ratio 1.01 [0.97-1.05] at batch 100, noise floor "
        "±2.0%; --precision auto publishes the fastest")
    assert pointless("int8", {1: unknown, 100: faster}).endswith("; --batch-of-interest 100 publishes it for that")
