"""Which engine runs a version, in a server of its own: unchanged clients, and no TensorFlow where none is needed."""
import importlib.util
import json
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import openvino_models
import pytest
import small_classifier
import tflite_models
from graph_session import seeded
from running_server import call, command, free_port, get, listens, request, serving
from waiting import until

import tensorflow_alone
from serving.client.grpc import GrpcClient
from serving.client.rest import RestClient
from serving.config import Flags, NotStartedError
from serving.engines import choice, process
from serving.engines.choice import Engines
from serving.engines.wanted import engines_wanted
from serving.errors import Code, ServingError
from serving.memory import MemoryLimit
from serving.server import start
from serving.timing import ANSWER_HEADER, REQUEST_HEADER, STAGES

ROOT = Path(__file__).resolve().parents[3]


def engines_file(folder: Path, text: str) -> str:
    (folder / "engines.toml").write_text(text)
    return str(folder / "engines.toml")


def libraries(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    tflite_models.write(root / "lite" / "1")
    return root


def predicted(port: int, rows: Any) -> Any:
    body = json.dumps({"instances": rows.tolist()}).encode()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models/lite:predict", body, timeout=60) as answer:
        return np.array(json.loads(answer.read())["predictions"])


def served_by(engine: str, base: Path, answers: Any, *flags: str) -> str:
    """Starts a server of `base`/lite, compares its answer, and returns its log: nothing of TensorFlow is loaded."""
    port = free_port()
    words = command(base, "lite", f"--port={free_port()}", f"--rest_api_port={port}", "--max_num_load_retries=0",
                    *flags)
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            until(lambda: process.poll() is not None or listens(port), 90)
            x = seeded((3, 6, 6, 3), 4)
            np.testing.assert_allclose(predicted(port, x), answers(x), atol=1e-6)
            assert "libtensorflow" not in libraries(process.pid)
            assert engine in libraries(process.pid)
        finally:
            process.terminate()
            log = process.communicate(timeout=60)[1]
    assert process.returncode == 0, log
    return log


def test_a_version_of_tflite_alone_is_served_without_tensorflow(models: Path) -> None:
    assert "and run by litert" in served_by(
        "litert", models, tflite_models.answers, "--prefer_tflite_model", "--num_tflite_pools=2")


@pytest.fixture(scope="module")
def engines() -> Engines:
    return Engines(Flags(prefer_tflite_model=True, num_tflite_pools=2), MemoryLimit(-1))


def test_a_version_without_the_file_falls_back_to_tensorflow(engines: Engines, models: Path, tmp_path: Path) -> None:
    path = small_classifier.write(tmp_path / "1")
    fallback, lite = engines.load("m", 1, path), engines.load("m", 2, models / "lite" / "1")
    assert type(fallback).__module__ == "serving.engines.tensorflow"
    assert type(lite).__module__ == "serving.engines.litert"
    shutil.copy(models / "lite" / "1" / "model.tflite", path)
    with_both = engines.load("m", 3, path)
    assert type(with_both).__module__ == "serving.engines.litert"
    for one in (fallback, lite, with_both):
        one.close()


def test_without_the_flag_the_file_is_not_looked_at(models: Path, tmp_path: Path) -> None:
    path = small_classifier.write(tmp_path / "1")
    shutil.copy(models / "lite" / "1" / "model.tflite", path)
    one = Engines(Flags(), MemoryLimit(-1)).load("m", 1, path)
    assert type(one).__module__ == "serving.engines.tensorflow"
    one.close()


@pytest.mark.parametrize(("flags", "words"), [
    ({"prefer_tflite_model": True}, "--prefer_tflite_model: the package ai-edge-litert"),
    ({"engine": "litert"}, "--engine=litert: the package ai-edge-litert"),
    ({"engine": "openvino"}, "--engine=openvino: the package openvino"),
    ({"engines_file": 'other = "openvino"'}, "--engines_file: the package openvino"),
    ({"engines_file": 'other = "openvino"', "prefer_tflite_model": True}, "--prefer_tflite_model: the package ai-edge"),
])
def test_without_the_package_the_flag_is_refused_before_anything_is_loaded(
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: dict[str, Any], words: str) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec",
                        lambda name: None if name in ("ai_edge_litert", "openvino") else real(name))
    if "engines_file" in flags:
        flags = {**flags, "engines_file": engines_file(tmp_path, "[models]\n" + flags["engines_file"])}
    with pytest.raises(ServingError) as refused:
        Engines(Flags(**flags), MemoryLimit(-1))
    extra = "litert" if "litert" in words.partition("package")[2] or "ai-edge" in words else "openvino"
    assert refused.value.message.startswith(words)
    assert refused.value.message.endswith(f"is not installed; install it with: pip install -e '.[{extra}]'")
    assert refused.value.code is Code.FAILED_PRECONDITION


