"""Versions for ONNX Runtime by the real tf2onnx: equal answers, whole or not at all, kept, and reasons in one line."""
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import saved_models
import small_classifier
from foreign_engines import READY_S, answered

from benchmark.studies import conversions
from benchmark.studies.conversions import Runs, to_onnx
from benchmark.targets.in_process.connection import Engine
from benchmark.targets.starting import start
from serving.client.protocol import AnswerError
from user_error import FailedError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier with its samples, and a manifest that is true of the original alone."""
    version = small_classifier.write(tmp_path_factory.mktemp("models") / "small/original/1", maps=True)
    (version / "assets.extra").mkdir()
    small_classifier.labelled(version / "assets.extra/samples.npz", version)
    (version / "assets.extra/manifest.json").write_text(json.dumps({"precision": "int8"}))
    return version


@pytest.fixture(scope="module")
def onnx(source: Path) -> Path:
    made = to_onnx(source, source.parents[1] / "onnx")
    assert isinstance(made, Runs), made
    return made.base_path / "1"


def test_onnx_runtime_answers_as_tensorflow_does_at_any_batch_size(source: Path, onnx: Path) -> None:
    requests = [{"image": small_classifier.images(batch, seed=batch)} for batch in (1, 3, 17)]
    for found, expected in zip(answered("onnxruntime", onnx, *requests), answered("session", source, *requests),
                               strict=True):
        assert found.keys() == expected.keys() == {"scores", "maps"}
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-4, atol=1e-5)


def test_it_runs_without_tensorflow_with_the_threads_that_are_given(onnx: Path) -> None:
    def threads(count: int) -> int:
        with Engine("onnxruntime", "onnx", onnx, "", grappler=True, threads=count) as engine:
            engine.wait_until(engine.loaded, READY_S, "while loading the model")
            libraries = Path(f"/proc/{engine.process.pid}/maps").read_text()
            assert "onnxruntime" in libraries
            assert "libtensorflow" not in libraries
            return psutil.Process(engine.process.pid).num_threads()
    assert threads(4) > threads(1)


def test_a_target_of_it_can_be_started(onnx: Path) -> None:
    made = to_onnx(onnx.parents[1] / "original/1", onnx.parent)
    assert isinstance(made, Runs)
    target = made.target("ONNX Runtime", "small", threads=1)
    assert (target.kind, target.threads, target.version_directory) == ("onnxruntime", 1, onnx)
    started = start(target)
    try:
        started.ready()
        assert started.connect("in-process").signature().outputs.keys() == {"scores", "maps"}
    finally:
        started.stop()


def test_the_version_has_the_models_files_and_samples_but_not_what_describes_another(source: Path, onnx: Path) -> None:
    files = {str(file.relative_to(onnx)) for file in onnx.rglob("*") if file.is_file()}
    assert files == {"saved_model.pb", "assets.extra/samples.npz", "assets.extra/model.onnx",
                     "assets.extra/conversion.json"}
    assert (onnx / "saved_model.pb").read_bytes() == (source / "saved_model.pb").read_bytes()


def test_it_is_kept_for_the_same_source_alone_and_what_cannot_be_converted_leaves_nothing(onnx: Path, tmp_path: Path
                                                                                          ) -> None:
    before = (onnx / "assets.extra/model.onnx").stat()
    assert isinstance(to_onnx(onnx.parents[1] / "original/1", onnx.parent), Runs)
    assert (onnx / "assets.extra/model.onnx").stat() == before
    base, other = tmp_path / "mine/onnx", tmp_path / "mine/original/1"
    shutil.copytree(onnx, base / "1")
    saved_models.table(other)
    found = to_onnx(other, base)
    assert isinstance(found, str)
    assert re.fullmatch(r"[^\n]*[Tt]able[^\n]*", found), found
    assert [path.name for path in base.iterdir()] == ["1"]
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["onnx", "original"]


def test_a_signature_that_is_not_there_is_a_reason(source: Path, tmp_path: Path) -> None:
    assert to_onnx(source, tmp_path / "onnx", "absent") == (
        "no signature 'absent': there are serving_default")


def test_a_run_that_is_interrupted_leaves_nothing(source: Path, tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> Iterator[None]:
        raise KeyboardInterrupt
    monkeypatch.setattr(conversions, "export", interrupted)
    with pytest.raises(KeyboardInterrupt):
        to_onnx(source, tmp_path / "mine/onnx")
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize(("change", "words"), [
    (lambda file: file.unlink(), "1 has no assets.extra/model.onnx, which ONNX Runtime runs: make a version that has"),
    (lambda file: file.write_bytes(b"cut"), "ONNX Runtime does not take assets.extra/model.onnx: .*; convert the "
                                            "version again"),
])
def test_a_file_that_is_missing_or_cut_is_named(onnx: Path, change: Any, words: str, tmp_path: Path) -> None:
    own = shutil.copytree(onnx, tmp_path / "small/cut/1")
    change(own / "assets.extra/model.onnx")
    with pytest.raises(FailedError, match=rf"^the process of onnxruntime died [^\n]*{words}[^\n]*$"):
        answered("onnxruntime", own)


def test_a_file_of_another_signature_is_named(onnx: Path, tmp_path: Path) -> None:
    own = shutil.copytree(onnx, tmp_path / "small/other/1")
    saved_models.four_outputs(tmp_path / "x")
    (own / "saved_model.pb").unlink()
    shutil.copy(tmp_path / "x/saved_model.pb", own / "saved_model.pb")
    with pytest.raises(FailedError, match=r"model.onnx (has no output|needs an input)[^\n]*: convert the "
                                          "version again"):
        answered("onnxruntime", own)


def test_a_request_that_the_model_refuses_is_an_answer(onnx: Path) -> None:
    with pytest.raises(AnswerError, match=r"^the model refused the request: [^\n]+$"):
        answered("onnxruntime", onnx, {"image": np.zeros((2, 12, 12, 7), np.float32)})


def test_the_missing_package_is_named(onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark.targets.in_process import onnx_runtime
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"^the package onnxruntime is not installed; install it with: pip install -e "
                                         r"'.\[engines\]'$"):
        onnx_runtime.load(str(onnx), "serving_default", 0)
