"""tfserving.sh and docker-compose.yml with a real Docker engine and a locally built image (build_image.sh)."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import engine_versions
import numpy as np
import pytest
import requests
import tiny_saved_model
from containers import IMAGE, engine_of, there
from running_server import free_port
from tfserving_runs import SCRIPT, Run

ROOT = SCRIPT.parent

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]


Compose = Callable[..., tuple[int, int]]


def answer(rest_port: int, model: str = "half", instances: Any = (1.0, 2.0)) -> Any:
    reply = requests.post(f"http://127.0.0.1:{rest_port}/v1/models/{model}:predict", json={"instances": instances},
                          timeout=60)
    return reply.json()["predictions"]


def test_the_container_is_chosen_and_is_removed_after_a_stop(host: Run) -> None:
    hosted = host("optimized")
    assert f"backend: container (a Docker engine answers and has {IMAGE})" in hosted.await_text("Ctrl-C stops it")
    assert answer(hosted.rest_port) == [3.5, 4.0]
    assert hosted.stop(signal.SIGTERM) == 0
    assert there("tfserving-half-optimized") == ""


def test_a_container_is_compared_with_the_embedded_server(models: Path) -> None:
    # The same variant on both servers: half_model's two variants give different answers.
    done = subprocess.run(
        [sys.executable, "-m", "benchmark", "compare", "original", "container:original", "--model", "half", "--models",
         str(models), "--protocol", "rest,grpc", "--batch", "2", "--repeat", "8", "--processes", "1", "--json", "-"],
        env=os.environ | {"IMAGE": IMAGE}, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert {c["protocol"] for c in result["comparisons"] if c["candidate"] == "container:original"} == {"rest", "grpc"}
    # The memory of the server in the container (the same program as the embedded server), not of the docker client.
    in_container, embedded = (result["targets"][name]["resident_bytes"] for name in ("container:original", "original"))
    assert in_container > embedded / 2
    assert there("tfserving-half-original") == ""


def test_a_production_root_is_hosted_by_the_container_and_takes_what_is_promoted(
        models: Path, host: Run, tmp_path: Path) -> None:
    root = tmp_path / "production"
    hosted = host("production", PRODUCTION=str(root))
    output = hosted.await_text("Ctrl-C stops it")
    assert "backend: container" in output
    for variant, answers in (("original", [2.5, 3.0]), ("optimized", [3.5, 4.0])):
        # The variants answer otherwise on purpose.
        done = subprocess.run(
            [sys.executable, "-m", "serving", "promote", "half", variant, "--models", str(models), "--root", str(root),
             "--rest", f"http://127.0.0.1:{hosted.rest_port}", "--grpc", f"127.0.0.1:{hosted.port}", "--bake", "2s",
             "--gate-seconds", "3", "--force", "--reason", "another offset"],
            cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        reply = requests.post(f"http://127.0.0.1:{hosted.rest_port}/v1/models/half/labels/stable:predict",
                              json={"instances": [1.0, 2.0]}, timeout=60)
        assert reply.json()["predictions"] == answers
    assert hosted.stop(signal.SIGTERM) == 0


def test_a_missing_image_is_not_pulled_automatically(models: Path) -> None:
    done = subprocess.run(
        [str(SCRIPT), "--backend=container"], capture_output=True, text=True, timeout=60, check=False,
        stdin=subprocess.DEVNULL, env=os.environ | {"MODELS": str(models), "MODEL": "half", "IMAGE": "no/such:image"})
    assert done.returncode == 2
    assert done.stderr == "error: the image is not here; get it with: docker pull no/such:image\n"


@pytest.fixture
def composed(tmp_path: Path) -> Iterator[Compose]:
    """Starts docker-compose.yml with a folder of models and variables; returns the REST ports of original and optimized
    as soon as both are healthy."""
    # Compose mounts the models/ directory beside its file, as in a checkout.
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    ports = {name: free_port() for name in ("PORT", "REST_PORT", "OPTIMIZED_PORT", "OPTIMIZED_REST_PORT")}
    environment = os.environ | {"IMAGE": IMAGE} | {name: str(port) for name, port in ports.items()}

    def compose(*arguments: str) -> str:
        return subprocess.run(["docker-compose", *arguments], cwd=tmp_path, env=environment, capture_output=True,
                              text=True, check=True).stdout

    def start(models: Path, **variables: str) -> tuple[int, int]:
        shutil.copytree(models, tmp_path / "models")
        environment.update(variables)
        compose("up", "-d")
        deadline = time.monotonic() + 120
        while compose("ps").count("(healthy)") < 2:
            assert time.monotonic() < deadline, compose("ps") + compose("logs")
            time.sleep(0.5)
        return ports["REST_PORT"], ports["OPTIMIZED_REST_PORT"]

    yield start
    compose("down")


def test_compose_runs_original_and_optimized_side_by_side(models: Path, composed: Compose) -> None:
    original, optimized = composed(models, MODEL="half")
    assert answer(original) == [2.5, 3.0]
    assert answer(optimized) == [3.5, 4.0]


def test_compose_gives_further_flags_to_both_servers(tmp_path_factory: pytest.TempPathFactory,
                                                    composed: Compose) -> None:
    models = tmp_path_factory.mktemp("models")
    tiny_saved_model.write_tiny_saved_model(models / "tiny/original/1")
    engine_versions.litert(models / "tiny/optimized/1", factor=2.0)  # TensorFlow would answer as the original does
    original, optimized = composed(models, MODEL="tiny", SERVER_FLAGS="--engine=litert --rest_api_num_threads=2")
    assert engine_of(original) == "tensorflow"  # it has no files for another
    assert engine_of(optimized) == "litert"
    x = [[1.0, 2.0, 3.0, 4.0]]
    expected = np.array(answer(original, "tiny", x)) * 2
    np.testing.assert_allclose(answer(optimized, "tiny", x), expected, rtol=1e-5)
