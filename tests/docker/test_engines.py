"""LiteRT and OpenVINO in a container: started by tfserving.sh, measured by benchmark, within the container's CPUs."""
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import small_classifier
from containers import IMAGE, changed, docker, engine_of, there
from running_server import call, request
from tfserving_runs import SCRIPT, Run

ROOT = SCRIPT.parent
ENGINES = ("litert", "openvino")
COMPARE = ["-m", "benchmark", "compare", "--model", "small", "--protocol", "rest,grpc", "--batch", "2", "--repeat", "8",
           "--processes", "1", "--json", "-"]

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models: small/original, and small/litert and small/openvino as `optimize --engine` makes them."""
    root = tmp_path_factory.mktemp("models")
    small_classifier.write(root / "small/original/1")
    for engine in ENGINES:
        subprocess.run([sys.executable, "-m", "export", "optimize", str(root / "small/original"), "--to",
                        str(root / "small" / engine), "--engine", engine, "--unmeasured", "--batch", "3"],
                       cwd=ROOT, capture_output=True, check=True)
    return root


def compared(exported: Path, *targets: str, image: str = IMAGE) -> Any:
    return subprocess.run([sys.executable, *COMPARE, "--models", str(exported), *targets], cwd=ROOT, check=False,
                          env=os.environ | {"IMAGE": image}, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(("engine", "flag"), [
    ("litert", "--engine=litert"), ("litert", "--prefer_tflite_model"), ("openvino", "--engine=openvino")])
def test_the_flag_after_the_dashes_chooses_the_engine(exported: Path, host: Run, engine: str, flag: str) -> None:
    hosted = host(engine, "--", flag, MODELS=str(exported), MODEL="small")
    output = hosted.await_text("Ctrl-C stops it")
    assert f"backend: container (a Docker engine answers and has {IMAGE})" in output
    assert f"ready: small, variant {engine}, version 1, run by {engine}\n" in output
    assert engine_of(hosted.rest_port) == engine

    images = small_classifier.images(3)
    expected = small_classifier.scores(exported / "small/original/1", images)
    answer = requests.post(f"http://127.0.0.1:{hosted.rest_port}/v1/models/small:predict",
                           json={"instances": images.tolist()}, timeout=60)
    np.testing.assert_allclose(answer.json()["predictions"], expected, atol=1e-5)
    answer = call(hosted.port, request("small", image=images), output="scores")
    np.testing.assert_allclose(answer, expected, atol=1e-5)
    assert hosted.stop(signal.SIGTERM) == 0
    assert there(f"tfserving-small-{engine}") == ""


def test_without_the_flag_tensorflow_runs_the_same_version(exported: Path, host: Run) -> None:
    hosted = host("openvino", MODELS=str(exported), MODEL="small")
    assert "ready: small, variant openvino, version 1, run by tensorflow\n" in hosted.await_text("Ctrl-C stops it")
    assert engine_of(hosted.rest_port) == "tensorflow"


def test_engines_in_containers_are_compared_with_the_embedded_server(exported: Path) -> None:
    names = [f"container:{engine}@{engine}" for engine in ENGINES]
    done = compared(exported, "original", *names)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert {(each["candidate"], each["protocol"]) for each in result["comparisons"]} >= {
        (name, protocol) for name in names for protocol in ("rest", "grpc")}
    for name, engine in zip(names, ENGINES, strict=True):
        assert result["targets"][name]["engine"] == engine
        # A server that fell back to TensorFlow would take as much memory as the one that runs the original.
        assert 0 < result["targets"][name]["resident_bytes"] < result["targets"]["original"]["resident_bytes"] / 2
        assert there(f"tfserving-small-{engine}") == ""


def test_an_image_that_ignores_the_flag_is_not_measured_under_the_engines_name(exported: Path) -> None:
    """As TensorFlow Serving's image ignores --engine."""
    entry = "/usr/bin/tf_serving_entrypoint.sh"
    with changed("tfserving-embedded:deaf", f"""grep -q ' "$@"$' {entry}; sed -i 's/ "$@"$//' {entry}""") as image:
        done = compared(exported, "openvino@openvino", "container:openvino@openvino", image=image)
    assert done.returncode == 1
    assert ("the server of container:openvino@openvino runs the model by tensorflow, not by openvino"
            in done.stderr.splitlines()[-1])
    assert done.stdout == ""
    assert there("tfserving-small-openvino") == ""


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_has_a_thread_for_each_cpu_of_the_container(exported: Path, engine: str) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("a container cannot have more CPUs than this machine, which has one")
    code = f"""
import os
from pathlib import Path
from serving.config import parse_flags
from serving.engines.choice import Engines
from serving.memory import MemoryLimit
engines = Engines(parse_flags(["--engine={engine}"]), MemoryLimit(-1))
before = len(os.listdir("/proc/self/task"))
model = engines.load("small", 1, Path("/models/small/1"))
model.try_out()
print(len(os.listdir("/proc/self/task")) - before)
"""

    def threads(cpus: str) -> int:
        return int(docker("run", "--rm", f"--cpus={cpus}", "--env=PYTHONPATH=/srv/packages", "--entrypoint=python3",
                          f"--volume={exported}/small/{engine}:/models/small:ro", IMAGE, "-c", code))

    # Half a CPU more is a thread more. An engine has threads besides those that compute, always as many.
    assert threads("1.5") == threads("1") + 1


@pytest.fixture(scope="module")
def bare() -> Any:
    """An image without the packages of the engines."""
    with changed("tfserving-embedded:bare", "rm -r /srv/packages/{ai_edge_litert,openvino}") as image:
        yield image


@pytest.mark.parametrize(("engine", "package"), [("litert", "ai-edge-litert"), ("openvino", "openvino")])
def test_an_image_without_the_engine_says_what_to_install_and_ends(exported: Path, host: Run, bare: str, engine: str,
                                                                  package: str) -> None:
    line = (f"error: Failed to start server. Error: FAILED_PRECONDITION: --engine={engine}: the package {package} is "
            f"not installed; install it with: pip install -e '.[{engine}]'")
    hosted = host(engine, "--", f"--engine={engine}", MODELS=str(exported), MODEL="small", IMAGE=bare)
    assert hosted.process.wait(60) == 1
    assert [each for each in hosted.log.read_text().splitlines() if each.startswith("error: ")] == [
        line, "error: the server (container) ended before the model answered, with status 255; its reason is above"]
    assert there(f"tfserving-small-{engine}") == ""

    done = compared(exported, f"{engine}@{engine}", f"container:{engine}@{engine}", image=bare)
    assert done.returncode == 1
    # The same words are on standard output, as the original has them; the last of the two may be either.
    line = line.removeprefix("error: ").replace("--engine=litert", "--prefer_tflite_model")
    assert done.stderr.splitlines()[-1].endswith(line)
