"""tfserving.sh and docker-compose.yml with a real Docker engine and a locally built image (build_image.sh)."""
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import half_model
import pytest
import requests

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "tfserving-embedded:test"

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="session", autouse=True)
def image() -> None:
    subprocess.run([str(Path(__file__).with_name("build_image.sh")), IMAGE], check=True)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    half_model.save(root / "half" / "original" / "1", offset=2.0)
    half_model.save(root / "half" / "optimized" / "1", offset=3.0)
    return root


def answer(rest_port: int) -> list[float]:
    reply = requests.post(f"http://127.0.0.1:{rest_port}/v1/models/half:predict", json={"instances": [1.0, 2.0]},
                          timeout=60)
    return reply.json()["predictions"]


@pytest.fixture
def hosted(models: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    log = tmp_path / "log"
    environment = os.environ | {
        "MODELS": str(models), "MODEL": "half", "IMAGE": IMAGE, "PORT": "18500", "REST_PORT": "18501"}
    with log.open("w") as out:
        process = subprocess.Popen([str(ROOT / "tfserving.sh"), "optimized"], env=environment, stdout=out, stderr=out,
                                   stdin=subprocess.DEVNULL)
    yield process, log
    if process.poll() is None:
        process.terminate()
        process.wait(60)


def test_the_container_is_chosen_and_is_removed_after_a_stop(hosted: tuple[subprocess.Popen[bytes], Path]) -> None:
    process, log = hosted
    deadline = time.monotonic() + 120
    while "Ctrl-C stops it" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    assert f"backend: container (a Docker engine answers and has {IMAGE})" in log.read_text()
    assert answer(18501) == [3.5, 4.0]
    process.terminate()
    assert process.wait(60) == 0
    assert docker("ps", "-aq", "--filter", "name=tfserving-half-optimized") == ""


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
    assert docker("ps", "-aq", "--filter", "name=tfserving-half-original") == ""


def test_a_missing_image_is_not_pulled_automatically(models: Path) -> None:
    done = subprocess.run(
        [str(ROOT / "tfserving.sh"), "--backend=container"], capture_output=True, text=True, timeout=60, check=False,
        stdin=subprocess.DEVNULL, env=os.environ | {"MODELS": str(models), "MODEL": "half", "IMAGE": "no/such:image"})
    assert done.returncode == 2
    assert done.stderr == "error: the image is not here; get it with: docker pull no/such:image\n"


def test_compose_runs_original_and_optimized_side_by_side(models: Path, tmp_path: Path) -> None:
    # Compose mounts the models/ directory beside its file, as in a checkout.
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    shutil.copytree(models, tmp_path / "models")
    environment = os.environ | {"MODEL": "half", "IMAGE": IMAGE, "PORT": "18600", "REST_PORT": "18601",
                                "OPTIMIZED_PORT": "18610", "OPTIMIZED_REST_PORT": "18611"}

    def compose(*arguments: str) -> str:
        return subprocess.run(["docker-compose", *arguments], cwd=tmp_path, env=environment, capture_output=True,
                              text=True, check=True).stdout

    compose("up", "-d")
    try:
        deadline = time.monotonic() + 120
        while compose("ps").count("(healthy)") < 2:
            assert time.monotonic() < deadline, compose("ps") + compose("logs")
            time.sleep(0.5)
        assert answer(18601) == [2.5, 3.0]
        assert answer(18611) == [3.5, 4.0]
    finally:
        compose("down")