def test_xla_is_switched_as_the_flag_says_in_processes_of_this_project_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(process, "allow_xla", asked.append)
    Engines(Flags(), MemoryLimit(-1))
    assert asked == []
    monkeypatch.setattr(tensorflow_alone, "own_process", True)
    for allowed in (False, True):
        Engines(Flags(xla_cpu_compilation_enabled=allowed), MemoryLimit(-1))
    assert asked == [False, True]


# -- which engine is wanted


@pytest.mark.parametrize(("flags", "default"), [
    ({}, "tensorflow"), ({"prefer_tflite_model": True}, "litert"), ({"engine": "openvino"}, "openvino"),
    ({"engine": "tensorflow", "prefer_tflite_model": True}, "tensorflow"),
])
def test_an_entry_of_the_file_wins_over_the_flag_which_wins_over_the_preference(
        tmp_path: Path, flags: dict[str, Any], default: str) -> None:
    assert engines_wanted(Flags(**flags)).of("mnist") == default
    found = engines_wanted(Flags(**flags, engines_file=engines_file(tmp_path, '[models]\nmnist = "openvino"\n')))
    assert (found.of("mnist"), found.of("other"), found.all()) == ("openvino", default, {"openvino", default})


@pytest.mark.parametrize(("text", "words"), [
    ('[models]\nmnist = "onnx"', "{}: mnist = 'onnx': an engine is one of tensorflow, litert, openvino"),
    ("[models]\nmnist = 1", "{}: mnist = 1: an engine is one of"),
    ('[model]\nmnist = "openvino"', "{}: unknown key 'model'; it has one section, [models], with lines such as: "),
    ('models = "openvino"', "{}: 'models' must be a section, [models]"),
    ("[models]\nmnist = openvino", "{} is not TOML: Invalid value (at line 2, column 9)"),
    ("\xff", "{} is not UTF-8 text"),
])
def test_a_mistake_in_the_file_is_named_at_the_start(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "engines.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(NotStartedError) as refused:
        start(Flags(model_base_path=str(tmp_path), engines_file=str(file)))
    assert f"INVALID_ARGUMENT: --engines_file: {words.format(file)}" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_and_an_unknown_engine_are_named_at_the_start(tmp_path: Path) -> None:
    for flags, words in (({"engines_file": str(tmp_path / "no")}, f"--engines_file: {tmp_path}/no; No such file"),
                         ({"engines_file": str(tmp_path)}, f"--engines_file: {tmp_path}; Is a directory"),
                         ({"engine": "onnx"}, "--engine=onnx: it takes tensorflow, litert, openvino"),
                         ({"openvino_streams": 0}, "--openvino_streams must be at least 1")):
        with pytest.raises(NotStartedError) as refused:
            start(Flags(model_base_path=str(tmp_path), **flags))
        assert words in str(refused.value)


# -- OpenVINO


@pytest.fixture(scope="module")
def openvino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("openvino")
    openvino_models.write(root / "lite" / "1")
    return root


def test_a_version_of_openvino_is_served_without_tensorflow(openvino: Path) -> None:
    assert "and run by openvino" in served_by("openvino", openvino, openvino_models.answers, "--engine=openvino")


def test_a_version_without_the_files_falls_back_to_tensorflow(openvino: Path, tmp_path: Path,
                                                             caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    engines = Engines(Flags(engine="openvino"), MemoryLimit(-1))
    path = Path(shutil.copytree(openvino / "lite" / "1", tmp_path / "1"))
    shutil.rmtree(path / "assets.extra")
    fallback, converted = engines.load("m", 1, path), engines.load("m", 2, openvino / "lite" / "1")
    assert (fallback.engine, converted.engine) == ("tensorflow", "openvino")
    assert caplog.messages == ["version 1 of model m has no assets.extra/openvino/engine.json: TensorFlow runs it"]
    for one in (fallback, converted):
        one.close()


def test_litert_gets_a_share_of_the_threads_that_the_process_may_use_or_what_the_flag_says(
        models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "cpus", lambda: 6)
    for flags, threads in (({}, 6), ({"num_tflite_interpreters_per_pool": 2}, 3),
                           ({"tensorflow_intra_op_parallelism": 1}, 1), ({"tensorflow_session_parallelism": 2}, 2)):
        model = Engines(Flags(engine="litert", **flags), MemoryLimit(-1)).load("m", 1, models / "lite" / "1")
        assert {worker._threads for worker in model._pool._idle} == {threads}
        model.close()


def test_openvino_gets_the_threads_that_the_process_may_use_or_the_flag_says(
        openvino: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "cpus", lambda: 3)
    for flags, threads, streams in (({}, 3, 1), ({"tensorflow_intra_op_parallelism": 2}, 2, 1),
                                    ({"tensorflow_session_parallelism": 1}, 1, 1), ({"openvino_streams": 2}, 3, 2)):
        model = Engines(Flags(engine="openvino", **flags), MemoryLimit(-1)).load("m", 1, openvino / "lite" / "1")
        settings = model._graphs[0]._settings
        assert (settings["INFERENCE_NUM_THREADS"], settings["NUM_STREAMS"]) == (threads, streams)
        model.close()


def test_signatures_that_were_left_out_are_run_by_tensorflow(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    path = openvino_models.write(tmp_path / "1", signatures={
        **openvino_models.ONE, "maps": ({"image": "x"}, {"maps": "pooled"})}, left=["maps"])
    model = Engines(Flags(engine="openvino"), MemoryLimit(-1)).load("m", 1, path)
    assert caplog.messages == ["version 1 of model m: TensorFlow runs maps (a test leaves it)"]
    x = seeded((2, 6, 6, 3))
    np.testing.assert_allclose(model.run(["x:0"], [x], ["pooled:0"])[0], openvino_models.answers(x, "pooled"),
                               atol=1e-6)
    model.close()


def test_a_damaged_version_is_refused_and_the_server_goes_on(openvino: Path, tmp_path: Path) -> None:
    shutil.copytree(openvino / "lite" / "1", tmp_path / "half" / "1")
    with serving(tmp_path, engine="openvino", max_num_load_retries=0) as (server, flags):
        shutil.copytree(openvino / "lite" / "1", tmp_path / "half.part")
        weights = tmp_path / "half.part" / "assets.extra" / "openvino" / "0.bin"
        weights.write_bytes(weights.read_bytes()[:-1])
        (tmp_path / "half.part").rename(tmp_path / "half" / "2")
        server._store.look()
        until(lambda: "0.bin cannot be used: it was cut or altered" in get(flags, "/v1/models/half/versions/2")[1])
        x = seeded((1, 6, 6, 3))
        assert call(flags.port, request(image=x), output="scores") == pytest.approx(openvino_models.answers(x))


def test_each_engine_says_what_it_is(openvino: Path, models: Path, tmp_path: Path,
                                    caplog: pytest.LogCaptureFixture) -> None:
    """In the log, in the list of models, in the metrics and in timings; not in the original's own answers."""
    caplog.set_level("INFO")
    paths = {"tensorflow": small_classifier.write(tmp_path / "classifier" / "1").parent,
             "litert": models / "lite", "openvino": openvino / "lite"}
    (tmp_path / "models.config").write_text("model_config_list {" + "".join(
        f'config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" }} '
        for name, path in paths.items()) + "}")
    (tmp_path / "monitoring.config").write_text("prometheus_config { enable: true }")
    flags = Flags(model_config_file=str(tmp_path / "models.config"), port=free_port(), rest_api_port=free_port(),
                  monitoring_config_file=str(tmp_path / "monitoring.config"), enable_batching=True,
                  engines_file=engines_file(tmp_path, '[models]\nlitert = "litert"\nopenvino = "openvino"\n'))
    server = start(flags)
    try:
        listed = json.loads(get(flags, "/models")[1])["models"]
        assert {one["name"]: one["versions"] for one in listed} == {
            name: [{"version": 1, "state": "AVAILABLE", "engine": name}] for name in paths}
        metrics = get(flags, "/monitoring/prometheus/metrics")[1]
        for name, path in paths.items():
            assert f'embedded_serving_engine{{engine="{name}",model_name="{name}",version="1"}} 1' in metrics
            assert any(text.startswith(f"version 1 of model {name} is loaded from {path}/1, in ")
                       and text.endswith(f" s, and run by {name}") for text in caplog.messages)
            size = (1, 12, 12, 8) if name == "tensorflow" else (1, 6, 6, 3)
            for kind, port in ((RestClient, flags.rest_api_port), (GrpcClient, flags.port)):
                with kind(f"127.0.0.1:{port}", name, headers={REQUEST_HEADER: "1"}) as client:
                    client.predict({"image": seeded(size)})
                    assert tuple(client.server_timing()) == STAGES
            body = json.dumps({"instances": seeded(size).tolist()}).encode()
            asked = urllib.request.Request(f"http://127.0.0.1:{flags.rest_api_port}/v1/models/{name}:predict", body,
                                           {REQUEST_HEADER: "1"})
            with urllib.request.urlopen(asked, timeout=60) as answer:
                assert answer.headers[ANSWER_HEADER].endswith(f", engine;desc={name}")
            for part in ("", "/metadata"):
                assert "engine" not in get(flags, f"/v1/models/{name}{part}")[1]
    finally:
        server.stop()
