"""python -m export build: the models of random weights, their samples and manifests, and what it refuses."""
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graph_session import tf

from export import manifest, optimize, saved_model
from export.zoo import applications, detector, encoder
from export.zoo.build import MODELS, command
from export.zoo.pictures import pictures
from serving.client.payloads import load_samples, shape_of
from user_error import UserError
from version_directory import SAMPLES

# The others of keras.applications are built by the same code.
QUICK = ("encoder", "detector", "mobilenet_v2")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """built(name) is the version directory of the small form of a model, which is built once."""
    models = tmp_path_factory.mktemp("models")

    def make(name: str) -> Path:
        version = models / name / "original" / "1"
        if not version.exists():
            command.main([name, "--size", "small", "--to", str(models)], standalone_mode=False)
        return version
    return make


def answers(version: Path) -> dict[str, np.ndarray]:
    """The answers of a version's first signature to its own samples, in a v1 Session."""
    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session() as session:
        signatures = tf1.saved_model.load(session, ["serve"], str(version)).signature_def
        chosen = signatures["serving_default"]
        samples = load_samples(version / SAMPLES)
        return session.run({key: info.name for key, info in chosen.outputs.items()},
                           {info.name: samples[key] for key, info in chosen.inputs.items()})


@pytest.mark.parametrize("name", QUICK)
def test_a_model_of_random_weights_says_so_and_has_samples(name: str, built: Callable[[str], Path]) -> None:
    version = built(name)
    facts = (manifest.read(version) or {})["facts"]
    assert facts["weights"] == "random"
    assert "made-up" in facts["samples"]
    assert facts["parameters"] > 10_000
    assert facts["seed"] == 0
    assert {len(array) for array in load_samples(version / SAMPLES).values()} <= {16, 32}


@pytest.mark.parametrize("name", QUICK)
def test_its_samples_get_different_finite_answers(name: str, built: Callable[[str], Path]) -> None:
    for key, answer in answers(built(name)).items():
        assert np.isfinite(answer).all(), key
        assert np.ptp(answer, 0).max() > 1e-3, key
        if key == "probabilities":
            assert len(np.unique(answer.argmax(1))) > 3


@pytest.mark.parametrize("name", [*QUICK[:2], *(pytest.param(name, marks=pytest.mark.proof)
                                                for name in ("mobilenet_v2", "resnet50", "efficientnet_b0"))])
def test_it_is_optimized_with_equal_answers(name: str, built: Callable[[str], Path], tmp_path: Path) -> None:
    done = optimize(built(name).parent, to=tmp_path / "optimized")
    assert done.path == tmp_path / "optimized" / "1"


def test_the_encoder_has_the_layers_of_bert(built: Callable[[str], Path]) -> None:
    model = saved_model.read(built("encoder"))
    (signature,) = model.signatures.values()
    assert {key: shape_of(info) for key, info in signature.inputs.items()} == {
        "token_ids": (-1, 16), "mask": (-1, 16)}
    full = encoder.encoder(encoder.SHAPES["full"])
    assert full.count_params() == 109_191_944
    assert full.output_shape == (None, encoder.CLASSES)
    kinds = Counter(type(layer).__name__ for layer in full.layers)
    assert kinds["Dense"] == 12 * 6 + 2
    assert kinds["LayerNormalization"] == 12 * 2 + 1


def test_the_mask_hides_what_is_behind_the_text() -> None:
    shape = encoder.SHAPES["small"]
    model = encoder.randomised(shape, 0)
    samples = encoder.texts(8, shape, 0)
    other = {**samples, "token_ids": np.where(samples["mask"] == 0, 7, samples["token_ids"])}
    assert (other["token_ids"] != samples["token_ids"]).any()
    before, after = (model.predict(each, verbose=0) for each in (samples, other))
    np.testing.assert_allclose(before, after, atol=1e-5)


