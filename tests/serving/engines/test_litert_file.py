"""A model.tflite that was cut or altered is refused, and the process that refuses it stays alive."""
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import altered_files
import numpy as np
import pytest
import running_server
import tflite_models
from waiting import until

from export.runtime import tf
from serving.engines import litert_file
from serving.engines.litert import load
from serving.errors import Code, ServingError


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tflite_models.write(tmp_path_factory.mktemp("lite") / "1")


@pytest.fixture
def version(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(content: bytes) -> Path:
        (tmp_path / "model.tflite").write_bytes(content)
        return tmp_path
    return write


def refused(path: Path) -> ServingError:
    with pytest.raises(ServingError) as error:
        load("m", 1, path, 1, 1)
    return error.value


def test_a_file_with_its_checksum_is_not_tried_first(whole: Path, version: Callable[[bytes], Path],
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    path = version((whole / "model.tflite").read_bytes())
    altered_files.state_checksum(path, "litert", "model.tflite")
    monkeypatch.setattr(litert_file, "_try_apart", lambda *_: pytest.fail("it has a checksum"))
    load("m", 1, path, 1, 1).close()


@pytest.mark.parametrize("case", range(12))
def test_a_file_with_another_checksum_is_refused_before_it_is_read(
        whole: Path, version: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch, case: int) -> None:
    content = (whole / "model.tflite").read_bytes()
    path = version(content)
    altered_files.state_checksum(path, "litert", "model.tflite")
    version(altered_files.altered(content, 5, case)[1])
    monkeypatch.setattr(litert_file, "_try_apart", lambda *_: pytest.fail("it has a checksum"))
    error = refused(path)
    assert error.code is Code.DATA_LOSS
    assert f"{path}/model.tflite cannot be used: it was cut or altered" in error.message
    assert "Copy the whole version again" in error.advice


@pytest.mark.parametrize("manifest", ["", "[1]", '{"engines": []}', '{"engines": {"litert": {"sha256": "x"}}}'])
def test_a_manifest_without_a_checksum_leads_to_a_trial(whole: Path, version: Callable[[bytes], Path], manifest: str,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    path = version((whole / "model.tflite").read_bytes())
    (path / "assets.extra").mkdir()
    (path / "assets.extra" / "manifest.json").write_text(manifest)
    tried: list[Path] = []
    monkeypatch.setattr(litert_file, "_try_apart", lambda file, content: tried.append(file))
    load("m", 1, path, 1, 1).close()
    assert tried == [path / "model.tflite"]


def test_a_file_that_would_end_the_process_ends_only_that_of_its_trial(version: Callable[[bytes], Path]) -> None:
    def variable(model: Any) -> None:
        graph = model.subgraphs[0]
        graph.tensors[graph.operators[-1].inputs[0]].isVariable = True  # what the last operation reads
    error = refused(version(tflite_models.rewritten(tflite_models.quantized(), variable)))
    assert error.code is Code.DATA_LOSS
    assert "model.tflite cannot be used: a process that ran it once was ended by SIG" in error.message


def test_a_file_that_runs_for_ever_is_refused(version: Callable[[bytes], Path],
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    def endless() -> None:
        x = tf.compat.v1.placeholder(tf.float32, (None, 4), "x")
        made = tf.while_loop(lambda turn, _: turn >= 0, lambda turn, value: (turn * 1, value + 1.0), [0, x])
        tf.identity(made[1], name="y")
    monkeypatch.setattr(litert_file, "_CPU_S", 1)
    error = refused(version(tflite_models.converted(endless, ["x"], ["y"])))
    assert error.code is Code.DATA_LOSS
    assert "a process that ran it once did not come to an end" in error.message


def test_a_file_that_would_take_all_memory_is_refused(version: Callable[[bytes], Path],
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    def large() -> None:
        x = tf.compat.v1.placeholder(tf.float32, (None, 4), "x")
        tf.reduce_sum(tf.sin(tf.tile(x, [1, 1 << 26])), 1, name="y")
    path = version(tflite_models.converted(large, ["x"], ["y"]))
    monkeypatch.setattr(litert_file, "free_bytes", lambda: 200 << 20)
    error = refused(path)
    assert "Failed to allocate tensors" in error.message or "found no memory" in error.message


def test_altered_files_leave_the_process_alive(whole: Path) -> None:
    found = altered_files.outcomes("litert", whole, "model.tflite", range(12), seed=2)
    assert found["cases"] == 12
    assert found["ended"] == []
    assert found["outcomes"]["refused"] > 3


def test_a_trial_that_cannot_start_says_why(whole: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as changed:
        changed.setattr(litert_file, "_TRIAL", tmp_path / "missing.py")
        error = refused(whole)
        assert "cannot be tried in a process of its own: " in error.message
        assert "missing.py" in error.message
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no_python"))
    error = refused(whole)
    assert error.code is Code.RESOURCE_EXHAUSTED
    assert "cannot be tried in a process of its own: No such file or directory" in error.message


def test_answers_are_those_of_the_file_after_its_trial(whole: Path) -> None:
    model = load("m", 1, whole, 1, 1)
    x = np.ones((2, 6, 6, 3), np.float32)
    np.testing.assert_allclose(model.run(["x"], [x], ["y"])[0], tflite_models.answers(x), atol=1e-6)
    model.close()


def test_a_server_goes_on_with_the_version_before_an_altered_one(whole: Path, tmp_path: Path) -> None:
    def variable(model: Any) -> None:
        graph = model.subgraphs[0]
        graph.tensors[graph.operators[-1].inputs[0]].isVariable = True
    base = tmp_path / "m"
    shutil.copytree(whole, base / "1")
    with running_server.serving(tmp_path, "m", prefer_tflite_model=True, file_system_poll_wait_seconds=0.05,
                                max_num_load_retries=0) as (_, flags):
        shutil.copytree(whole, tmp_path / "new")
        (tmp_path / "new" / "model.tflite").write_bytes(
            tflite_models.rewritten(tflite_models.quantized(), variable))
        (tmp_path / "new").rename(base / "2")
        until(lambda: "was ended by SIG" in running_server.get(flags, "/v1/models/m/versions/2")[1])
        status, body = running_server.get(flags, "/v1/models/m")
        assert status == 200
        states = {one["version"]: one["state"] for one in json.loads(body)["model_version_status"]}
        assert states == {"1": "AVAILABLE", "2": "END"}
        assert len(running_server.call(flags.port, running_server.request(
            "m", image=np.ones((3, 6, 6, 3), np.float32)), output="scores")) == 3
