"""python -m export build: the models of random weights, their samples and manifests, and what it refuses."""
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from graph_session import tf

from export import manifest, optimize, saved_model
from export.freeze import freeze
from export.zoo import applications, boxes, class_heads, detector, encoder
from export.zoo.build import MODELS, command
from export.zoo.pictures import pictures
from export.zoo.sentences import sentences
from serving.client.payloads import load_samples, shape_of
from user_error import UserError
from version_directory import KERAS, SAMPLES

# numpy 2 tells Keras' writer of .keras files that it will be called in another way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
# The others of keras.applications are built by the same code.
QUICK = ("encoder", "detector", "mobilenet_v2")


def answers(version: Path, signature: str = "serving_default", inputs: dict[str, Any] | None = None
            ) -> dict[str, np.ndarray]:
    """The answers of a version's signature to `inputs` or its own samples, in a v1 Session."""
    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session() as session:
        loaded = tf1.saved_model.load(session, ["serve"], str(version))
        chosen = loaded.signature_def[signature]
        samples = inputs or load_samples(version / SAMPLES)
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
                                                for name in ("mobilenet_v2", "resnet50", "efficientnet_b0",
                                                             "inception_v3")), "text_classifier"])
def test_it_is_optimized_with_equal_answers(name: str, built: Callable[[str], Path], tmp_path: Path) -> None:
    done = optimize(built(name).parent, to=tmp_path / "optimized")
    assert done.path == tmp_path / "optimized" / "1"


def test_the_text_classifiers_lstms_are_forked_and_are_loops_again_when_it_is_frozen(
        built: Callable[[str], Path], tmp_path: Path) -> None:
    once = optimize(built("text_classifier").parent, to=tmp_path / "once").path
    twice = optimize(once, to=tmp_path / "twice").path
    for version in (once, twice):
        model = saved_model.read(version)
        found = Counter(node.op for node in model.meta_graph.graph_def.node)
        assert (found["BlockLSTMV2"], found["While"]) == (2, 2)
        frozen = Counter(node.op for node in freeze(model).graph.nodes.values())
        assert (frozen["BlockLSTMV2"], frozen["Switch"], frozen["While"]) == (0, 0, 2)


def test_lstms_that_are_in_float32_are_forked_in_reduced_precision_too(
        built: Callable[[str], Path], tmp_path: Path) -> None:
    made = optimize(built("text_classifier").parent, to=tmp_path / "made", precision="int8", unmeasured=True,
                    max_accuracy_drop=10, max_error=1).path
    ops = Counter(node.op for node in saved_model.read(made).meta_graph.graph_def.node)
    assert ops["BlockLSTMV2"] == 2
    assert any("Quantized" in op for op in ops)


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
    assert kinds["FusedBatchNorm"] == kinds["Relu6"] == 77
    assert kinds["Conv2D"] == 77 + 2 * 6
    assert kinds["DepthwiseConv2dNative"] == 1
    assert (kinds["AvgPool"], kinds["MaxPool"]) == (7, 5)
    assert kinds["ConcatV2"] >= len(detector.BLOCKS) + 2
    assert kinds["CombinedNonMaxSuppression"] == 1
    assert kinds["VariableV2"] > 400
    assert not model.meta_graph.graph_def.library.function
    for key, outputs in (("serving_default", {"box_encodings": (4,), "class_predictions_with_background": (91,)}),
                         ("detection", {"detection_boxes": (100, 4), "detection_scores": (100,),
                                        "detection_classes": (100,), "num_detections": ()})):
        signature = model.signatures[key]
        assert signature.method_name == "tensorflow/serving/predict"
        assert shape_of(signature.inputs["inputs"]) == (-1, 96, 96, 3)
        shapes = {name: shape_of(info) or () for name, info in signature.outputs.items()}
        assert {name: shape[1:] if key == "detection" else shape[2:] for name, shape in shapes.items()} == outputs
        assert {shape[0] for shape in shapes.values()} == {-1}
        assert {info.dtype for info in signature.outputs.values()} == {1}  # DT_FLOAT


def test_detections_are_what_suppression_leaves_of_boxes_and_scores(built: Callable[[str], Path]) -> None:
    version = built("detector")
    raw, found = answers(version), answers(version, "detection")
    logits = raw["class_predictions_with_background"].astype(np.float64)[:, :, 1:]
    scores = 1 / (1 + np.exp(-logits))
    assert 12 <= (scores > boxes.LEAST_SCORE).sum((1, 2)).mean() <= 60  # as a trained detector's
    side, squares = 96, [(6, 3), (3, 6), (2, 6), (1, 6), (1, 6), (1, 6)]
    assert side == detector.SIDE["small"]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        placed = session.run(boxes.decoded(raw["box_encodings"], boxes.anchors(squares)))
    assert found["num_detections"].mean() > 5
    for picture in range(len(placed)):
        count = int(found["num_detections"][picture])
        expected = suppressed(placed[picture], scores[picture])
        assert count == len(expected)
        np.testing.assert_allclose(found["detection_scores"][picture, :count], [one[0] for one in expected], rtol=1e-4)
        np.testing.assert_array_equal(found["detection_classes"][picture, :count], [one[1] for one in expected])
        np.testing.assert_allclose(found["detection_boxes"][picture, :count],
                                   np.reshape([one[2] for one in expected], (-1, 4)), atol=1e-4)
        assert not found["detection_boxes"][picture, count:].any()
        assert not found["detection_scores"][picture, count:].any()


