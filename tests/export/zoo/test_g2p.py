"""python -m export build g2p: every form gives exactly the answers of the model in NumPy."""
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import g2p_oracle
import numpy as np
import pytest
from graph_session import tf

from benchmark.targets.client_loop import predicted
from export import manifest, saved_model
from export.zoo import g2p_serving, g2p_weights
from export.zoo.build import VARIANTS, command
from export.zoo.g2p_words import END, END_OF_WORD, PAD, STEPS, UNKNOWN, WORDS, graphemes, phonemes
from serving.client.payloads import load_samples, shape_of
from user_error import UserError
from version_directory import SAMPLES, WARMUP

Ask = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return g2p_oracle.installed() or g2p_oracle.written(
        g2p_oracle.random_weights(0), tmp_path_factory.mktemp("weights") / g2p_weights.FILE)


@pytest.fixture(scope="module")
def weights(file: Path) -> g2p_oracle.Weights:
    return g2p_weights.read(file)


@pytest.fixture(scope="module")
def models(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All forms of the model."""
    made = tmp_path_factory.mktemp("models")
    for form in VARIANTS:
        command.main(["g2p", "--form", form, "--weights", str(file), "--to", str(made)], standalone_mode=False)
    return made / "g2p"


@pytest.fixture(scope="module", params=VARIANTS.values())
def ask(request: pytest.FixtureRequest, models: Path) -> Iterator[Ask]:
    """Grapheme -> phoneme by one of the forms; the article's is called 20 times."""
    tf1 = tf.compat.v1
    with closing(tf1.Session(graph=tf.Graph())) as session:
        with session.graph.as_default():
            signature = tf1.saved_model.load(session, ["serve"], str(models / request.param / "1")).signature_def[
                "serving_default"]
        call = session.make_callable([info.name for info in signature.outputs.values()],
                                     [signature.inputs[name].name for name in sorted(signature.inputs)])
        if request.param == "original":
            yield lambda grapheme: predicted(lambda *inputs: call(*inputs)[0], grapheme)
        else:
            yield lambda grapheme: call(grapheme)[0]


def test_200_words_get_exactly_the_answers_of_the_oracle(ask: Ask, weights: g2p_oracle.Weights) -> None:
    assert len(set(WORDS)) == 200
    expected = g2p_oracle.answers(weights, graphemes(WORDS))
    assert len({tuple(row) for row in expected}) > 150
    assert len(set((expected == END).argmax(1))) > 5  # rows end at different steps
    np.testing.assert_array_equal(ask(graphemes(WORDS)), expected)


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 4, 5, 8, 33])
def test_every_batch_size_gives_the_same_rows(rows: int, ask: Ask, weights: g2p_oracle.Weights) -> None:
    letters = graphemes(WORDS)[100:100 + rows]
    answer = ask(letters)
    assert answer.dtype == np.int32
    assert answer.shape == (rows, STEPS)
    np.testing.assert_array_equal(answer, g2p_oracle.answers(weights, letters))


@pytest.mark.parametrize("word", ["", "a", "naïve", "O'Neil", "§§§§", "x" * 19, "y" * 20, "characteristic" * 3])
def test_unusual_words(word: str, ask: Ask, weights: g2p_oracle.Weights) -> None:
    letters = graphemes([word])
    np.testing.assert_array_equal(ask(letters), g2p_oracle.answers(weights, letters))
    # Beside others, whose lengths differ.
    batch = graphemes([*WORDS[:2], word, *WORDS[7:11]])
    np.testing.assert_array_equal(ask(batch), g2p_oracle.answers(weights, batch))


def test_rows_that_no_word_gives(ask: Ask, weights: g2p_oracle.Weights) -> None:
    random = np.random.default_rng(0)
    rows = random.integers(1, 29, (12, STEPS)).astype(np.int32)  # 20 letters and no end
    rows[1] = PAD
    rows[2, 5:9] = PAD  # a gap: the first 16 letters count, as the article's length does
    rows[3, 0] = PAD
    for batch in (rows, rows[1:2], rows[2:4]):
        np.testing.assert_array_equal(ask(batch), g2p_oracle.answers(weights, batch))


@pytest.mark.parametrize("number", [29, -1, 2**31 - 1])
@pytest.mark.parametrize("rows", [1, 3, 9])
def test_a_number_that_is_no_letter_is_refused(number: int, rows: int, ask: Ask) -> None:
    batch = graphemes(WORDS[:rows])
    batch[-1, 1] = number
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"= {number} is not in"):
        ask(batch)


@pytest.mark.parametrize("seed", [0, 1])
def test_tables_and_early_end_are_exact_for_other_weights(seed: int) -> None:
    weights = g2p_oracle.random_weights(seed)
    answer = tf.function(g2p_serving.Answers(weights))(tf.constant(graphemes(WORDS[:40]))).numpy()
    assert len(set((answer == END).argmax(1))) > 3
    np.testing.assert_array_equal(answer, g2p_oracle.answers(weights, graphemes(WORDS[:40])))


@pytest.mark.skipif(g2p_oracle.installed() is None, reason="pip install --no-deps g2p-en==2.1.0")
def test_the_trained_weights_pronounce(ask: Ask) -> None:
    answer = ask(graphemes(["aardvark", "applesauce", "penultimate"]))
    assert phonemes(answer[0]) == "AA1 R D V AA2 R K"
    assert phonemes(answer[1]) == "AE0 P L EY1 S AH0 S"
    assert phonemes(answer[2]) == "P AH0 N AH1 L T AH0 M EY2 T"


