"""Labelled samples: each is asked once, of the output that the old version has right most often."""
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.client.payloads import Arrays, TensorSpec
from serving.client.protocol import Signature
from serving.promotion import labelled
from serving.promotion.gates import NEW, OLD, Gate
from serving.promotion.settings import Accuracy
from version_directory import SAMPLES

CLASSES, COUNT = 3, 130
X = np.random.default_rng(0).normal(size=(COUNT, 4)).astype(np.float32)
RIGHT = X[:, :CLASSES].argmax(1)
ANY = {"serving_default": Signature("predict", {"x": TensorSpec(np.dtype(np.float32), (-1, 4))}, {})}
FIXED = {"serving_default": Signature("predict", {"x": TensorSpec(np.dtype(np.float32), (8, 4))}, {})}


class _Client:
    """Answers with the first numbers of each example as scores; every `wrong`-th example gets another top class."""

    def __init__(self, wrong: int = 0) -> None:
        self.wrong = wrong
        self.asked: list[int] = []
        self.seen = 0

    def predict(self, inputs: Arrays, signature: str) -> dict[str, Any]:
        scores = inputs["x"][:, :CLASSES].copy()
        self.asked.append(len(scores))
        for row in range(len(scores)):
            self.seen += 1
            if self.wrong and self.seen % self.wrong == 0:
                scores[row] = np.roll(scores[row], 1)
        return {"noise": np.zeros((len(scores), CLASSES), np.float32), "scores": scores, "ids": np.zeros(len(scores)),
                "table": np.ones((10, 16), np.float32), "one": np.ones((1, CLASSES), np.float32)}


def _version(folder: Path, **arrays: Any) -> Path:
    path = folder / SAMPLES
    path.parent.mkdir(parents=True)
    np.savez(path, **arrays)
    return folder


def _gate(versions: list[Path], wrong: int = 0, max_drop: float = 0.01, signatures: Any = ANY
          ) -> tuple[Gate, _Client, _Client]:
    old, new = _Client(), _Client(wrong)
    made: Any = (old, new)
    return labelled.accuracy(versions, signatures, *made, Accuracy(max_drop)), old, new


def test_every_labelled_sample_counts_once(tmp_path: Path) -> None:
    found, old, new = _gate([_version(tmp_path / "1", x=X, labels=RIGHT)])
    assert found.passed
    assert found.words.startswith("of 130 labelled samples, 100.00% right")
    assert found.figures == {OLD: 1.0, NEW: 1.0, "examples": 130}
    assert sum(old.asked) >= COUNT
    assert old.asked == new.asked


@pytest.mark.parametrize(("wrong", "max_drop", "passed"), [(13, 0.01, False), (13, 0.1, True), (0, 0.0, True)])
def test_a_version_that_has_fewer_right_is_refused(wrong: int, max_drop: float, passed: bool, tmp_path: Path) -> None:
    found, _, _ = _gate([_version(tmp_path / "1", x=X, labels=RIGHT)], wrong, max_drop)
    assert found.passed is passed
    assert found.figures[NEW] == 1 - (10 / 130 if wrong else 0)


def test_a_fixed_batch_size_is_kept_to_and_repeated_examples_do_not_count(tmp_path: Path) -> None:
    found, old, _ = _gate([_version(tmp_path / "1", x=X, labels=RIGHT)], signatures=FIXED)
    assert set(old.asked) == {8}
    assert found.figures["examples"] == COUNT
    assert found.figures[OLD] == 1


def test_large_examples_go_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelled, "_BYTES", 2 * X[:1].nbytes)
    _, old, _ = _gate([_version(tmp_path / "1", x=X, labels=RIGHT)])
    assert set(old.asked) == {2}


def test_the_old_versions_samples_will_do(tmp_path: Path) -> None:
    without = _version(tmp_path / "new", x=X)
    assert _gate([without, _version(tmp_path / "old", x=X, labels=RIGHT)])[0].figures["examples"] == COUNT


@pytest.mark.parametrize("arrays", [
    {"x": X}, {"x": X, "labels": RIGHT[:-1]}, {"x": X, "labels": RIGHT.astype(np.float32)},
    {"other": X, "labels": RIGHT}, {"x": X[:0], "labels": RIGHT[:0]}])
def test_without_usable_labels_nothing_is_judged(arrays: dict[str, Any], tmp_path: Path) -> None:
    found, old, _ = _gate([_version(tmp_path / "1", **arrays), tmp_path / "nothing"])
    assert found.passed is None
    assert old.asked == []