def suppressed(placed: np.ndarray, scores: np.ndarray) -> list[tuple[float, int, np.ndarray]]:
    """(score, class, box) of a picture's detections, best first: boxes [B,4], scores [B,90]. Greedy, by class."""
    found: list[tuple[float, int, np.ndarray]] = []
    for number, column in enumerate(scores.T, 1):
        kept: list[int] = []
        over = np.flatnonzero(column > 0.3)
        for box in over[np.argsort(-column[over])]:
            if all(shared(placed[box], placed[other]) <= 0.6 for other in kept):
                kept.append(int(box))
        found += [(float(column[box]), number, placed[box]) for box in kept[:100]]
    return sorted(found, key=lambda one: -one[0])[:100]


def shared(a: np.ndarray, b: np.ndarray) -> float:
    """The area that is in both boxes over that which is in any."""
    inside = np.prod(np.maximum(0, np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])))
    return float(inside / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inside)) if inside else 0.0


def test_nothing_is_seen_where_there_is_nothing(built: Callable[[str], Path]) -> None:
    black = np.zeros((2, 96, 96, 3), np.float32)
    assert not answers(built("detector"), "detection", {"inputs": black})["num_detections"].any()


def test_candidates_of_a_picture_are_further_apart_than_rounding(built: Callable[[str], Path]) -> None:
    logits = answers(built("detector"))["class_predictions_with_background"][:, :, 1:]
    for picture in logits:
        gaps = np.diff(np.sort(picture[picture > class_heads.LEAST_LOGIT]))
        assert gaps.min(initial=1) > 1e-5


def test_the_full_detector_has_1917_boxes_within_the_picture() -> None:
    found = boxes.anchors([(19, 3), (10, 6), (5, 6), (3, 6), (2, 6), (1, 6)])
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
    assert not (Path(first["path"]) / KERAS).exists()
    assert other["path"].endswith("2")
    one, two = (answers(Path(made["path"]))["probabilities"] for made in (first, other))
    assert np.abs(one - two).max() > 0.01


@pytest.mark.parametrize(("arguments", "words"), [
    (["mnist", "--size", "small"], "mnist takes no --size: leave it out"),
    (["resnet50", "--data", "digits"], "resnet50 takes no --data: leave it out"),
    (["text_classifier", "--data", "digits"], "text_classifier takes no --data: leave it out"),
    (["detector", "--keras"], "detector takes no --keras: leave it out")])
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
    assert all(model.about in done.stdout for model in MODELS.values())


def test_the_range_of_pixels_is_that_of_the_applications_preprocessing() -> None:
    for name, least, most in (("mobilenet_v2", -1, 1), ("resnet50", -118, 137), ("efficientnet_b0", 0, 255),
                              ("inception_v3", -1, 1)):
        _, scale, offset = applications.APPLICATIONS[name]
        assert offset == pytest.approx(least)
        assert 255 * scale + offset == pytest.approx(most)


def test_the_text_classifier_tells_the_matter_of_held_out_sentences(built: Callable[[str], Path]) -> None:
    version = built("text_classifier")
    facts = (manifest.read(version) or {})["facts"]
    samples = load_samples(version / SAMPLES)
    found = answers(version)["probabilities"]
    right = float((found.argmax(1) == samples["labels"]).mean())
    assert right == pytest.approx(facts["accuracy"], abs=0.005)
    assert right > 0.9
    assert found.shape == (len(samples["text"]), 4) == (facts["held_out"], 4)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    assert {len(set(one)) for one in (samples["text"], samples["labels"])} == {len(samples["text"]), 4}


def test_sentences_are_different_and_their_words_alone_do_not_tell_the_matter() -> None:
    texts, labels = sentences(2000, 3)
    assert len(set(texts)) == 2000
    assert (np.bincount(labels) > 400).all()
    again, other = sentences(50, 3), sentences(50, 4)
    assert (again[0] == texts[:50]).all()
    assert (other[0] != texts[:50]).any()
    words = sorted({word for text in texts for word in text.split()})
    bags = np.zeros((2000, len(words) + 1))
    bags[:, -1] = 1
    for row, text in enumerate(texts):
        for word in text.split():
            bags[row, words.index(word)] += 1
    fitted, *_ = np.linalg.lstsq(bags[:1000], np.eye(4)[labels[:1000]], rcond=None)
    assert ((bags[1000:] @ fitted).argmax(1) == labels[1000:]).mean() < 0.8


@pytest.mark.parametrize("name", ["text_classifier", "encoder", "mobilenet_v2"])
def test_with_keras_the_version_has_the_model_as_a_keras_file_with_the_same_answers(
        name: str, built: Callable[[str], Path]) -> None:
    version = built(name)
    model = keras.models.load_model(version / KERAS, compile=False)
    assert not hasattr(model, "optimizer") or model.optimizer is None
    expected, samples = answers(version), load_samples(version / SAMPLES)
    inputs = [samples[tensor.name] for tensor in model.inputs]
    given = [tf.constant(each.tolist()) if each.dtype == object else each for each in inputs]
    np.testing.assert_allclose(model(given if len(given) > 1 else given[0], training=False),
                               expected["probabilities"], atol=1e-5)