def test_words_as_numbers() -> None:
    found = graphemes(["ab", "", "É", "b" * 30])
    assert found.dtype == np.int32
    assert found[:, :3].tolist() == [[3, 4, END_OF_WORD], [END_OF_WORD, PAD, PAD], [UNKNOWN, END_OF_WORD, PAD], [4] * 3]
    assert found[3].tolist() == [4] * 19 + [END_OF_WORD]
    assert graphemes([]).shape == (0, STEPS)
    assert phonemes([5, 56]) == "AA1 P"
    assert phonemes([END, 5]) == ""


def test_the_articles_form_is_a_graph_of_tensorflow_1(models: Path) -> None:
    model = saved_model.read(models / "original" / "1")
    kinds = {node.op for node in model.meta_graph.graph_def.node}
    assert {"VariableV2", "Enter", "LoopCond", "NextIteration", "TensorArrayV3"} <= kinds
    assert not kinds & {"While", "StatelessWhile", "VarHandleOp", "PartitionedCall"}
    signature = model.signatures["serving_default"]
    assert {key: shape_of(info) for key, info in signature.inputs.items()} == {
        "grapheme": (-1, STEPS), "phoneme": (-1, STEPS)}
    assert list(signature.outputs) == ["preds"]


@pytest.mark.parametrize("form", VARIANTS)
def test_samples_and_facts(form: str, models: Path) -> None:
    version = models / VARIANTS[form] / "1"
    samples = load_samples(version / SAMPLES)
    signature = saved_model.read(version).signatures["serving_default"]
    assert set(samples) == set(signature.inputs)
    assert {array.shape for array in samples.values()} == {(200, STEPS)}
    made = manifest.read(version) or {}
    assert made["facts"] | {"form": form, "weights": "g2p-en 2.1.0", "parameters": 834_890} == made["facts"]
    assert made["recipe"]["source"].startswith("sha256:")


def test_the_warm_up_has_every_size_that_xla_compiles(models: Path) -> None:
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog
    sizes = []
    for record in tf.data.TFRecordDataset(str(models / "serving_xla" / "1" / WARMUP)):
        log = PredictionLog.FromString(record.numpy())
        sizes.append(log.predict_log.request.inputs["grapheme"].tensor_shape.dim[0].size)
    assert set(g2p_serving.COMPILED) < set(sizes)


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(g2p_weights, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(UserError, match=r"pip install --no-deps g2p-en==2\.1\.0, or --weights PATH"):
        command.main(["g2p", "--to", str(tmp_path)], standalone_mode=False)
    assert not list(tmp_path.iterdir())


def test_the_package_is_found_and_not_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "package_of_weights"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(g2p_weights, "PACKAGE", package.name)
    importlib.invalidate_caches()
    with pytest.raises(UserError, match="not installed"):  # a package without the file
        g2p_weights.find()
    file = g2p_oracle.written({}, package / g2p_weights.FILE)
    assert g2p_weights.find() == file
    assert package.name not in sys.modules


def altered(change: Callable[[dict[str, Any]], None], tmp_path: Path) -> Path:
    weights: dict[str, Any] = g2p_oracle.random_weights(0)
    change(weights)
    return g2p_oracle.written(weights, tmp_path / "weights.npz")


@pytest.mark.parametrize(("change", "words"), [
    (lambda weights: weights.pop("fc_b"), r"fc_b is missing, not float32 \[74\]"),
    (lambda weights: weights.update(fc_w=np.zeros((5, 5))), r"fc_w is float64 \[5, 5\], not float32 \[74, 256\]")])
def test_other_arrays_are_refused(change: Callable[[dict[str, Any]], None], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        g2p_weights.read(altered(change, tmp_path))


def test_files_that_hold_no_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.npz: No such file"):
        command.main(["g2p", "--weights", str(tmp_path / "missing.npz"), "--to", str(tmp_path / "models")],
                     standalone_mode=False)
    (tmp_path / "text.npz").write_text("no arrays")
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "cut.npz").write_bytes(altered(lambda weights: None, tmp_path).read_bytes()[:1000])
    for name in ("text.npz", "one.npy", "cut.npz"):
        with pytest.raises(UserError, match=rf"{name} is not g2p-en's checkpoint20\.npz"):
            g2p_weights.read(tmp_path / name)


@pytest.mark.parametrize(("arguments", "words"), [
    (["g2p", "--size", "small"], "g2p takes no --size: leave it out"),
    (["g2p", "--data", "digits"], "g2p takes no --data: leave it out"),
    (["mnist", "--form", "serving"], "mnist takes no --form: leave it out"),
    (["encoder", "--weights", "x.npz"], "encoder takes no --weights: leave it out")])
def test_an_option_of_another_model_is_refused(arguments: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        command.main([*arguments, "--to", str(tmp_path)], standalone_mode=False)
    assert not list(tmp_path.iterdir())


def test_the_pinned_package_is_the_one_that_errors_and_facts_name() -> None:
    (pin,) = (line for line in (manifest.ROOT / "weights.txt").read_text().splitlines() if not line.startswith("#"))
    assert pin == "g2p-en==2.1.0"
    assert "--no-deps -r weights.txt" in (manifest.ROOT / "Makefile").read_text()
