"""Which engine runs a version, in a server of its own: unchanged clients, and no TensorFlow where none is needed."""
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_classifier
import tflite_models
from graph_session import seeded
from running_server import command, free_port, listens
from waiting import until

import tensorflow_alone
from serving.config import Flags
from serving.engines import process
from serving.engines.choice import Engines, cpus
from serving.errors import Code, ServingError
from serving.memory import MemoryLimit

ROOT = Path(__file__).resolve().parents[3]


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


def test_a_version_of_tflite_alone_is_served_without_tensorflow(models: Path) -> None:
    port = free_port()
    words = command(models, "lite", f"--port={free_port()}", f"--rest_api_port={port}", "--prefer_tflite_model",
                    "--num_tflite_pools=2", "--max_num_load_retries=0")
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        try:
            until(lambda: process.poll() is not None or listens(port), 90)
            x = seeded((3, 6, 6, 3), 4)
            np.testing.assert_allclose(predicted(port, x), tflite_models.answers(x), atol=1e-6)
            assert "libtensorflow" not in libraries(process.pid)
            assert "litert" in libraries(process.pid)
        finally:
            process.terminate()
            process.communicate(timeout=60)
    assert process.returncode == 0


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


def test_without_the_package_the_flag_is_refused_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ai_edge_litert" else real(name))
    with pytest.raises(ServingError, match=r"--prefer_tflite_model: the package ai_edge_litert is not installed; "
                                           r"install it with: pip install -e '\.\[litert\]'") as refused:
        Engines(Flags(prefer_tflite_model=True), MemoryLimit(-1))
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


def test_threads_are_counted_within_what_the_process_may_use() -> None:
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); " \
           "from serving.engines.choice import cpus; print(cpus())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
    assert cpus() == len(os.sched_getaffinity(0))