def test_the_detector_is_a_graph_of_tensorflow_1_with_77_normed_convolutions(built: Callable[[str], Path]) -> None:
    model = saved_model.read(built("detector"))
    kinds = Counter(node.op for node in model.meta_graph.graph_def.node)
    assert kinds["FusedBatchNorm"] + kinds["FusedBatchNormV3"] == kinds["Relu6"] == 77
    assert kinds["FusedBatchNorm"] > kinds["FusedBatchNormV3"] > 0
    assert kinds["Conv2D"] == 77 + 2 * 6
    assert kinds["DepthwiseConv2dNative"] == 1
    assert kinds["ConcatV2"] >= len(detector.BLOCKS) + 2
    assert kinds["VariableV2"] > 400
    assert not model.meta_graph.graph_def.library.function
    for key, outputs in (("serving_default", {"box_encodings": 4, "class_predictions_with_background": 91}),
                         ("detection", {"detection_boxes": 4, "detection_scores": 90})):
        signature = model.signatures[key]
        assert signature.method_name == "tensorflow/serving/predict"
        assert shape_of(signature.inputs["inputs"]) == (-1, 96, 96, 3)
        assert {name: (shape_of(info) or ())[2] for name, info in signature.outputs.items()} == outputs


def test_the_full_detector_has_1917_boxes_within_the_picture() -> None:
    found = detector.anchors([(19, 3), (10, 6), (5, 6), (3, 6), (2, 6), (1, 6)])
    assert found.shape == (1917, 4)
    assert (found > 0).all()
    assert (found[:, :2] < 1).all()


def test_equal_seeds_give_equal_models_and_others_do_not() -> None:
    first, again, other = (np.concatenate([weight.numpy().ravel() for weight in encoder.randomised(
        encoder.SHAPES["small"], seed).weights]) for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any()
    drawn = [detector.Weights(seed).get("a", lambda random: random.normal(size=9)) for seed in (3, 3, 4)]
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] != drawn[2]).any()
    shown = [pictures(2, 24, seed) for seed in (3, 3, 4)]
    assert (shown[0] == shown[1]).all()
    assert (shown[0] != shown[2]).any()
    assert shown[0].min() >= 0
    assert shown[0].max() <= 255


def test_built_again_with_reuse_it_is_kept_and_with_another_seed_it_is_not(tmp_path: Path) -> None:
    def build(*more: str) -> dict[str, Any]:
        command.main(["encoder", "--size", "small", "--to", str(tmp_path), "--reuse", "--json",
                      str(tmp_path / "made.json"), *more], standalone_mode=False)
        return dict(json.loads((tmp_path / "made.json").read_text()))
    first, again, other = build(), build(), build("--seed", "1")
    assert first == again
    assert other["path"].endswith("2")
    one, two = (answers(Path(made["path"]))["probabilities"] for made in (first, other))
    assert np.abs(one - two).max() > 0.01


@pytest.mark.parametrize(("arguments", "words"), [
    (["mnist", "--size", "small"], "mnist takes no --size: leave it out"),
    (["resnet50", "--data", "digits"], "resnet50 takes no --data: leave it out")])
def test_an_option_of_another_model_is_refused(arguments: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        command.main([*arguments, "--to", str(tmp_path)], standalone_mode=False)
    assert not list(tmp_path.iterdir())


def test_an_unknown_model_is_refused_with_the_names(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "export", "build", "vgg"], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 2
    assert all(name in done.stderr for name in MODELS)
    assert len(done.stderr.splitlines()) == 1


def test_help_names_every_model() -> None:
    done = subprocess.run([sys.executable, "-m", "export", "build", "--help"], capture_output=True, text=True,
                          check=True)
    assert all(about in done.stdout for _, about in MODELS.values())


def test_the_range_of_pixels_is_that_of_the_applications_preprocessing() -> None:
    for name, least, most in (("mobilenet_v2", -1, 1), ("resnet50", -118, 137), ("efficientnet_b0", 0, 255)):
        _, scale, offset = applications.APPLICATIONS[name]
        assert offset == pytest.approx(least)
        assert 255 * scale + offset == pytest.approx(most)
